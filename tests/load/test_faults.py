"""End to end through `driver.run`: every failure is a typed outcome, and keeps what had come by then."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.load.arrivals import Closed
from orchestrator.load.driver import run
from orchestrator.records import Endpoint, Record
from tests.load.raw_server import OK, STREAM, answering
from tests.load.scripted import Script, job
from tests.support.scripted_server import serve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve() as port:
        yield port


def one(port: int, script: Script, **changes: Any) -> Record:
    return run(job(port, [script], **changes)).records[0]


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        ("error", 200, "in the stream: InternalServerError: scripted failure"),
        ("reset", 200, "the connection was reset in the middle of the response"),
        ("close", 200, "the connection was closed by the server in the middle of the response"),
        ("half", 200, "the connection was closed by the server in the middle of the response"),
        ("abort", 200, "the server gave the request up (finish_reason abort)"),
        ("no_finish", 200, "the stream ended without a finish_reason"),
    ],
)
def test_a_stream_that_breaks_is_an_error_that_keeps_its_tokens(
    port: int, fault: str, status: int, says: str
) -> None:
    record = one(port, {"tokens": 6, "fault": fault, "after": 6 if fault in ("abort", "no_finish") else 4})
    assert (record.outcome, record.error, record.http_status) == ("error", says, status)
    assert record.output_tokens == len(record.chunk_s) >= 4
    assert record.sent_s is not None
    assert record.end_s > record.sent_s


def test_an_http_error_carries_its_status_and_the_servers_words(port: int) -> None:
    record = one(port, {"fault": "http", "status": 503})
    assert (record.outcome, record.http_status) == ("error", 503)
    assert record.error == "HTTP 503: InternalServerError: scripted failure"
    assert record.output_tokens is None
    assert record.first_token_s is None
    assert len(record.chunk_s) == 0


def test_an_http_error_leaves_the_connection_usable(port: int) -> None:
    scripts: list[Script] = [{"fault": "http"} if i % 2 else {"tokens": 2} for i in range(20)]
    records = run(job(port, scripts, Closed(2))).records
    assert [record.outcome for record in records] == ["ok", "error"] * 10


def test_a_plain_document_is_not_a_stream(port: int) -> None:
    record = one(port, {"fault": "json"})
    assert (record.outcome, record.http_status) == ("error", 200)
    assert "not an event stream" in str(record.error)


def test_what_is_not_http_is_an_error(port: int) -> None:
    record = one(port, {"fault": "garbage"})
    assert (record.outcome, record.http_status) == ("error", None)
    assert "not an HTTP response" in str(record.error)


def test_a_stall_in_the_stream_is_an_idle_timeout(port: int) -> None:
    record = one(port, {"tokens": 6, "fault": "stall", "after": 3}, idle_timeout_s=0.3)
    assert (record.outcome, record.error) == ("timeout", "no byte for 0.3 s")
    assert record.output_tokens == 3
    assert record.last_token_s is not None
    assert 0.3 <= record.end_s - record.last_token_s < 1.5


def test_waiting_for_the_first_byte_is_not_idle_but_ends_at_the_total_timeout(port: int) -> None:
    record = one(port, {"fault": "stall", "after": 0}, idle_timeout_s=0.1, request_timeout_s=0.5)
    assert (record.outcome, record.error) == ("timeout", "not finished after 0.5 s")
    assert record.sent_s is not None
    assert 0.5 <= record.end_s - record.sent_s < 1.5


def test_a_slow_stream_is_not_idle_but_ends_at_the_total_timeout(port: int) -> None:
    record = one(port, {"tokens": 1000, "gap_s": 0.02}, idle_timeout_s=0.4, request_timeout_s=1.0)
    assert (record.outcome, record.error) == ("timeout", "not finished after 1 s")
    assert 20 < (record.output_tokens or 0) < 60


def test_a_server_that_is_down_refuses_every_request() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can answer there
        records = run(job(held.getsockname()[1], [{}] * 30, Closed(4))).records
    assert {record.outcome for record in records} == {"error"}
    assert all(record.sent_s is None and record.http_status is None for record in records)
    assert all("Connection refused" in str(record.error) for record in records)


def test_a_host_without_a_name_is_an_error_of_each_request() -> None:
    record = one(1, {}, endpoint=Endpoint("no-such-host.invalid", 1, "m"))
    assert record.outcome == "error"
    assert "no-such-host.invalid" in str(record.error)


def test_a_server_killed_in_the_middle_fails_what_is_in_flight_and_all_that_follows() -> None:
    with serve() as port:
        five: Script = {"tokens": 5}
        scripts = [five, five, five, five, {"tokens": 9, "fault": "kill", "after": 3}, five, five, five]
        records = run(job(port, scripts, Closed(1))).records
    assert [record.outcome for record in records] == ["ok"] * 4 + ["error"] * 4
    assert records[4].output_tokens == 3
    assert all(record.output_tokens is None for record in records[5:])


def test_a_wrong_key_is_said_so() -> None:
    with serve(api_key="right") as port:
        right = one(port, {"tokens": 2}, endpoint=Endpoint("127.0.0.1", port, "m", api_key="right"))
        wrong = one(port, {"tokens": 2}, endpoint=Endpoint("127.0.0.1", port, "m", api_key="wrong"))
    assert right.outcome == "ok"
    assert (wrong.outcome, wrong.http_status) == ("error", 401)


def test_the_end_of_the_window_cancels_what_runs_and_sends_no_more(port: int) -> None:
    load = job(port, [{"tokens": 500, "gap_s": 0.01}] * 6, Closed(2), duration_s=0.5)
    records = run(load).records
    assert [record.outcome for record in records] == ["cancelled"] * 6
    assert all(10 < (record.output_tokens or 0) < 60 for record in records[:2])
    assert all(record.error == "the window of 0.5 s ended" for record in records[:2])
    assert all(record.sent_s is None and "before it was sent" in str(record.error) for record in records[2:])
    assert all(record.cut_by_window for record in records)


def test_a_stop_cancels_the_rest_at_once(port: int) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.8, stop.set)
    timer.start()
    began = time.perf_counter()
    records = run(
        job(port, [{"tokens": 1000, "gap_s": 0.05}] * 4, Closed(2)), should_stop=stop.is_set
    ).records
    timer.join()
    assert time.perf_counter() - began < 10
    assert [record.outcome for record in records] == ["cancelled"] * 4
    assert not any(record.cut_by_window for record in records)


@pytest.mark.parametrize("processes", [1, 2])
def test_whatever_a_server_answers_the_other_requests_are_measured(processes: int) -> None:
    """The last one of these is followed by an answer that nobody asked for."""
    gzip = STREAM + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
    chunked = STREAM + b"Transfer-Encoding: chunked\r\n\r\n"
    odd = [
        b"\0" * 99,
        gzip,
        chunked + b"xyz\r\n",
        chunked + b"5\r\nda",
        b"HTTP/1.1 101 Up\r\nUpgrade: x\r\n\r\n",
    ]
    odd += [b"HTTP/1.1 204 No\r\n\r\n", b"\r\n\r\nHTTP/9.9 200\r\n", OK + OK]

    def answer(connection: socket.socket, number: int) -> bool:
        connection.sendall(OK if number % 2 == 0 else odd[number // 2 % len(odd)])
        return number % 2 == 0 or number // 2 % len(odd) == len(odd) - 1

    with answering(answer) as port:
        records = run(job(port, [{}] * (4 * len(odd)), Closed(2), processes=processes)).records
    outcomes = [record.outcome for record in records]
    assert outcomes == (["ok", "error"] * (len(odd) - 1) + ["ok", "ok"]) * 2
    assert all(record.output_tokens == 1 for record in records if record.outcome == "ok")
    assert sum("compressed (Content-Encoding: gzip)" in str(record.error) for record in records) == 2


def test_an_idle_connection_that_the_server_closes_under_a_request_is_not_the_requests_fault() -> None:
    """The first response keeps the connection, then the server closes it as the next request arrives."""
    body = (
        b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],'
        b'"usage":{"completion_tokens":1}}\n\ndata: [DONE]\n\n'
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
    ok = head + body

    def answer(listener: socket.socket) -> None:
        for requests in (2, 1):  # on the first connection the second request gets no answer
            with listener.accept()[0] as connection:
                for number in range(requests):
                    connection.recv(65536)
                    if number == 0:
                        connection.sendall(ok)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        records = run(job(listener.getsockname()[1], [{}] * 2, Closed(1))).records
        thread.join(5)
    assert [record.outcome for record in records] == ["ok", "ok"]
