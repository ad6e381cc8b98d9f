"""A Ray to run on: a local one that ends with the sweep, or a cluster that stays."""

from __future__ import annotations

import math
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import ray

from orchestrator.cluster import reaper
from orchestrator.config.schema import RayConfig
from orchestrator.errors import ConfigError

OBJECT_STORE_BYTES = 256 * 2**20  # only plans and outcomes travel through Ray; measurements go to disk
DAEMONS_END_S = 10.0
ANSWERS_S = 10.0


@dataclass(frozen=True)
class Session:
    """``dashboard`` is None where Ray has none, ``head`` the HOST:PORT of the head's own service."""

    dashboard: str | None
    local: bool
    head: str


@contextmanager
def ray_session(
    config: RayConfig, cpus: float, declared: Mapping[str, float] | None = None
) -> Iterator[Session]:
    """Connects to ``config.address`` or starts a local Ray with at least ``cpus`` CPUs; ends it after.

    ``declared``: further resources that a local Ray is told it has (GPU, accelerator types), whatever this
    machine has; None leaves the GPUs to be found. Raises ConfigError when the cluster does not answer.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "orchestrator"}
    _check_answers(config.address)
    others = dict(declared or {})
    gpus = others.pop("GPU", None)
    try:
        if config.address is not None:
            context = ray.init(address=config.address, **quiet)
        else:
            context = ray.init(
                address="local",  # None would join a cluster named by RAY_ADDRESS
                num_cpus=max(os.cpu_count() or 1, math.ceil(cpus)),
                num_gpus=None if gpus is None else int(gpus),
                resources=others or None,
                include_dashboard=config.dashboard,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        where = f"ray.address={config.address}" if config.address else "a local Ray"
        raise ConfigError(f"{where}: does not answer or does not start ({_first_line(error)})") from error
    daemons = psutil.Process().children(recursive=True) if config.address is None else []
    url = context.dashboard_url or None
    session = Session(f"http://{url}" if url else None, config.address is None, _head())
    try:
        with _reaped_if_killed(daemons):
            yield session
    finally:
        _shut_down(daemons)


def _check_answers(address: str | None) -> None:
    """Raises ConfigError for a ``HOST:PORT`` where nothing listens: Ray itself would try for minutes."""
    found = re.fullmatch(r"(?:ray://)?([^/:]+):(\d+)", address or "")
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=ANSWERS_S).close()
    except OSError as error:
        raise ConfigError(
            f"ray.address={address}: nothing answers there ({error.strerror or error})"
        ) from error


def _shut_down(daemons: list[psutil.Process]) -> None:
    """Ray returns before its daemons are gone; whoever looks after us must find nothing."""
    family = list(daemons)
    for process in daemons:
        with suppress(psutil.Error):
            family += process.children(recursive=True)
    ray.shutdown()
    _, left = psutil.wait_procs(family, timeout=DAEMONS_END_S)
    for process in left:
        with suppress(psutil.Error):
            process.kill()


@contextmanager
def _reaped_if_killed(daemons: list[psutil.Process]) -> Iterator[None]:
    """Meanwhile a process of its own waits to end a local Ray's daemons should this one be killed."""
    command = [sys.executable, "-I", "-S", reaper.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdin is not None
        known = ((daemon.pid, reaper.start_time(daemon.pid)) for daemon in daemons)
        lines = (f"{pid} {started}\n" for pid, started in known if started is not None)
        process.stdin.write("".join(lines))
        process.stdin.flush()
        try:
            yield
        finally:
            process.stdin.write("done\n")
            process.stdin.close()


def _head() -> str:
    return str(ray.get_runtime_context().gcs_address)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
