"""Many stream sockets on one epoll, each read stamped with the moment at which its bytes arrived.

The kernel stamps what arrives (SO_TIMESTAMPNS), so that a socket may be read later than that without the
stamp being late. Where reads come often, the sockets are then polled every 2 ms instead of at every arrival:
waking up costs more than reading. A read that holds several segments has the stamp of the last.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from time import perf_counter, perf_counter_ns, time_ns
from typing import Protocol

from orchestrator.load.receive.lag import ReceiveLag
from orchestrator.load.receive.receiver import HELD_FULL, READ, WRITABLE, HeldReads, NewReceiver

_SO_TIMESTAMPNS = 35
# Gathering begins above 8,000 reads/s, and only where a socket's own reads are so far apart that two of them
# hardly ever become one.
_GATHER_S, _BUSY_PER_S, _APART_S, _JUDGE_S = 0.002, 8000.0, 0.008, 0.02
_EXACT_NS = 2_000


class SocketHandler(Protocol):
    """Is told what happens on one socket."""

    def on_read(self, t: float, data: bytes) -> None:
        """``data`` arrived at ``t``, ``perf_counter`` seconds."""

    def on_held_full(self, t: float) -> None:
        """Its held reads are to be taken now; the last of them arrived at ``t``."""

    def on_writable(self) -> None:
        """It accepts bytes again, as asked for with `Sockets.watch_writable`."""

    def on_closed(self, error: OSError | None) -> None:
        """No more will come; ``error`` None: the other side closed it in order."""


class Sockets:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slice_s: float,
        new_receiver: NewReceiver,
        acknowledge_later: bool = False,
    ) -> None:
        """``slice_s``: after so long the loop has its turn, which may have requests to send.
        ``acknowledge_later`` as `receiver.NewReceiver` says."""
        self._loop = loop
        self._slice_s = slice_s
        self._epoll = select.epoll()
        self._receiver = new_receiver(self._epoll, acknowledge_later)
        self._handlers: dict[int, SocketHandler] = {}
        self._clock = WallClock()
        self.gathering = False  # polls every 2 ms instead of at every arrival
        self._closed = False
        self._counted_s = perf_counter()  # when the receiver's reads were counted last
        self._reads = self._stamped_reads = 0
        self._unread_since_s: float | None = None  # the first poll of those that left some
        self.lag = ReceiveLag(loop, lambda: self._unread_since_s)
        loop.add_reader(self._epoll.fileno(), self._poll)

    def add(self, sock: socket.socket, handler: SocketHandler) -> HeldReads:
        """Take a connected, non-blocking socket. Returns its reads that wait to be taken."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._handlers[sock.fileno()] = handler
        held = self._receiver.add(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return held

    def watch_writable(self, sock: socket.socket, watch: bool) -> None:
        self._epoll.modify(sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if watch else 0))

    def remove(self, sock: socket.socket) -> None:
        """Close it."""
        del self._handlers[sock.fileno()]
        self._receiver.remove(sock)
        self._epoll.unregister(sock.fileno())
        sock.close()

    def stamps(self) -> tuple[int, int]:
        """How many reads there were, and how many of them the kernel stamped."""
        self._count()
        return self._reads, self._stamped_reads

    def close(self) -> None:
        """Poll no more. Sockets that were not removed stay open."""
        self._closed = True
        self.lag.stop()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._receiver.close()

    def _poll(self) -> None:
        if self._closed:
            return
        began_s = perf_counter()
        self._dispatch_reports()
        more = self._receiver.more()
        if not more:
            self._unread_since_s = None
        elif self._unread_since_s is None:
            self._unread_since_s = began_s
        self._choose_gathering()
        if self.gathering:
            if more:
                self._loop.call_soon(self._poll)
            else:
                self._loop.call_later(_GATHER_S, self._poll)

    def _dispatch_reports(self) -> None:
        handlers = self._handlers
        for kind, fd, t, data, error in self._receiver.poll(self._clock.offset_ns(), self._slice_s):
            if fd not in handlers:
                continue  # closed after an earlier report
            handler = handlers[fd]
            if kind == READ:
                handler.on_read(t, data)
            elif kind == HELD_FULL:
                handler.on_held_full(t)
            elif kind == WRITABLE:
                handler.on_writable()
            else:
                handler.on_closed(OSError(error, os.strerror(error)) if error else None)

    def _count(self) -> tuple[int, int]:
        """Reads since the last count, and the sockets that they came from."""
        reads, sockets, stamped = self._receiver.counts()
        self._reads += reads
        self._stamped_reads += stamped
        return reads, sockets

    def _choose_gathering(self) -> None:
        """Whether to gather, by the last 20 ms."""
        now = perf_counter()
        span_s = now - self._counted_s
        if span_s < _JUDGE_S:
            return
        reads, sockets = self._count()
        busy = reads > _BUSY_PER_S * span_s and reads * _APART_S < sockets * span_s
        self._counted_s = now
        if (busy and self._receiver.stamped()) != self.gathering:
            self.gathering = not self.gathering
            if self.gathering:
                self._loop.remove_reader(self._epoll.fileno())
            else:
                self._loop.add_reader(self._epoll.fileno(), self._poll)


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
