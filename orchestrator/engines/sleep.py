"""An engine of ours put to sleep and woken: `adapter.Sleeping` has the requests, this how they may end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.engines import failures
from orchestrator.engines.adapter import Sleeping
from orchestrator.engines.http import ask
from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from orchestrator.engines.server import Server

# The first sleep pins host memory for the weights: 14 to 20 s for a 7B model on an H100, and it grows with
# them. Later ones took 0.3 s (SGLang: 9 s), waking 0.5 s (SGLang: 3 s).
FIRST_SLEEP_S, SLEEP_S, WAKE_S = 120.0, 60.0, 60.0
POLL_S = 0.1
ENDED_S = 3.0  # a connection breaks some moments before its process has ended


def fall_asleep(server: Server, cancelled: Callable[[], bool] = lambda: False) -> None:
    """Returns when the engine sleeps, by its own word where it has a question for that. Its health is not
    watched from the request on. Raises EngineError: the engine cannot sleep, refused, ended, or did not
    answer in time; what it is then nobody knows, and it should be ended."""
    sleeping = _mode(server)
    if not server.reset_cache():  # a busy SGLang would not refuse, but end
        raise server.error("unsupported", "is busy, or its prefix cache cannot be emptied: not put to sleep")
    server.dormant = True
    _request(server, sleeping.sleep, SLEEP_S if server.sleeps else FIRST_SLEEP_S, cancelled)
    server.sleeps += 1
    if is_asleep(server) is False:
        raise server.error("unsupported", f"answered {sleeping.sleep[1]} and says that it is awake")
    server.asleep = True


def wake(server: Server, cancelled: Callable[[], bool] = lambda: False) -> None:
    """Returns when the engine serves again. Raises EngineError as `fall_asleep`; ``oom_wake`` where somebody
    else has taken the memory that it gave back."""
    sleeping = _mode(server)
    _request(server, sleeping.wake, WAKE_S, cancelled)
    if is_asleep(server) is True:
        raise server.error("crash", f"answered {sleeping.wake[1]} and says that it sleeps")
    server.asleep = server.dormant = False


def is_asleep(server: Server) -> bool | None:
    """Whether it sleeps by its own word; None where it does not say."""
    sleeping = _mode(server)
    if sleeping.asks is None:
        return None
    status, body = ask(server.endpoint, *sleeping.asks)
    return sleeping.is_asleep(body) if status == 200 else None


def _mode(server: Server) -> Sleeping:
    sleeping = server.adapter.sleep
    if sleeping is None or not sleeping.asked_of(server.launch):
        raise EngineError(f"{server.adapter.name}: was not started to sleep (engine.sleep=on)", "unsupported")
    return sleeping


def _request(
    server: Server,
    request: tuple[str, str, bytes | None],
    timeout_s: float,
    cancelled: Callable[[], bool],
) -> None:
    """Returns with a 200. On a thread of its own, so that neither an end of the engine nor of the wish for it
    is waited out."""
    method, path, sent = request
    asked_at = server.log_path.stat().st_size
    answers: list[tuple[int | None, bytes]] = []

    def asks() -> None:
        answers.append(ask(server.endpoint, method, path, timeout_s=timeout_s, sent=sent))

    asking = threading.Thread(target=asks, name="engine-sleep", daemon=True)
    began_s = time.perf_counter()
    asking.start()
    while asking.is_alive() and server.poll() is None:
        asking.join(POLL_S)
        if cancelled():
            raise EngineError(f"cancelled while {path} was asked of the engine", "cancelled")
    status, body = answers[0] if answers else (None, b"")
    if status == 200:
        return
    took_s = time.perf_counter() - began_s
    deadline = time.perf_counter() + ENDED_S
    while took_s < timeout_s and status is None and server.poll() is None and time.perf_counter() < deadline:
        time.sleep(POLL_S)
    said = f"{server.log_since(asked_at)}\n{body.decode(errors='replace')}"
    found = failures.classify(said, serving=True)
    short = found.cause == "oom_serving"
    waking = path == _mode(server).wake[1]
    if short and waking:
        found = failures.Diagnosis("oom_wake", found.line)
    if server.poll() is not None and not (short and waking):
        raise server.failure() or server.error("crash", f"ended at {path}")
    line = f" ({found.line})" if found.line else ""
    if status is not None or short:
        raise server.error(found.cause, f"{path} was answered by {status or 'no word'}{line}")
    raise server.error("hang", f"has not answered {path} for {took_s:.0f} s{line}")
