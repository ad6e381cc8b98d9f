"""A Ray to run on: a local one that ends with the sweep, or a cluster that stays."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import ray

from orchestrator import interruption
from orchestrator.cluster import local_ray, reaper
from orchestrator.cluster.address import head_of
from orchestrator.config.schema import RayConfig
from orchestrator.errors import ConfigError

OBJECT_STORE_BYTES = 256 * 2**20  # only plans and outcomes travel through Ray; measurements go to disk


@dataclass(frozen=True)
class Session:
    """A Ray that is connected to until it is ``over``. ``head`` is the head's own HOST:PORT."""

    _url: str | None
    config: RayConfig
    over: threading.Event
    head: str

    @property
    def local(self) -> bool:
        return self.config.address is None

    def dashboard(self) -> str | None:
        """Waits for the dashboard of a local Ray, which nothing else does; None where there is none."""
        url = self._url
        if self.local:
            url = local_ray.dashboard_url(self.over.is_set) if self.config.dashboard else None
        return f"http://{url}" if url else None


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
    daemons: list[local_ray.Daemon] = []
    over = threading.Event()
    try:
        try:
            if config.address is not None:
                context = ray.init(address=head_of(config.address), **quiet)
            else:
                with interruption.deferred(), local_ray.starting() as daemons:
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
            said = _first_line(error)
            raise ConfigError(f"{where}: does not answer or does not start ({said})") from error
        finally:
            interruption.retake()
        with _reaped_if_killed(daemons):
            yield Session(context.dashboard_url or None, config, over, _head())
    finally:  # also of a Ray that was interrupted while it started
        with interruption.deferred():
            over.set()
            local_ray.end(daemons, ray.shutdown)


@contextmanager
def _reaped_if_killed(daemons: list[local_ray.Daemon]) -> Iterator[None]:
    """Meanwhile a process of its own waits to end a local Ray's daemons should this one be killed, and the
    raylet's agents, which notice its end only after a minute."""
    pids = [pid for daemon in daemons for pid in (daemon.pid, *_below(daemon.pid))]
    command = [sys.executable, "-I", "-S", reaper.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdin is not None
        known = ((pid, reaper.start_time(pid)) for pid in pids)
        lines = (f"{pid} {started}\n" for pid, started in known if started is not None)
        process.stdin.write("".join(lines))
        process.stdin.flush()
        try:
            yield
        finally:
            with suppress(OSError):  # somebody has killed it
                process.stdin.write("done\n")
                process.stdin.close()


def _below(pid: int) -> list[int]:
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _head() -> str:
    return str(ray.get_runtime_context().gcs_address)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
