"""The receiver in Python, for where there is no compiler."""

from __future__ import annotations

import select
import socket
import struct
from array import array
from collections.abc import Iterator
from time import perf_counter

from orchestrator.load.receive.receiver import (
    CLOSED,
    EVENT_END,
    HELD_AT_MOST,
    HELD_FULL,
    LARGE,
    READ,
    READ_SIZE,
    READS_AT_ONCE,
    WRITABLE,
    Counts,
    Reads,
    Report,
)

_ANCILLARY_SIZE = 32
_TIMESPEC = struct.Struct("qq")


class PythonHeldReads:
    """One socket's held reads. Their bytes are copied into one buffer: separate objects would be scattered
    over the memory by the time they are read."""

    __slots__ = ("_ends", "_holding", "_last_s", "_times", "_wire")

    def __init__(self) -> None:
        self._holding = False
        self._last_s = 0.0
        self._clear()

    def _clear(self) -> None:
        self._times, self._ends, self._wire = array("d"), array("L"), bytearray()

    def hold(self, on: bool) -> None:
        self._holding = on

    def take(self) -> Reads | None:
        if not self._times:
            return None
        reads = Reads(self._times, self._ends, bytes(self._wire))
        self._clear()
        return reads

    def last_s(self) -> float:
        return self._last_s

    def put(self, t: float, data: bytes) -> int | None:
        """Hold a read if that may be. Returns what is to be reported: `READ` when it is not held, `HELD_FULL`
        when all that is held is to be taken, else None."""
        if not (self._holding and data.endswith(EVENT_END)):
            return READ
        self._wire += data
        self._times.append(t)
        self._ends.append(len(self._wire))
        self._last_s = t
        return HELD_FULL if len(self._times) >= HELD_AT_MOST or len(data) >= LARGE else None


class PythonReceiver:
    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._sockets: dict[int, tuple[socket.socket, PythonHeldReads]] = {}
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._more = self._stamped = False
        self._reads = self._stamped_reads = 0
        self._seen: set[int] = set()

    def add(self, sock: socket.socket) -> PythonHeldReads:
        held = PythonHeldReads()
        self._sockets[sock.fileno()] = sock, held
        return held

    def remove(self, sock: socket.socket) -> None:
        del self._sockets[sock.fileno()]

    def poll(self, offset_ns: int | None, slice_s: float) -> Iterator[Report]:
        ready = self._epoll.poll(0, READS_AT_ONCE)
        sockets, buffers, seen, unpack = self._sockets, [self._buffer], self._seen, _TIMESPEC.unpack
        self._more = len(ready) == READS_AT_ONCE
        until = perf_counter() + slice_s
        for fd, event in ready:
            if fd not in sockets:
                continue  # removed after an earlier report
            sock, held = sockets[fd]
            if event & select.EPOLLOUT:
                yield Report(WRITABLE, fd)
            try:
                size, ancillary, _, _ = sock.recvmsg_into(buffers, _ANCILLARY_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                yield Report(CLOSED, fd, error=error.errno or 0)
                continue
            if not size:
                yield Report(CLOSED, fd)
                continue
            t = now = perf_counter()
            self._stamped = bool(ancillary) and offset_ns is not None
            if ancillary and offset_ns is not None:
                seconds, nanoseconds = unpack(ancillary[0][2])
                t = min(now, (seconds * 1_000_000_000 + nanoseconds - offset_ns) * 1e-9)
            self._reads += 1
            self._stamped_reads += self._stamped
            seen.add(fd)
            data = self._buffer[:size].tobytes()
            kind = held.put(t, data)
            if kind is not None:
                yield Report(kind, fd, t, data)
            if now > until:
                self._more = True
                return

    def more(self) -> bool:
        return self._more

    def stamped(self) -> bool:
        return self._stamped

    def counts(self) -> Counts:
        counts = Counts(self._reads, len(self._seen), self._stamped_reads)
        self._reads = self._stamped_reads = 0
        self._seen.clear()
        return counts

    def close(self) -> None:
        self._sockets.clear()
