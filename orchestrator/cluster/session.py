"""A Ray to run on: a local one that ends with the sweep, or a cluster that stays."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray._private import services

from orchestrator import interruption
from orchestrator.cluster import reaper
from orchestrator.cluster.address import head_of
from orchestrator.config.schema import RayConfig
from orchestrator.errors import ConfigError

OBJECT_STORE_BYTES = 256 * 2**20  # only plans and outcomes travel through Ray; measurements go to disk
DAEMONS_END_S = 10.0


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
    """Connects to ``config.address``, as `address.wanted` gives it, or starts a local Ray with at least
    ``cpus`` CPUs; ends it after.

    ``declared``: further resources that a local Ray is told it has (GPU, accelerator types), whatever this
    machine has; None leaves the GPUs to be found. Raises ConfigError when the cluster does not answer.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "orchestrator"}
    others = dict(declared or {})
    gpus = others.pop("GPU", None)
    daemons: list[Daemon] = []
    try:
        if config.address is not None:
            context = ray.init(address=head_of(config.address), **quiet)
        else:
            with interruption.deferred(), _daemons_apart() as daemons:
                context = ray.init(
                    address="local",  # None would join a cluster named by RAY_ADDRESS
                    num_cpus=max(os.cpu_count() or 1, math.ceil(cpus)),
                    num_gpus=None if gpus is None else int(gpus),
                    resources=others or None,
                    include_dashboard=config.dashboard,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _memory=psutil.virtual_memory().total,  # of which Ray would leave a third out
                    **quiet,
                )
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        where = f"ray.address={config.address}" if config.address else "a local Ray"
        raise ConfigError(f"{where}: does not answer or does not start ({_first_line(error)})") from error
    finally:
        interruption.retake()
    url = context.dashboard_url or None
    session = Session(f"http://{url}" if url else None, config.address is None, _head())
    try:
        with _reaped_if_killed(daemons):
            yield session
    finally:
        with interruption.deferred():
            _shut_down(daemons)


class Daemon(subprocess.Popen[bytes]):
    """One of a local Ray's, in a session of its own: a signal to our process group, which is what Ctrl-C and
    ``timeout`` send, must leave it to the engines' orderly end. It has nothing to tidy, so Ray's request to
    end kills it: Ray would wait a second for each."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"start_new_session": True})

    def terminate(self) -> None:
        self.kill()


@contextmanager
def _daemons_apart() -> Iterator[list[Daemon]]:
    """What Ray starts meanwhile. Ray has no option for it; its own class is replaced as of Ray 2.60."""
    started: list[Daemon] = []

    def start(*arguments: Any, **options: Any) -> Daemon:
        started.append(Daemon(*arguments, **options))
        return started[-1]

    theirs = services.ConsolePopen
    services.ConsolePopen = start
    try:
        yield started
    finally:
        services.ConsolePopen = theirs


def _shut_down(daemons: list[Daemon]) -> None:
    """Ray returns before its daemons' children are gone; whoever looks after us must find nothing. Guards
    end what engines a hurried end has left to the workers that are killed here."""
    known = [psutil.Process(daemon.pid) for daemon in daemons if daemon.poll() is None]
    workers, others = [], []
    for process in known:
        with suppress(psutil.Error):
            workers += process.children()
            others += process.children(recursive=True)
    ray.shutdown()
    for process in workers:
        with suppress(psutil.Error):
            process.kill()
    _, left = psutil.wait_procs([*known, *others], timeout=DAEMONS_END_S)
    for process in left:
        with suppress(psutil.Error):
            process.kill()


@contextmanager
def _reaped_if_killed(daemons: list[Daemon]) -> Iterator[None]:
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
