from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.load.arrivals import Batch, Closed, Schedule
from orchestrator.load.client.payloads import Payloads, payload_file
from orchestrator.load.client.pool import ClientPool
from orchestrator.load.driver import LoadProgress, run
from tests.load.scripted import job
from tests.support.children import running
from tests.support.scripted_server import serve


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20))
def test_each_request_has_its_own_bytes(payloads: list[bytes]) -> None:
    fd = payload_file(iter(payloads))
    read = Payloads(fd)
    os.close(fd)
    assert len(read) == len(payloads)
    assert [bytes(read[number]) for number in range(len(payloads))] == payloads


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [Closed(6), Batch(6)], ids=["closed", "batch"])
def test_large_bodies_are_in_memory_once_however_many_processes_send_them(schedule: Schedule) -> None:
    bodies = 36 << 20
    held: list[int] = []

    def held_bytes() -> int:
        """Of all client processes; of a page that several have, each counts its share."""
        lines = [
            line
            for process in running("orchestrator.load.client.process")
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        ]
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))

    def on_progress(progress: LoadProgress) -> None:
        held.append(held_bytes())

    script = {"tokens": 60, "gap_s": 0.02}
    with serve() as port, ClientPool() as clients:
        small = run(job(port, [script] * 12, schedule, processes=3), clients=clients)
        before = held_bytes()
        large = [script | {"root": "x" * (bodies // 12)}] * 12
        result = run(job(port, large, schedule, processes=3), on_progress, clients=clients)
    assert {record.outcome for record in (*small.records, *result.records)} == {"ok"}
    assert len(held) >= 2
    assert max(held) - before < 1.4 * bodies
