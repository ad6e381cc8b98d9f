"""A connection that is fed bytes directly, between stand-ins for its owner, its sockets and its socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NamedTuple, cast

from orchestrator.load.client.connection import Call, Connection
from orchestrator.load.receive.receiver import HELD_FULL, READ
from orchestrator.load.receive.sockets import Sockets
from orchestrator.load.stream.timeline import Stream, Timeline
from orchestrator.records import Outcome
from tests.load.both import C
from tests.load.stream.fed import HeldInMemory


class End(NamedTuple):
    t: float
    outcome: Outcome
    error: str | None
    status: int | None
    stream: Stream


class Line:
    """A connection, and all that it is between: its owner, its sockets and its socket."""

    def __init__(self) -> None:
        self.ends: list[End] = []
        self.again: list[Call] = []
        self.closed = False
        self.echoes = False
        self.counted: list[bool] = []
        self.on_release: Callable[[], None] = lambda: None
        self.held = HeldInMemory()
        sock = cast(socket.socket, self)
        self.connection = Connection(self, cast(Sockets, self), sock, C.split)

    def ask(self, at_s: float = 0.0) -> Call:
        call = Call(len(self.ends), at_s, Timeline())
        self.connection.start(call, b"POST / HTTP/1.1\r\nX-Request-Id: request-%d\r\n\r\n" % call.number)
        return call

    def feed(self, t: float, data: bytes) -> None:
        """As a receiver does."""
        if self.closed:
            return
        kind = self.held.put(t, data)
        if kind == READ:
            self.connection.on_read(t, data)
        elif kind == HELD_FULL:
            self.connection.on_held_full(t)

    def flush(self) -> None:
        """Silence, after which what is held is looked at."""
        if not self.closed:
            self.connection.on_held_full(9e9)

    def settle(self) -> None:
        """Silence, and then the server closes."""
        self.flush()
        if not self.closed:
            self.connection.on_closed(None)

    # The owner.

    def release(self, connection: Connection) -> None:
        self.on_release()

    def unasked(self, mixed: bool) -> None:
        self.counted.append(mixed)

    def resend(self, call: Call) -> None:
        self.again.append(call)

    def finished(self, call: Call, t: float, outcome: Outcome, error: str | None, status: int | None) -> None:
        self.ends.append(End(t, outcome, error, status, call.timeline.stream()))

    def forget(self, connection: Connection) -> None:
        self.closed = True

    # The sockets and the socket.

    def add(self, sock: object, handler: object) -> HeldInMemory:
        return self.held

    def watch_writable(self, sock: object, watch: bool) -> None: ...

    def remove(self, sock: object) -> None: ...

    def send(self, data: bytes) -> int:
        return len(data)
