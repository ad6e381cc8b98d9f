"""`driver.run` and how many client processes it takes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest

from orchestrator.errors import MeasurementError
from orchestrator.load.arrivals import Batch, Closed, Open, Schedule
from orchestrator.load.driver import LoadProgress, choose_processes, run
from orchestrator.records import Record
from tests.load.scripted import Script, job
from tests.support.children import running
from tests.support.scripted_server import serve

pytestmark = pytest.mark.slow

VARIED: list[Script] = [{"tokens": 1 + (7 * i) % 12, "gap_s": 0.003, "ttft_s": 0.01} for i in range(60)]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve() as port:
        yield port


def in_flight(records: Sequence[Record]) -> int:
    """The most requests that were in flight at one moment."""
    changes = [(r.sent_s, 1) for r in records if r.sent_s is not None] + [(r.end_s, -1) for r in records]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


SCHEDULES: list[Schedule] = [Closed(7), Batch(8), Open(np.linspace(0, 0.3, 60))]


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["closed", "batch", "open"])
def test_every_request_is_sent_once_and_comes_back_in_order(
    port: int, schedule: Schedule, processes: int
) -> None:
    result = run(job(port, VARIED, schedule, processes=processes))
    assert result.processes == processes
    assert [record.request_id for record in result.records] == [f"request-{i}" for i in range(60)]
    assert [record.outcome for record in result.records] == ["ok"] * 60
    assert [record.output_tokens for record in result.records] == [script["tokens"] for script in VARIED]
    assert all(r.sent_s is not None and r.sent_s >= r.scheduled_s >= result.started_s for r in result.records)


def test_the_servers_counter_agrees_with_the_clients_tokens(port: int) -> None:
    def generated() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            lines = response.read().decode().splitlines()
        return float(
            next(line for line in lines if line.startswith("vllm:generation_tokens_total")).split()[-1]
        )

    before = generated()
    records = run(job(port, VARIED, Closed(5), processes=2)).records
    assert sum(record.output_tokens or 0 for record in records) == generated() - before


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_closed_load_keeps_its_concurrency_over_all_processes(port: int, processes: int) -> None:
    records = run(job(port, VARIED, Closed(7), processes=processes)).records
    assert in_flight(records) == 7
    # Whoever is free takes the next: the order of sending is that of the requests, whatever process sends.
    order = np.argsort([record.scheduled_s for record in records], kind="stable")
    assert np.abs(order - np.arange(60)).max() <= 7


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_no_request_of_a_batch_is_sent_before_the_last_of_the_one_before_has_ended(
    port: int, processes: int
) -> None:
    records = run(job(port, VARIED, Batch(8), processes=processes)).records
    batches = [records[i : i + 8] for i in range(0, 60, 8)]
    for one, following in pairwise(batches):
        last = max(record.end_s for record in one)
        assert all(record.sent_s is not None and record.sent_s >= last for record in following)
        assert {record.scheduled_s for record in following} == {last}


def test_the_arrivals_do_not_depend_on_the_number_of_processes(port: int) -> None:
    times = np.sort(np.random.default_rng(0).random(60)) * 0.4
    for processes in (1, 3):
        result = run(job(port, VARIED, Open(times), processes=processes))
        scheduled = np.array([record.scheduled_s for record in result.records]) - result.started_s
        assert scheduled == pytest.approx(times, abs=1e-9)
        lags = [record.sent_s - record.scheduled_s for record in result.records if record.sent_s is not None]
        assert float(np.median(lags)) < 0.005


def made_connections(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/connections") as response:
        return int(response.read())


@pytest.mark.parametrize("processes", [1, 2])
def test_connections_are_kept_and_used_again(port: int, processes: int) -> None:
    before = made_connections(port)
    run(job(port, VARIED, Closed(6), processes=processes))
    assert made_connections(port) - before == 6 + 1  # the one that asks counts itself


def test_progress_goes_up_to_all_that_was_sent(port: int) -> None:
    seen: list[LoadProgress] = []
    scripts = [{"tokens": 100, "gap_s": 0.01}] * 4
    run(job(port, scripts, Closed(2), processes=2), on_progress=seen.append)
    assert seen[-1] == LoadProgress(
        seen[-1].elapsed_s, sent=4, finished=4, failed=0, in_flight=0, output_tokens=400
    )
    assert [p.output_tokens for p in seen] == sorted(p.output_tokens for p in seen)
    assert any(p.in_flight == 2 and 0 < p.output_tokens < 400 for p in seen)


def test_an_empty_job_is_no_load() -> None:
    assert run(job(1, [], Closed(1))).records == ()


@pytest.mark.parametrize(
    ("rate", "asked", "at_most", "cores", "expected"),
    [
        (None, None, 64, 8, 1),
        (25_600.0, None, 512, 8, 1),
        (90_000.0, None, 512, 8, 3),
        (1e6, None, 512, 8, 7),
        (1e6, None, 512, 2, 1),
        (1e6, None, 2, 8, 2),
        (None, 4, 512, 2, 4),
        (None, 4, 3, 8, 3),
    ],
)
def test_processes_follow_the_expected_rate_and_leave_a_core_to_the_server(
    rate: float | None, asked: int | None, at_most: int, cores: int, expected: int
) -> None:
    assert choose_processes(rate, asked=asked, at_most=at_most, cores=cores) == expected


@pytest.mark.parametrize(
    ("due_at_once", "rate", "cores", "expected"),
    [
        (1, None, 16, 1),
        (16, None, 16, 1),
        (64, None, 16, 4),
        (512, None, 16, 4),
        (512, 3e5, 16, 10),
        (256, None, 3, 2),
    ],
)
def test_requests_that_may_be_due_at_once_are_shared_out(
    due_at_once: int, rate: float | None, cores: int, expected: int
) -> None:
    assert choose_processes(rate, due_at_once=due_at_once, cores=cores) == expected


def test_a_client_that_dies_is_an_error_of_the_measurement_and_leaves_none_behind(port: int) -> None:
    def kill_one() -> None:
        while not (found := running("orchestrator.load.client.process")):
            time.sleep(0.05)
        time.sleep(0.5)
        found[0].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(MeasurementError, match="ended with status -9"):
        run(job(port, [{"tokens": 2000, "gap_s": 0.01}] * 4, Closed(4), processes=2))
    killer.join()
    assert running("orchestrator.load.client.process") == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_client_that_stood_still_shows_as_receive_lag(port: int, processes: int) -> None:
    stopped_s = 1.0

    def stop_one() -> None:
        assert began.wait(20)
        found = running("orchestrator.load.client.process")
        found[-1].send_signal(signal.SIGSTOP)
        time.sleep(stopped_s)
        found[-1].send_signal(signal.SIGCONT)

    began = threading.Event()

    def on_progress(progress: LoadProgress) -> None:
        if progress.output_tokens > 0:
            began.set()

    stopper = threading.Thread(target=stop_one)
    stopper.start()
    scripts: list[Script] = [{"tokens": 150, "gap_s": 0.02}] * 4
    result = run(job(port, scripts, Closed(4), processes=processes), on_progress=on_progress)
    stopper.join()
    assert [record.outcome for record in result.records] == ["ok"] * 4
    assert result.receive_lag_s_max is not None
    assert result.receive_lag_s_p99 is not None
    assert stopped_s - 0.05 < result.receive_lag_s_max < stopped_s + 2.0
    assert result.receive_lag_s_p99 > 0.5, "the lag was larger for over 1 % of the time"
    assert max(float(np.diff(record.chunk_s).max()) for record in result.records) > stopped_s / 2


def test_the_source_of_the_stamps_is_known(port: int) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        refused = run(job(held.getsockname()[1], [{}], Closed(1)))
    assert run(job(port, VARIED, Closed(7))).stamp_source == "kernel"
    assert refused.stamp_source is None


def test_the_clients_die_with_their_parent(port: int) -> None:
    code = f"""
        from orchestrator.load.driver import run
        from tests.load.scripted import job
        run(job({port}, [{{"tokens": 10000, "gap_s": 0.01}}] * 2, processes=2))
    """
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=root) as parent:
        deadline = time.monotonic() + 20
        while len(found := running("orchestrator.load.client.process", parent.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        parent.kill()
    _, alive = psutil.wait_procs(found, timeout=5)
    assert len(found) == 2
    assert alive == []


def test_an_error_in_the_callers_callback_leaves_no_client_behind(port: int) -> None:
    def fail(progress: LoadProgress) -> None:
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        run(job(port, [{"tokens": 1000}] * 2), on_progress=fail)
    assert running("orchestrator.load.client.process") == []
