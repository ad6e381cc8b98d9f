"""The interface behind which sockets are read: `python_receiver` and `c_receiver` implement it.

A receiver reads the ready sockets of one epoll and stamps each read with its arrival. Most reads of a token
stream need not be seen one by one: of a socket whose reads may be held (`HeldReads.hold`), those that end as
an event at the end of its HTTP chunk does are kept in order until somebody takes them. A receiver that is to
be plain holds nothing. Nothing is parsed here.
"""

from __future__ import annotations

import select
import socket
from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

EVENT_END = b"\n\n\r\n"  # of a server-sent event that ends with its HTTP chunk
READ_SIZE = 65536  # bytes of one read at most
READS_AT_ONCE = 64  # between two turns of the event loop
HELD_AT_MOST = 32  # reads of one socket
LARGE = 8192  # bytes of a read after which what is held is to be taken at once

READ, HELD_FULL, WRITABLE, CLOSED = range(4)
"""Kinds of `Report`: a read that is not held; the socket's held reads are to be taken; it accepts bytes
again; no more will come."""


class Report(NamedTuple):
    """What happened on the socket ``fd``. ``t``: the arrival of the read, or of the last one held,
    ``perf_counter`` seconds. ``data``: the bytes of a `READ`. ``error``: the errno of a `CLOSED`, 0 when the
    other side closed it in order."""

    kind: int
    fd: int
    t: float = 0.0
    data: bytes = b""
    error: int = 0


class Reads(NamedTuple):
    """Reads in order: when each arrived (``perf_counter`` seconds), where it ends in ``wire``, and their
    bytes."""

    times: array[float]
    ends: array[int]
    wire: bytes


class HeldReads(Protocol):
    """One socket's reads that wait in the receiver, if it holds any."""

    def hold(self, on: bool) -> None:
        """Whether reads that end an event may be held."""

    def take(self) -> Reads | None:
        """What is held, which is then the caller's. None when nothing is."""

    def last_s(self) -> float:
        """When the last read that was ever held arrived; 0 before any."""


class NothingHeld:
    """The reads of a socket of which each is to be seen at once."""

    def hold(self, on: bool) -> None:
        pass

    def take(self) -> Reads | None:
        return None

    def last_s(self) -> float:
        return 0.0


NOTHING_HELD = NothingHeld()


class Counts(NamedTuple):
    """``reads`` from ``sockets`` different sockets, ``stamped`` of them by the kernel."""

    reads: int
    sockets: int
    stamped: int


class Receiver(Protocol):
    """Reads sockets. After `close` it must not be used."""

    def add(self, sock: socket.socket) -> HeldReads:
        """A connected, non-blocking socket, before the epoll knows of it. Raises MemoryError."""

    def remove(self, sock: socket.socket) -> None:
        """Before it is closed."""

    def poll(self, offset_ns: int | None, slice_s: float) -> Iterator[Report]:
        """Read what is ready, for ``slice_s`` at most, and report what must be seen now. A socket may be
        removed between two reports; one about it may still follow.

        ``offset_ns``: what the kernel's stamps are ahead of ``perf_counter``; None when that is not known, so
        that the time of reading counts."""

    def more(self) -> bool:
        """Whether the last `poll` may have left sockets unread."""

    def stamped(self) -> bool:
        """Whether the kernel stamped the last read."""

    def counts(self) -> Counts:
        """Of the reads since this was asked last."""

    def close(self) -> None: ...


NewReceiver = Callable[[select.epoll, bool], Receiver]
"""(epoll, acknowledge_later) → a receiver for its sockets. ``acknowledge_later``: what comes while reads are
held may be acknowledged later than TCP would, for less work on both sides. It is for servers that do not wait
for that: one that does not set TCP_NODELAY holds its next small segment back until then."""
