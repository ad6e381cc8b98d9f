"""An engine that sleeps and wakes (`orchestrator.engines.sleep`), with the simulated one as a process."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.engines import server as lifecycle
from orchestrator.engines import sleep
from orchestrator.engines.http import ask
from orchestrator.engines.launch import build_launch
from orchestrator.engines.server import Server, running
from orchestrator.engines.simulated import ADAPTER
from orchestrator.engines.simulated.latency import drifted
from orchestrator.engines.simulated.settings import complaint
from orchestrator.errors import EngineError
from tests.engines.fake import tree
from tests.engines.test_simulated_server import opened, posted
from tests.plan.test_simulated import settings_of
from tests.support.compose import config_of

pytestmark = pytest.mark.slow

AT_ONCE = ("speed=100", "start-seconds=0", "first-sleep-seconds=40", "sleep-seconds=10", "wake-seconds=10")


@contextmanager
def started(folder: Path, *args: str, mode: str = "on") -> Iterator[Server]:
    typed = [f"++engine.args.{one}" for one in (*AT_ONCE, *args)]
    config = config_of("engine=simulated", "model=r1-7b", f"engine.sleep={mode}", *typed)
    launch = build_launch(config, hardware="gpu", tensor_parallel_size=1)
    with running(ADAPTER, launch, folder / "engine.log", start_timeout_s=20, stop_timeout_s=5) as live:
        yield live


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with started(tmp_path) as live:
        yield live


def took_s(begin: float) -> float:
    return time.perf_counter() - begin


def told(server: Server) -> tuple[bool, bool | None]:
    """Whether it sleeps, by its last answer and by its own word now."""
    return server.asleep, sleep.is_asleep(server)


def test_it_sleeps_refuses_wakes_and_serves_as_before(server: Server) -> None:
    before = posted(server)
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        server.sleep()
        times.append(took_s(begin))
        assert told(server) == (True, True)
        assert posted(server)[0] == 503
        begin = time.perf_counter()
        server.wake()
        times.append(took_s(begin))
        assert told(server) == (False, False)
        assert posted(server) == before
    assert [round(one, 1) for one in times] == [pytest.approx(want, abs=0.2) for want in (0.4, 0.1, 0.1, 0.1)]
    assert times[0] > 0.4
    assert server.sleeps == 2
    assert server.failure() is None


def test_its_prefix_cache_is_empty_when_it_wakes(tmp_path: Path) -> None:
    with started(tmp_path, "enable-prefix-caching=true") as server:
        long = [{"role": "user", "content": "word " * 200}]

        def cached() -> int:
            usage = posted(server, messages=long, max_tokens=4)[1]["usage"]
            return int(usage["prompt_tokens_details"]["cached_tokens"])

        assert cached() == 0
        assert cached() > 0
        server.sleep()
        server.wake()
        assert cached() == 0


def test_the_routes_are_there_only_with_the_mode_and_answer_only_its_key(
    server: Server, tmp_path: Path
) -> None:
    for method, path in (("POST", "/sleep?level=1"), ("POST", "/wake_up"), ("GET", "/is_sleeping")):
        assert ask(server.endpoint, method, path, key="another")[0] == 401
    assert json.loads(ask(server.endpoint, "GET", "/is_sleeping")[1]) == {"is_sleeping": False}
    (tmp_path / "off").mkdir()
    with started(tmp_path / "off", mode="off") as other:
        assert ask(other.endpoint, "GET", "/is_sleeping")[0] == 404
        with pytest.raises(EngineError, match=r"was not started to sleep \(engine\.sleep=on\)"):
            other.sleep()
        assert not other.dormant


def test_one_whose_memory_is_gone_says_so(tmp_path: Path) -> None:
    with started(tmp_path, "wake-fails=true") as server:
        server.sleep()
        with pytest.raises(EngineError, match="/wake_up was answered by 500") as caught:
            server.wake()
        assert caught.value.cause == "oom_wake"
        assert "CUDA Error: out of memory" in str(caught.value)
        assert server.asleep


def test_one_that_dies_asleep_is_noticed_at_once(tmp_path: Path) -> None:
    with started(tmp_path, "crash-asleep=50") as server:
        server.sleep()
        assert server.failure() is None
        deadline = time.monotonic() + 5
        while (failure := server.failure()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert failure is not None
        assert "crash while asleep" in str(failure)
        with pytest.raises(EngineError, match="crash while asleep"):
            server.wake()


@pytest.mark.parametrize("asleep", [True, False])
def test_only_an_engine_that_is_awake_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asleep: bool
) -> None:
    monkeypatch.setattr(lifecycle, "HEALTH_EVERY_S", 0.1)
    monkeypatch.setattr(lifecycle, "HANG_S", 0.5)
    with started(tmp_path) as server:
        if asleep:
            server.sleep()
        engine = tree(server.pid)[-1]  # below its guards
        os.kill(engine, signal.SIGSTOP)
        try:
            time.sleep(1.5)
            failure = server.failure()
        finally:
            os.kill(engine, signal.SIGCONT)
        assert (failure is None) == asleep
        assert asleep or (failure is not None and failure.cause == "hang")


def test_a_wake_that_is_never_answered_ends_in_time_and_one_that_is_not_wanted_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sleep, "WAKE_S", 0.3)
    with started(tmp_path, "wake-seconds=1000") as server:
        server.sleep()
        with pytest.raises(EngineError, match="has not answered /wake_up for") as caught:
            server.wake()
        assert caught.value.cause == "hang"
        begin = time.perf_counter()
        monkeypatch.setattr(sleep, "WAKE_S", 60.0)
        with pytest.raises(EngineError) as caught:
            server.wake(cancelled=lambda: took_s(begin) > 0.2)
        assert caught.value.cause == "cancelled"
        assert took_s(begin) < 2


def test_requests_that_are_served_keep_it_awake(tmp_path: Path) -> None:
    with started(tmp_path, "speed=1") as server:
        waiting = opened(server, max_tokens=30000, stream=True, ignore_eos=True)
        waiting.getresponse().readline()
        assert ask(server.endpoint, "POST", "/sleep")[0] == 400
        with pytest.raises(EngineError, match="is busy"):
            server.sleep()
        assert told(server) == (False, False)
        waiting.close()


@pytest.mark.parametrize(("at_s", "factor"), [(0.0, 1.0), (25.0, 1.2), (50.0, 1.0), (75.0, 0.8)])
def test_a_machine_drifts_for_all_its_engines_alike(at_s: float, factor: float) -> None:
    settings = settings_of("++engine.args.drift=0.2", "++engine.args.drift-period-s=100")
    assert drifted(settings, 2.0, at_s) == pytest.approx(2.0 * factor)
    assert drifted(settings_of(), 2.0, at_s) == 2.0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"drift": 1.5}, "must be from 0 to 1"),
        ({"drift-period-s": 0}, "must be above 0"),
        ({"wake-seconds": -1}, "must be from 0 up"),
        ({"crash-asleep": 0, "drift": 0, "sleep-seconds": 0}, None),
    ],
)
def test_impossible_values_are_named(args: dict[str, float], said: str | None) -> None:
    found = complaint(args)
    assert found == (None if said is None else (next(iter(args)), said))
