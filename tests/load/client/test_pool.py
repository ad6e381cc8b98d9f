"""Client processes that stay from run to run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from orchestrator.load.arrivals import Batch, Closed, Open
from orchestrator.load.client.pool import ClientPool
from orchestrator.load.driver import LoadProgress, run
from tests.load.scripted import Script, job
from tests.support.children import running
from tests.support.scripted_server import serve

SHORT: list[Script] = [{"tokens": 3, "gap_s": 0.001}] * 8
LONG: list[Script] = [{"tokens": 5000, "gap_s": 0.01}] * 2


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve() as port:
        yield port


@pytest.fixture
def kept() -> Iterator[ClientPool]:
    with ClientPool() as clients:
        yield clients
    assert pids() == []


def pids() -> list[int]:
    return sorted(process.pid for process in running("orchestrator.load.client.process"))


def test_runs_of_every_kind_follow_one_another_on_the_same_processes(port: int, kept: ClientPool) -> None:
    seen = set()
    for schedule in (Closed(2), Batch(4), Open(np.linspace(0, 0.02, 8)), Closed(3)):
        result = run(job(port, SHORT, schedule, processes=2), clients=kept)
        assert [record.outcome for record in result.records] == ["ok"] * 8
        assert [record.output_tokens for record in result.records] == [3] * 8
        assert 0 < result.cpu_s < 1
        seen.add(tuple(pids()))
    assert len(seen) == 1


def test_a_run_leaves_no_file_open_in_a_process_that_stays(port: int, kept: ClientPool) -> None:
    def run_once() -> int:
        run(job(port, SHORT, Batch(4), processes=1), clients=kept)
        (pid,) = pids()
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    assert run_once() == run_once() == run_once()


def test_processes_started_ahead_are_those_that_run(port: int, kept: ClientPool) -> None:
    kept.start(2)
    before = pids()
    run(job(port, SHORT, Closed(2), processes=2), clients=kept)
    assert len(before) == 2
    assert pids() == before


def test_an_idle_process_that_died_is_replaced(port: int, kept: ClientPool) -> None:
    kept.start(2)
    dead = psutil.Process(pids()[0])
    dead.send_signal(signal.SIGKILL)
    dead.wait(5)
    result = run(job(port, SHORT, Closed(2), processes=2), clients=kept)
    assert {record.outcome for record in result.records} == {"ok"}
    assert dead.pid not in pids()


def test_a_run_that_was_stopped_does_not_speak_into_the_next(port: int, kept: ClientPool) -> None:
    stopped = run(job(port, LONG, Closed(2), processes=1), should_stop=lambda: True, clients=kept)
    assert {record.outcome for record in stopped.records} == {"cancelled"}
    assert pids() == []
    result = run(job(port, SHORT, Closed(2), processes=1), clients=kept)
    assert {record.outcome for record in result.records} == {"ok"}


def test_a_run_that_fails_keeps_none_of_its_processes(port: int, kept: ClientPool) -> None:
    def fail(progress: LoadProgress) -> None:
        raise RuntimeError("the caller's own")

    kept.start(2)
    with pytest.raises(RuntimeError, match="the caller's own"):
        run(job(port, LONG, Closed(2), processes=1), on_progress=fail, clients=kept)
    assert len(pids()) == 1, "the one that was not used"
