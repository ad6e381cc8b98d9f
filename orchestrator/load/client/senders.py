"""What each kind of schedule sends when, within one client process.

A sender is started at the run's zero, told of every request that ends, and ``exhausted`` once it will send no
more. That may come while nothing of its own is in flight, as when others took the last requests: then nothing
else would tell, so it calls ``on_exhausted``. Nothing here depends on how many processes there are: what they
must agree on goes through `Tickets` and, for batches, through a pipe to each process.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Protocol

from orchestrator.load.client.linux import Tickets, Timer

Send = Callable[[int, float], None]
"""Sends request ``index``, which was due at that ``perf_counter`` time."""


_SPIN_S = 0.00006
"""A wake-up comes some 40 µs after its time, which would distort the shortest gaps: ask for it that much
before, and spin for the rest."""


class Sender(Protocol):
    exhausted: bool

    def start(self, at_s: float) -> None:
        """Begin at ``at_s``, which may lie ahead."""

    def finished(self, at_s: float) -> None:
        """A request of this process ended at ``at_s``."""

    def close(self) -> None:
        """Close what it has open; it sends no more."""


class OpenSender:
    """Each request at its time. ``due`` holds (seconds after the start, index), ascending."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Send, due: Sequence[tuple[float, int]]) -> None:
        self.exhausted = not due
        self._send = send
        self._due = due
        self._next = 0
        self._zero = 0.0
        self._timer = WatchedTimer(loop, self._fire)

    def start(self, at_s: float) -> None:
        self._zero = at_s
        self._timer.arm(at_s)

    def finished(self, at_s: float) -> None:
        pass

    def close(self) -> None:
        self.exhausted = True
        self._timer.close()

    def _fire(self) -> None:
        self._timer.clear()
        while not self.exhausted:
            after_s, index = self._due[self._next]
            at = self._zero + after_s
            if at - perf_counter() > _SPIN_S:
                self._timer.arm(at - _SPIN_S)
                return
            while perf_counter() < at:
                pass
            self._send(index, at)
            self._next += 1
            self.exhausted = self.exhausted or self._next == len(self._due)
        self._timer.close()


class ClosedSender:
    """``slots`` requests in flight; a request is due when the one before it in its slot has ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Send,
        slots: int,
        tickets: Tickets,
        on_exhausted: Callable[[], None],
    ) -> None:
        self.exhausted = False
        self._on_exhausted = on_exhausted
        self._send = send
        self._slots = slots
        self._tickets = tickets
        self._start = Alarm(loop, self._begin)

    def start(self, at_s: float) -> None:
        self._start.at(at_s)

    def finished(self, at_s: float) -> None:
        if self.exhausted:
            return
        index = self._tickets.take()
        if index is None:
            self.exhausted = True
            self._on_exhausted()
        else:
            self._send(index, at_s)

    def close(self) -> None:
        self.exhausted = True
        self._start.close()

    def _begin(self, at_s: float) -> None:
        for _ in range(self._slots):
            self.finished(at_s)


class BatchSender:
    """``groups`` are this process's requests of each batch, none where a batch has fewer than there are
    processes. The process that finishes a batch's last request opens the next batch in all of them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Send,
        groups: Sequence[Sequence[int]],
        *,
        size: int,
        total: int,
        tickets: Tickets,
        barrier_read_fd: int,
        barrier_write_fds: Sequence[int],
        on_exhausted: Callable[[], None],
    ) -> None:
        self.exhausted = not groups
        self._on_exhausted = on_exhausted
        self._send = send
        self._groups = groups
        self._next = 0
        self._size = size
        self._total = total
        self._tickets = tickets
        self._barrier_read_fd = barrier_read_fd
        self._barrier_write_fds = barrier_write_fds
        self._start = Alarm(loop, self._open)
        self._loop = loop
        loop.add_reader(barrier_read_fd, self._on_batch_end)

    def start(self, at_s: float) -> None:
        self._start.at(at_s)

    def finished(self, at_s: float) -> None:
        number, latest_s = self._tickets.hand_in(at_s)
        if (number + 1) % self._size == 0 and number + 1 < self._total:
            for fd in self._barrier_write_fds:
                os.write(fd, struct.pack("=d", latest_s))

    def close(self) -> None:
        self.exhausted = True
        self._start.close()
        self._loop.remove_reader(self._barrier_read_fd)  # whose owner closes it

    def _on_batch_end(self) -> None:
        self._open(struct.unpack("=d", os.read(self._barrier_read_fd, 8))[0])

    def _open(self, at_s: float) -> None:
        if self.exhausted:
            return
        group = self._groups[self._next]
        self._next += 1
        self.exhausted = self._next == len(self._groups)
        for index in group:
            self._send(index, at_s)
        if self.exhausted:
            self._on_exhausted()


class Alarm:
    """Calls back once, at a ``perf_counter`` time, with that time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[float], None]) -> None:
        self._callback = callback
        self._timer = WatchedTimer(loop, self._fire)
        self._at_s = 0.0

    def at(self, at_s: float) -> None:
        self._at_s = at_s
        self._timer.arm(at_s)

    def close(self) -> None:
        self._timer.close()

    def _fire(self) -> None:
        self._timer.close()
        self._callback(self._at_s)


class WatchedTimer(Timer):
    """A timer that calls back from the loop whenever its time has come, until it is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        super().__init__()
        self._loop = loop
        self._open = True
        loop.add_reader(self.fd, callback)

    def close(self) -> None:
        """Once; nothing after that."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self.fd)
            super().close()
