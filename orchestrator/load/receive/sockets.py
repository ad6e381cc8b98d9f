"""Many stream sockets on one epoll, each read stamped with the moment at which its bytes arrived.

The kernel stamps what arrives (SO_TIMESTAMPNS), so that a socket may be read later than that without the
stamp being late. Where reads come often, the sockets are then looked at every 2 ms instead of at every
arrival: waking up costs more than reading. A read that holds several segments has the stamp of the last.

The reading itself is `receiver.c`'s, which tells only what somebody must see now; without it, and with the
same results, it is done here.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import socket
import struct
from time import perf_counter, perf_counter_ns, time_ns
from typing import Protocol

from orchestrator.load.receive.receiver import ARRIVED, FULL, WRITABLE, Holder, Receiver

_SO_TIMESTAMPNS, _ANCILLARY_SIZE = 35, 32
_TIMESPEC = struct.Struct("qq")
_READ_SIZE = 65536
_AT_ONCE = 64  # reads between two turns of the loop
# Gathering begins above 8,000 reads/s, and only where a socket's own reads are so far apart that two of them
# hardly ever become one.
_GATHER_S, _BUSY_PER_S, _APART_S, _JUDGE_S = 0.002, 8000.0, 0.008, 0.02
_EXACT_NS = 2_000


class Peer(Protocol):
    """Who is told of one socket."""

    def arrived(self, t: float, data: bytes) -> None:
        """``data`` arrived at ``t``, ``perf_counter`` seconds."""

    def full(self, t: float) -> None:
        """As many reads are held back as may be, the last of ``t``: they are to be taken."""

    def writable(self) -> None:
        """It takes bytes again, as asked for with `Sockets.watch_writable`."""

    def lost(self, error: OSError | None) -> None:
        """No more will come; ``error`` None: the other side ended it in order."""


class Sockets:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, slice_s: float, library: ctypes.CDLL | None = None
    ) -> None:
        """``slice_s``: after so long the loop has its turn, which may have requests to send. ``library``:
        what `native.library` gave."""
        self._loop = loop
        self._slice_s = slice_s
        self._epoll = select.epoll()
        self._receiver = None if library is None else Receiver(library, self._epoll.fileno())
        self._peers: dict[int, tuple[socket.socket, Peer]] = {}
        self._buffer = memoryview(bytearray(_READ_SIZE))
        self._clock = WallClock()
        self._stamped = False  # the kernel stamped the last read
        self.gathering = False  # looks every 2 ms instead of at every arrival
        self._closed = False
        self._since_s = perf_counter()  # the reads counted are those since then
        self._reads = 0
        self._seen: set[int] = set()  # the sockets they came from
        loop.add_reader(self._epoll.fileno(), self._look)

    def add(self, sock: socket.socket, peer: Peer) -> None:
        """Take a connected, non-blocking socket."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._peers[sock.fileno()] = sock, peer
        if self._receiver is not None:
            self._receiver.add(sock.fileno())
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def holder(self, sock: socket.socket) -> Holder | None:
        """Where its reads are held back; None where whoever is told of them does that."""
        return None if self._receiver is None else Holder(self._receiver, sock.fileno())

    def watch_writable(self, sock: socket.socket, watch: bool) -> None:
        self._epoll.modify(sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if watch else 0))

    def remove(self, sock: socket.socket) -> None:
        """Close it."""
        del self._peers[sock.fileno()]
        self._epoll.unregister(sock.fileno())
        sock.close()

    def close(self) -> None:
        """Look no more; the sockets are the caller's to remove."""
        self._closed = True
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        if self._receiver is not None:
            self._receiver.close()

    def _look(self) -> None:
        if self._closed:
            return
        more = self._read_some() if self._receiver is None else self._dispatch_reports(self._receiver)
        self._judge()
        if self.gathering:
            if more:
                self._loop.call_soon(self._look)
            else:
                self._loop.call_later(_GATHER_S, self._look)

    def _judge(self) -> None:
        """Whether to gather, by the last 20 ms."""
        now = perf_counter()
        span_s = now - self._since_s
        if span_s < _JUDGE_S:
            return
        reads, seen = self._counted()
        busy = reads > _BUSY_PER_S * span_s and reads * _APART_S < seen * span_s
        self._since_s = now
        if (busy and self._stamped) != self.gathering:
            self.gathering = not self.gathering
            if self.gathering:
                self._loop.remove_reader(self._epoll.fileno())
            else:
                self._loop.add_reader(self._epoll.fileno(), self._look)

    def _counted(self) -> tuple[int, int]:
        """The reads, and the sockets they came from, since this was asked last."""
        if self._receiver is None:
            reads, seen = self._reads, len(self._seen)
            self._reads = 0
            self._seen.clear()
        else:
            reads, seen, _, _ = self._receiver.state()
            self._receiver.count_anew()
        return reads, seen

    def _dispatch_reports(self, receiver: Receiver) -> bool:
        """`_read_some`, by the receiver."""
        peers = self._peers
        for t, offset, size, fd, kind, error in receiver.look(self._clock.offset_ns(), self._slice_s):
            if fd not in peers:
                continue  # closed by the one before it
            peer = peers[fd][1]
            if kind == ARRIVED:
                peer.arrived(t, receiver.bytes_at(offset, size))
            elif kind == FULL:
                peer.full(t)
            elif kind == WRITABLE:
                peer.writable()
            else:
                peer.lost(OSError(error, os.strerror(error)) if error else None)
        _, _, more, self._stamped = receiver.state()
        return more

    def _read_some(self) -> bool:
        """Read what is ready, for a slice of time. Returns whether more may be ready."""
        ready = self._epoll.poll(0, _AT_ONCE)
        peers, buffers, seen, unpack = self._peers, [self._buffer], self._seen, _TIMESPEC.unpack
        offset = self._clock.offset_ns()
        until = perf_counter() + self._slice_s
        for fd, event in ready:
            if fd not in peers:
                continue  # closed by the one before it
            sock, peer = peers[fd]
            if event & select.EPOLLOUT:
                peer.writable()
            try:
                size, ancillary, _, _ = sock.recvmsg_into(buffers, _ANCILLARY_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                peer.lost(error)
                continue
            if not size:
                peer.lost(None)
                continue
            now = perf_counter()
            self._stamped = bool(ancillary) and offset is not None
            if ancillary and offset is not None:
                seconds, nanoseconds = unpack(ancillary[0][2])
                t = min(now, (seconds * 1_000_000_000 + nanoseconds - offset) * 1e-9)
            else:
                t = now
            self._reads += 1
            seen.add(fd)
            peer.arrived(t, self._buffer[:size].tobytes())
            if now > until:
                return True
        return len(ready) == _AT_ONCE


class WallClock:
    """What the kernel's stamps (CLOCK_REALTIME) are ahead of ``perf_counter`` (CLOCK_MONOTONIC). Both run at
    one rate, so this changes only when somebody sets the wall clock."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None

    def offset_ns(self) -> int | None:
        """None when it is not sure: the wall clock was set since the last call, so stamps from before and
        after cannot be told apart, or this process was interrupted at every attempt."""
        for _ in range(5):
            before = perf_counter_ns()
            wall = time_ns()
            width = perf_counter_ns() - before
            offset = wall - before - width // 2
            last = self._offset_ns
            if last is not None and abs(offset - last) <= width + _EXACT_NS:
                return last
            if width <= _EXACT_NS:
                self._offset_ns = offset
                return offset if last is None else None
        return None
