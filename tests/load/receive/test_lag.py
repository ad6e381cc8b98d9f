"""`ReceiveLag`: what a loop that stands still, or leaves sockets unread, shows as."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

import pytest

from orchestrator.load.receive.lag import ReceiveLag


def lag_of(
    body: Callable[[], Coroutine[Any, Any, None]], unread_since_s: Callable[[], float | None] = lambda: None
) -> ReceiveLag:
    """Measured while ``body`` ran."""

    async def measured() -> ReceiveLag:
        lag = ReceiveLag(asyncio.get_running_loop(), unread_since_s)
        lag.start(perf_counter())
        await body()
        lag.stop()
        return lag

    return asyncio.run(measured())


def block(seconds: float) -> None:
    time.sleep(seconds)


def test_nothing_was_measured_before_the_start() -> None:
    loop = asyncio.new_event_loop()
    assert ReceiveLag(loop).p99_s() is None
    loop.close()


def test_a_standstill_counts_for_every_beat_that_was_missed() -> None:
    async def body() -> None:
        await asyncio.sleep(0.1)
        block(0.5)
        await asyncio.sleep(0.1)

    lag = lag_of(body)
    assert 0.48 < lag.max_s < 2.0
    p99_s = lag.p99_s()
    assert p99_s is not None
    assert lag.max_s - 0.05 < p99_s <= lag.max_s, "most of the time the loop stood still"


def test_a_standstill_until_the_end_counts() -> None:
    async def body() -> None:
        await asyncio.sleep(0.05)
        block(0.3)

    assert lag_of(body).max_s > 0.28


def test_a_standstill_before_the_first_beat_counts_from_the_start() -> None:
    async def body() -> None:
        block(0.3)

    assert lag_of(body).max_s >= 0.3


def test_a_short_standstill_in_a_long_run_is_seen_in_the_largest_lag_alone() -> None:
    lag = ReceiveLag(asyncio.new_event_loop())
    for _ in range(10_000):
        lag._take(lag._due_s + 0.0002)
    lag._take(lag._due_s + 0.5)
    assert lag.max_s == pytest.approx(0.5)
    assert lag.p99_s() == pytest.approx(0.0003, abs=0.0001)


def test_sockets_that_stay_unread_are_a_lag_though_the_loop_turns() -> None:
    since_s = perf_counter()

    async def body() -> None:
        await asyncio.sleep(0.2)

    assert lag_of(body, lambda: since_s).max_s >= 0.2
