"""How a local Ray's daemons are started: apart from us, and only those that are needed.

Ray has no options for this, so parts of it are replaced while it starts: those of Ray 2.60, where
`Node.start_head_processes` and `Node.start_ray_processes` start them one after another."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from ray._private import ray_constants, services
from ray._private.node import Node
from ray.experimental import internal_kv

END_S = 10.0
DASHBOARD_S = 60.0
DASHBOARD_NICENESS = 10  # it is a looker-on: the load that workers send must not wait for it
POLL_S = 0.2


class Daemon(subprocess.Popen[bytes]):
    """One of a local Ray's, in a session of its own: a signal to our process group, which is what Ctrl-C and
    ``timeout`` send, must leave it to the engines' orderly end. It has nothing to tidy, so Ray's request to
    end kills it: Ray would wait a second for each."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"start_new_session": True})

    def terminate(self) -> None:
        self.kill()

    @property
    def is_raylet(self) -> bool:
        return isinstance(self.args, list) and Path(str(self.args[0])).name == "raylet"


@contextmanager
def starting() -> Iterator[list[Daemon]]:
    """What Ray starts meanwhile. Its dashboard is not waited for (`dashboard_url`); the autoscaler's monitor
    and the one that prints workers' output at the driver are left out."""
    started: list[Daemon] = []

    def start(*arguments: Any, **options: Any) -> Daemon:
        started.append(Daemon(*arguments, **options))
        return started[-1]

    start_api_server = Node.start_api_server

    def start_dashboard(node: Node, *, include_dashboard: bool | None, **options: Any) -> None:
        if not include_dashboard:
            node._webui_url = ""
            return
        with patch.object(internal_kv, "_internal_kv_get", lambda *_, **__: b""):
            start_api_server(node, include_dashboard=include_dashboard, **options)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, started[-1].pid, DASHBOARD_NICENESS)

    with ExitStack() as replaced:
        replaced.enter_context(patch.object(services, "ConsolePopen", start))
        replaced.enter_context(patch.object(Node, "start_api_server", start_dashboard))
        for name in ("start_monitor", "start_log_monitor"):
            replaced.enter_context(patch.object(Node, name, _nothing))
        yield started


def dashboard_url(is_over: Callable[[], bool]) -> str | None:
    """``HOST:PORT`` of the dashboard once it serves; None where it does not in a minute, or ``is_over``."""
    deadline = time.monotonic() + DASHBOARD_S
    while time.monotonic() < deadline and not is_over():
        with suppress(Exception):  # Ray may be ending
            found = internal_kv._internal_kv_get(
                ray_constants.DASHBOARD_ADDRESS, namespace=ray_constants.KV_NAMESPACE_DASHBOARD
            )
            if found:
                return str(found.decode())
        time.sleep(POLL_S)
    return None


def end(daemons: list[Daemon], disconnect: Callable[[], None]) -> None:
    """Ends the daemons and what they have started; nothing of it is left after this. What engines a hurried
    end has left are ended by their guards, once the workers are killed."""
    at_once: list[psutil.Process] = []
    others: list[psutil.Process] = []
    for daemon in daemons:
        with suppress(psutil.Error):
            process = psutil.Process(daemon.pid)
            at_once += process.children(recursive=not daemon.is_raylet)
            others += [process, *process.children(recursive=True)]
    disconnect()
    for process in at_once:
        with suppress(psutil.Error):
            process.kill()
    _, left = psutil.wait_procs(others, timeout=END_S)
    for process in left:
        with suppress(psutil.Error):
            process.kill()


def _nothing(node: Node) -> None:
    """In place of a daemon that is not needed."""
