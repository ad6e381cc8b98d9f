"""What a server drops is seen: as an error, or where the request could be sent again as a retry."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from time import perf_counter

import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.load.arrivals import Closed
from orchestrator.load.client import client as client_module
from orchestrator.load.client import loops
from orchestrator.load.client.client import Client
from orchestrator.load.client.connection import Finished
from orchestrator.load.client.dial import Dial
from orchestrator.load.client.payloads import Payloads, payload_file
from orchestrator.load.driver import run
from orchestrator.load.stream.response import request_bytes
from orchestrator.load.stream.timeline import Timeline
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.summary import summarize
from orchestrator.metrics.validity import flags, status
from orchestrator.records import Endpoint, Record
from tests.load.raw_server import OK, STREAM, answering
from tests.load.scripted import job, request
from tests.support import timelines


def dropping(after_s: float, before: bytes = b"") -> Callable[[socket.socket, int], bool]:
    """Drops every sixth request when it first comes, after so long and with those bytes."""
    seen: Counter[int] = Counter()
    lock = threading.Lock()

    def answer(connection: socket.socket, number: int) -> bool:
        with lock:
            seen[number] += 1
        if number % 6 == 5 and seen[number] == 1:
            time.sleep(after_s)
            connection.sendall(before)
            return False
        connection.sendall(OK)
        return True

    return answer


def records(answer: Callable[[socket.socket, int], bool], count: int = 120) -> tuple[Record, ...]:
    with answering(answer) as port:
        return run(job(port, [{}] * count, Closed(1))).records


def test_requests_that_were_dropped_at_once_are_sent_again_and_counted() -> None:
    found = records(dropping(0.05))
    retried = [record for record in found if record.retries]
    assert [record.outcome for record in found] == ["ok"] * 120
    assert [record.request_id for record in retried] == [f"request-{n}" for n in range(5, 120, 6)]
    assert {record.retries for record in retried} == {1}
    for record in retried:  # from the first sending on
        assert record.sent_s is not None
        assert record.first_token_s is not None
        assert record.first_token_s - record.sent_s > 0.05
    measurement = Measurement(found)
    assert summarize(measurement, None, SloConfig())["retries"] == 20
    assert "retried" in flags(measurement)


@pytest.mark.parametrize(("after_s", "before"), [(0.3, b""), (0.0, STREAM)], ids=["later", "begun"])
def test_requests_that_the_server_had_are_errors(after_s: float, before: bytes) -> None:
    found = records(dropping(after_s, before), 24)
    assert Counter(record.outcome for record in found) == {"ok": 20, "error": 4}
    assert {record.retries for record in found} == {0}
    measurement = Measurement(found)
    summary = summarize(measurement, None, SloConfig())
    assert summary["retries"] == 0
    assert summary["error_rate"] == pytest.approx(1 / 6)
    assert "retried" not in flags(measurement)


def test_requests_dropped_on_fresh_connections_are_errors() -> None:
    def answer(connection: socket.socket, number: int) -> bool:
        if number % 2 == 0:
            connection.sendall(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        return False

    found = records(answer, 10)
    assert [record.outcome for record in found] == ["ok", "error"] * 5
    assert {record.retries for record in found} == {0}


@pytest.mark.parametrize(("idle_s", "connections"), [(2.9, 1), (3.1, 2)])
def test_a_connection_that_was_idle_for_three_seconds_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, idle_s: float, connections: int
) -> None:
    came: set[object] = set()

    def answer(connection: socket.socket, number: int) -> bool:
        came.add(connection)
        connection.sendall(OK)
        return True

    async def body(port: int) -> list[Finished]:
        loop = asyncio.get_running_loop()
        endpoint = Endpoint("127.0.0.1", port, "m")
        ended: asyncio.Queue[Finished] = asyncio.Queue()
        fd = payload_file(request_bytes(endpoint, request(n, {})) for n in range(2))
        client = Client(
            loop,
            Dial(loop, endpoint),
            Payloads(fd),
            timeline=Timeline,
            request_timeout_s=20.0,
            idle_timeout_s=10.0,
            spare=0,
            slice_s=0.001,
            acknowledge_later=False,
            on_finished=ended.put_nowait,
            loops=loops.IN_PYTHON,
        )
        os.close(fd)
        client.send(0, perf_counter())
        first = await asyncio.wait_for(ended.get(), 10)
        monkeypatch.setattr(client_module, "perf_counter", lambda: first.end_s + idle_s)
        client.send(1, perf_counter())
        second = await asyncio.wait_for(ended.get(), 10)
        await client.close()
        return [first, second]

    with answering(answer) as port:
        found = asyncio.run(body(port))
    assert [finished.outcome for finished in found] == ["ok", "ok"]
    assert len(came) == connections


@pytest.mark.parametrize(("retries", "raised"), [(0, False), (1, False), (2, True)])
def test_the_note_is_for_over_one_in_a_hundred(retries: int, raised: bool) -> None:
    found = [timelines.record(0.0, [(1.0, 1, 0)], retries=int(n < retries)) for n in range(100)]
    assert ("retried" in flags(Measurement(found))) is raised


def test_what_an_older_version_stored_does_not_say() -> None:
    measurement = Measurement([timelines.record(0.0, [(1.0, 1, 0)], retries=None)])
    assert summarize(measurement, None, SloConfig())["retries"] is None
    assert "retried" not in flags(measurement)


def test_a_note_is_no_reason_for_a_cell_not_to_count() -> None:
    found = records(dropping(0.0), 12)
    assert status(["retried"], found) == ("done", None)
