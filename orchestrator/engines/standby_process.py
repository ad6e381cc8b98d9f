"""An engine's start, most of it done before it is wanted: `standby` seen from the worker."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from orchestrator.engines import standby
from orchestrator.engines.adapter import Adapter, Launch
from orchestrator.engines.server import POLL_S, Server, drawn, running
from orchestrator.errors import EngineError


class Standby:
    """A process that has imported what the engine of ``launch`` needs, and waits to become that engine.

    Its port and key are drawn when it begins. It writes to ``log_path``, which begins with the command that
    runs the engine by hand, as any engine's log does.
    """

    def __init__(self, adapter: Adapter, launch: Launch, log_path: Path, *, stop_timeout_s: float) -> None:
        self._used = self._died = False
        self._ready = threading.Event()
        with ExitStack() as stack:
            own = stack.enter_context(drawn(launch))
            self._wire, theirs = socket.socketpair()
            stack.enter_context(self._wire)
            with theirs:
                self.server = Server(
                    adapter,
                    own,
                    log_path,
                    stop_timeout_s=stop_timeout_s,
                    command=_command(adapter, own, theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                )
            stack.callback(self.server.stop)
            self._stack = stack.pop_all()

    @property
    def alive(self) -> bool:
        return self.server.poll() is None

    def wait(self, timeout_s: float) -> bool:
        """Whether it got ready in time. May be called by several threads, and while it is taken over or
        closed."""
        with suppress(OSError):
            self._wire.settimeout(POLL_S)
            for _ in range(max(1, int(timeout_s / POLL_S))):
                if self._ready.is_set() or not self.alive:
                    break
                with suppress(TimeoutError):
                    if self._wire.recv(64) != b"ready\n":
                        self._died = True  # its guard will have noticed in a moment
                        break
                    self._ready.set()
        return self._ready.is_set() and self.alive

    def go(self) -> None:
        """Lets it become the engine, ready or not."""
        self._used = True
        with suppress(OSError):  # it has died, which `Server.failure` tells
            self._wire.sendall(b"go\n")

    def close(self) -> None:
        """Ends it and what it became; returns when nothing of it is left. The log of one that waited in vain
        goes too; that of one that died says why."""
        in_vain = self.alive and not self._died and not self._used
        self._stack.close()
        if in_vain:
            self.server.log_path.unlink(missing_ok=True)


@contextmanager
def started(
    adapter: Adapter,
    launch: Launch,
    log_path: Path,
    *,
    waiting: Standby | None,
    start_timeout_s: float,
    stop_timeout_s: float,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Server, bool]]:
    """`running`, from a standby where there is one, and whether that became the engine.

    When it does not become ready its log says why, and a plain start follows in the same log. The standby is
    closed in any case.
    """
    with ExitStack() as stack:
        if waiting is not None:
            stack.callback(waiting.close)
            log_path = waiting.server.log_path
            waiting.go()
            try:
                waiting.server.wait_until_ready(start_timeout_s, cancelled)
            except EngineError as error:
                waiting.close()
                if cancelled():
                    raise
                note(log_path, f"the prepared start failed, a plain one follows: {error}")
            else:
                yield waiting.server, True
                return
        plain = running(
            adapter,
            launch,
            log_path,
            start_timeout_s=start_timeout_s,
            stop_timeout_s=stop_timeout_s,
            cancelled=cancelled,
        )
        yield stack.enter_context(plain), False


def note(log_path: Path, said: str) -> None:
    """The first line of ``said`` at the end of an engine's log, as a comment."""
    with log_path.open("a") as log:
        log.write(f"# {said.splitlines()[0]}\n")


def _command(adapter: Adapter, launch: Launch, fd: int) -> list[str]:
    python, how, *words = adapter.command(launch)
    if how not in ("-m", "-c") and not how.endswith(".py"):
        raise EngineError(f"{adapter.name}: {how} is not run by a standby", "unsupported")
    weights = None if launch.weights == "dummy" else launch.model  # dummy: there are none to bring
    task = {
        "modules": adapter.preload,
        "fork": dict(adapter.preload_fork),
        "model": weights,
        "revision": launch.revision,
    }
    return [python, standby.__file__, str(fd), json.dumps(task), how, *words]
