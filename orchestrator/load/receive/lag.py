"""How late a client process was to read: whether it stood still, waited for a core, or had too much to do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from time import perf_counter

BEAT_S = 0.01
_BIN_S = 0.0001


class ReceiveLag:
    """How long a byte that arrived at any moment would have waited until it was read, by a beat every 10 ms.

    A beat's lag is how late the event loop comes to it, or for how long sockets have been left unread if that
    is more. A process that was stopped misses beats: each of them counts, with the time from when it was due.
    So percentiles are over time, not over reads, of which there are fewest where the lag is largest.

    The event loop's timers count whole ms: a lag of one means nothing.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, unread_since_s: Callable[[], float | None] = lambda: None
    ) -> None:
        """``unread_since_s``: since when sockets have been ready and unread; None while there are none."""
        self._loop = loop
        self._unread_since_s = unread_since_s
        self._bins: Counter[int] = Counter()
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.max_s = 0.0

    def start(self, at_s: float) -> None:
        """Measure from ``at_s`` on, a ``perf_counter`` value."""
        self._due_s = at_s
        self._timer = self._loop.call_later(max(0.0, at_s - perf_counter()), self._beat)

    def stop(self) -> None:
        """Measure no more; nothing where that was said before. A beat that is overdue counts."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._take(perf_counter())

    def p99_s(self) -> float | None:
        """To 0.1 ms, rounded up; None when nothing was measured."""
        wanted, seen = 0.99 * self._bins.total(), 0
        for number in sorted(self._bins):
            seen += self._bins[number]
            if seen >= wanted:
                return min((number + 1) * _BIN_S, self.max_s)
        return None

    def _beat(self) -> None:
        now = perf_counter()
        self._take(now)
        self._due_s = now + BEAT_S
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _take(self, now: float) -> None:
        lag_s = now - self._due_s
        if (since_s := self._unread_since_s()) is not None:
            lag_s = max(lag_s, now - since_s)
        lag_s = max(0.0, lag_s)
        self.max_s = max(self.max_s, lag_s)
        missed = 0
        while (left_s := lag_s - missed * BEAT_S) > 0 or not missed:
            self._bins[int(left_s / _BIN_S)] += 1
            missed += 1
