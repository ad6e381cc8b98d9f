"""Bytes that nobody asked for: they close their connection, are counted, and are no request's answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import cast

import pytest

from orchestrator.load.arrivals import Closed
from orchestrator.load.client.connection import Connection
from orchestrator.load.driver import LoadResult, run
from orchestrator.load.receive.sockets import Sockets
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.validity import flags, status
from tests.load.both import PYTHON
from tests.load.client.line import Line
from tests.load.raw_server import OK, STREAM, answering
from tests.load.scripted import job

pytestmark = pytest.mark.slow

CHUNKED = (
    STREAM
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + OK.partition(b"\r\n\r\n")[2].join([b"%x\r\n" % len(OK.partition(b"\r\n\r\n")[2]), b"\r\n0\r\n\r\n"])
)
Said = Callable[[socket.socket, int], None]


def said_by(number: int, ident: bytes = b"") -> bytes:
    """The answer to that request, in whose text its number is."""
    content = str(number % 10).encode()
    head = b"\r\nX-Request-Id: %b\r\n" % ident if ident else b"\r\n"
    return OK.replace(b'"content":"a"', b'"content":"%b"' % content).replace(b"\r\n", head, 1)


@pytest.fixture(params=["0", "1"], ids=["python", "c"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("ORCHESTRATOR_NATIVE", request.param)
    return bool(int(request.param))


def loaded(say: Said, count: int = 8) -> LoadResult:
    def answer(connection: socket.socket, number: int) -> bool:
        say(connection, number)
        return True

    with answering(answer) as port:
        return run(job(port, [{}] * count, Closed(1)))


def notes(result: LoadResult) -> tuple[str, ...]:
    given = RunConditions(
        unasked_connections=result.unasked_connections, mixed_connections=result.mixed_connections
    )
    return tuple(
        one for one in flags(Measurement(result.records, (), given)) if one in ("unasked", "answers_mixed")
    )


@pytest.mark.parametrize(
    ("whole", "rest"),
    [(OK, OK), (OK, b"xyz"), (CHUNKED, OK[:40]), (CHUNKED, b"0\r\n\r\n")],
    ids=["doubled", "rest", "half", "chunk"],
)
def test_what_comes_with_an_answer_closes_its_connection_and_is_told(
    native: bool, whole: bytes, rest: bytes
) -> None:
    result = loaded(lambda connection, number: connection.sendall(whole + rest))
    assert result.native == native
    assert [record.outcome for record in result.records] == ["ok"] * 8
    assert [record.output_tokens for record in result.records] == [1] * 8
    assert (result.unasked_connections, result.mixed_connections) == (8, 0)
    assert notes(result) == ("unasked",)
    assert status(("unasked",), result.records)[0] == "done"


@pytest.mark.parametrize("whole", [OK, CHUNKED], ids=["length", "chunked"])
def test_an_answer_without_more_is_not_told_of(native: bool, whole: bytes) -> None:
    result = loaded(lambda connection, number: connection.sendall(whole))
    assert {record.outcome for record in result.records} == {"ok"}
    assert (result.unasked_connections, result.mixed_connections, notes(result)) == (0, 0, ())


def test_a_second_answer_is_never_another_requests_in_silence(native: bool) -> None:
    """The copy comes while the next request is on its way or has been sent: whatever is taken for an answer
    is its own, or the request is an error, or the cell does not count."""

    def say(connection: socket.socket, number: int) -> None:
        connection.sendall(said_by(number))
        time.sleep(0.0002 * (number % 4))
        connection.sendall(said_by(number))

    result = loaded(say, 24)
    wrong = [
        record
        for n, record in enumerate(result.records)
        if record.outcome == "ok" and record.response_text != str(n % 10)
    ]
    assert result.unasked_connections > 0
    assert not wrong or "answers_mixed" in notes(result)
    if "answers_mixed" in notes(result):
        assert status(notes(result), result.records)[0] == "invalid"


def test_a_copy_that_comes_behind_the_next_request_is_found_out(native: bool) -> None:
    """The server sends the first answer again as an answer to the second request, before its own."""

    def say(connection: socket.socket, number: int) -> None:
        if number == 3:
            connection.sendall(said_by(2))
            time.sleep(0.05)
        connection.sendall(said_by(number))

    result = loaded(say)
    assert result.records[3].response_text == "2"
    assert result.mixed_connections > 0
    assert notes(result) == ("answers_mixed", "unasked")


def test_of_a_server_that_says_whose_answer_it_is_only_its_own_count(native: bool) -> None:
    def say(connection: socket.socket, number: int) -> None:
        if number == 3:
            connection.sendall(said_by(2, b"request-2"))
            time.sleep(0.05)
        connection.sendall(said_by(number, b"request-%d" % number))

    result = loaded(say)
    assert [record.outcome for record in result.records] == ["ok"] * 3 + ["error"] + ["ok"] * 4
    assert result.records[3].error == "the response is another request's (X-Request-Id: request-2)"
    assert result.mixed_connections == 0
    assert all(record.response_text == str(n) for n, record in enumerate(result.records) if n != 3)


def test_a_server_may_have_request_ids_of_its_own(native: bool) -> None:
    result = loaded(lambda connection, number: connection.sendall(said_by(number, b"req_%d" % number)))
    assert {record.outcome for record in result.records} == {"ok"}
    assert notes(result) == ()


def test_what_lies_on_a_kept_connection_is_seen_before_it_is_used_again() -> None:
    for sent, quiet, counted in (
        (b"", True, []),
        (OK, False, [False]),
        (b"HTTP/1.1 408 Late\r\n", False, []),
    ):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            line = Line()
            connection = Connection(line, cast(Sockets, line), ours, PYTHON.split)
            connection.used = True
            theirs.sendall(sent)
            assert (connection.quiet(), line.counted) == (quiet, counted)
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        connection = Connection(line, cast(Sockets, line), ours, PYTHON.split)
        theirs.close()
        assert not connection.quiet()


def test_a_server_that_speaks_first_is_not_believed(native: bool) -> None:
    """An answer at once when a connection opens, before any request."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            connection.sendall(said_by(9))
            held.append(connection)

    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        result = run(job(listener.getsockname()[1], [{}] * 2, Closed(1), request_timeout_s=1.0))
        listener.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()
    assert all(record.outcome != "ok" for record in result.records) or "answers_mixed" in notes(result)
    assert result.unasked_connections > 0
