"""`Connection`: what it reports of a call, whoever takes the connection next."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from orchestrator.load.client import loops
from orchestrator.load.client.connection import Call, Connection
from orchestrator.load.receive.python_receiver import PythonHeldReads
from orchestrator.load.receive.receiver import HeldReads
from orchestrator.load.receive.sockets import Sockets
from orchestrator.load.stream.timeline import Timeline
from orchestrator.records import Outcome

HEAD = b"HTTP/1.1 %d X\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"


class NoSockets(Sockets):
    def __init__(self) -> None:
        pass

    def add(self, sock: socket.socket, handler: object) -> HeldReads:
        return PythonHeldReads()

    def remove(self, sock: socket.socket) -> None:
        pass


class Waiting:
    """An owner with one more call, which takes the connection as soon as it is free."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Outcome, str | None, int | None]] = []

    def release(self, connection: Connection) -> None:
        if len(self.told) == 0 and connection.call is None:
            connection.start(Call(2, 0.0, Timeline()), b"again")

    def resend(self, call: Call) -> None:
        raise AssertionError

    def forget(self, connection: Connection) -> None:
        pass

    def finished(self, call: Call, t: float, outcome: Outcome, error: str | None, status: int | None) -> None:
        self.told.append((call.number, outcome, error, status))


@pytest.fixture
def started() -> Iterator[tuple[Connection, Waiting]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    owner = Waiting()
    connection = Connection(owner, NoSockets(), ours, loops.IN_PYTHON.split)
    connection.start(Call(1, 0.0, Timeline()), b"request")
    with ours, theirs:
        yield connection, owner


def response(finish: str, status: int = 200) -> bytes:
    body = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"%b"}]}\n\n' % finish.encode()
    return HEAD % (status, len(body)) + body


@pytest.mark.parametrize("status", [200, 503])
def test_the_status_is_the_calls_own_though_another_takes_the_connection(
    started: tuple[Connection, Waiting], status: int
) -> None:
    connection, owner = started
    connection.on_read(1.0, response("stop", status))
    assert connection.call is not None
    assert connection.call.number == 2
    assert [told[3] for told in owner.told] == [status]


@pytest.mark.parametrize(
    "finish", ["abort", "error", "content_filter", "CONTENT_FILTER", "insufficient_system_resource", "SAFETY"]
)
def test_an_answer_that_the_server_gave_up_or_withheld_is_not_ok(
    started: tuple[Connection, Waiting], finish: str
) -> None:
    connection, owner = started
    connection.on_read(1.0, response(finish))
    assert owner.told == [(1, "error", f"the server gave the request up (finish_reason {finish})", 200)]


@pytest.mark.parametrize("finish", ["stop", "length", "MAX_TOKENS", "model_length", "tool_calls", "end_turn"])
def test_any_other_end_is_ok(started: tuple[Connection, Waiting], finish: str) -> None:
    connection, owner = started
    connection.on_read(1.0, response(finish))
    assert owner.told == [(1, "ok", None, 200)]


def test_an_empty_reason_is_none(started: tuple[Connection, Waiting]) -> None:
    connection, owner = started
    connection.on_read(1.0, response(""))
    assert owner.told == [(1, "error", "the stream ended without a finish_reason", 200)]
