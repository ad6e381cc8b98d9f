"""However few requests there are for the client processes, a load comes to its end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from time import perf_counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.load.arrivals import Batch, Closed, Open, Schedule
from orchestrator.load.client.pool import ClientPool
from orchestrator.load.driver import run
from tests.load.scripted import job
from tests.support.scripted_server import serve

WITHIN_S = 20.0


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[int, ClientPool]]:
    with serve() as port, ClientPool() as clients:
        yield port, clients


@settings(max_examples=40, deadline=None)
@example(kind="batch", size=4, requests=9, processes=4)
@example(kind="batch", size=8, requests=9, processes=2)
@example(kind="batch", size=2, requests=3, processes=4)
@example(kind="closed", size=9, requests=3, processes=3)
@example(kind="closed", size=3, requests=4, processes=3)
@given(
    kind=st.sampled_from(["batch", "closed", "open"]),
    size=st.integers(1, 9),
    requests=st.integers(1, 20),
    processes=st.integers(1, 4),
)
def test_a_load_ends_and_sends_everything(
    served: tuple[int, ClientPool], kind: str, size: int, requests: int, processes: int
) -> None:
    port, clients = served
    schedule: Schedule = Open(np.linspace(0.0, 0.01, requests))
    if kind != "open":
        schedule = Batch(size) if kind == "batch" else Closed(size)
    load = job(port, [{"tokens": 1, "ttft_s": 0.0}] * requests, schedule, processes=processes)
    until = perf_counter() + WITHIN_S
    result = run(load, should_stop=lambda: perf_counter() > until, clients=clients)
    assert [record.outcome for record in result.records] == ["ok"] * requests
    assert result.processes == min(processes, requests, size if kind != "open" else requests)
    if kind == "batch":
        batches = [result.records[i : i + size] for i in range(0, requests, size)]
        for one, following in pairwise(batches):
            last = max(record.end_s for record in one)
            assert {record.scheduled_s for record in following} == {last}
