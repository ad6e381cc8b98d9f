"""The receiver in Python, for where there is no compiler. It is plain: it holds nothing, and acknowledges as
TCP does."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from time import perf_counter

from orchestrator.load.receive.receiver import (
    CLOSED,
    NOTHING_HELD,
    READ,
    READ_SIZE,
    READS_AT_ONCE,
    WRITABLE,
    Counts,
    HeldReads,
    Report,
)

_ANCILLARY_SIZE = 32
_TIMESPEC = struct.Struct("qq")


class PythonReceiver:
    def __init__(self, epoll: select.epoll, acknowledge_later: bool) -> None:
        self._epoll = epoll
        self._sockets: dict[int, socket.socket] = {}
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._more = self._stamped = False
        self._reads = self._stamped_reads = 0
        self._seen: set[int] = set()

    def add(self, sock: socket.socket) -> HeldReads:
        self._sockets[sock.fileno()] = sock
        return NOTHING_HELD

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
            sock = sockets[fd]
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
            yield Report(READ, fd, t, self._buffer[:size].tobytes())
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
