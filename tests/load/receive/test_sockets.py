"""A read's stamp is when its bytes arrived, however late they are read."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from itertools import accumulate
from time import perf_counter

import numpy as np
import pytest

from orchestrator.load.client.loops import InnerLoops
from orchestrator.load.receive import sockets
from orchestrator.load.receive.sockets import Sockets, WallClock
from tests.load.both import in_both


class Ear:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, bytes]] = []
        self.errors: list[OSError | None] = []

    def on_read(self, t: float, data: bytes) -> None:
        self.heard.append((t, data))

    def on_held_full(self, t: float) -> None: ...

    def on_writable(self) -> None: ...

    def on_closed(self, error: OSError | None) -> None:
        self.errors.append(error)


def pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """Connected over TCP on the loopback: (ours, theirs)."""
    with socket.create_server(("127.0.0.1", 0), backlog=count) as listener:
        made = []
        for _ in range(count):
            ours = socket.create_connection(listener.getsockname())
            ours.setblocking(False)
            made.append((ours, listener.accept()[0]))
    return made


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("not within some seconds")


async def until_heard(ear: Ear, reads: int) -> None:
    await until(lambda: len(ear.heard) >= reads)


def keep_the_loop_busy(seconds: float) -> None:
    time.sleep(seconds)


@in_both
def test_a_read_is_stamped_with_its_arrival_not_with_its_reading(inner: InnerLoops) -> None:
    async def one() -> None:
        watched, ear = Sockets(asyncio.get_running_loop(), 0.0005, inner.new_receiver), Ear()
        ((ours, theirs),) = pairs(1)
        watched.add(ours, ear)
        await asyncio.sleep(0.05)  # the kernel begins to stamp a little after it is asked to
        seen = []
        for number in range(12):
            before = perf_counter()
            theirs.send(b"x")
            after = perf_counter()
            keep_the_loop_busy(0.01)
            await until_heard(ear, number + 1)
            assert before <= ear.heard[number][0]
            seen.append((after - before, ear.heard[number][0] - before))
        took, arrived = min(seen)  # on a busy machine some sendings take long
        assert arrived < took + 0.001
        theirs.close()
        await until(lambda: bool(ear.errors))
        assert ear.errors[0] is None
        watched.remove(ours)
        watched.close()

    asyncio.run(one())


@in_both
def test_stamps_stay_exact_while_reads_are_gathered(
    monkeypatch: pytest.MonkeyPatch, inner: InnerLoops
) -> None:
    monkeypatch.setattr(sockets, "_BUSY_PER_S", 1000.0)  # so that a slow machine is busy too

    async def many() -> None:
        watched = Sockets(asyncio.get_running_loop(), 0.0005, inner.new_receiver)
        ears = [Ear() for _ in range(200)]
        made = pairs(len(ears))
        for (ours, _), ear in zip(made, ears, strict=True):
            watched.add(ours, ear)
        sent: list[list[float]] = [[] for _ in ears]
        begin = perf_counter()
        for number in range(3000):  # 15,000/s, each socket every 13 ms
            due = begin + number / 15000
            if due > perf_counter():
                await asyncio.sleep(max(0.0, due - perf_counter()))
            sent[number % 200].append(perf_counter())
            made[number % 200][1].send(b"x")
        assert watched.gathering
        await until(lambda: sum(len(data) for ear in ears for _, data in ear.heard) == 3000)
        # A read that holds several segments, as on a busy machine, has the stamp of the last.
        late = [
            t - times[last - 1]
            for times, ear in zip(sent, ears, strict=True)
            for (t, _), last in zip(ear.heard, accumulate(len(data) for _, data in ear.heard), strict=True)
        ]
        assert len(late) > 2 * len(ears)
        assert min(late) > -5e-6
        assert float(np.median(late)) < 0.0005
        await until(lambda: not watched.gathering)
        for ours, theirs in made:
            watched.remove(ours)
            theirs.close()
        watched.close()

    asyncio.run(many())


@in_both
def test_without_the_kernels_stamp_the_time_of_reading_counts(
    monkeypatch: pytest.MonkeyPatch, inner: InnerLoops
) -> None:
    monkeypatch.setattr(sockets, "_SO_TIMESTAMPNS", socket.SO_KEEPALIVE)  # accepted, and no stamp

    async def one() -> None:
        watched, ear = Sockets(asyncio.get_running_loop(), 0.0005, inner.new_receiver), Ear()
        ((ours, theirs),) = pairs(1)
        watched.add(ours, ear)
        theirs.send(b"x")
        keep_the_loop_busy(0.05)
        looked = perf_counter()
        await until(lambda: bool(ear.heard))
        assert looked <= ear.heard[0][0] <= perf_counter()
        watched.remove(ours)
        watched.close()
        theirs.close()

    asyncio.run(one())


def test_a_wall_clock_that_is_set_is_noticed_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = WallClock()
    first = clock.offset_ns()
    assert first is not None
    assert abs(first - (time.time_ns() - time.perf_counter_ns())) < 100_000
    assert clock.offset_ns() == first
    monkeypatch.setattr(sockets, "time_ns", lambda: time.time_ns() + 3_600_000_000_000)
    assert clock.offset_ns() is None
    later = clock.offset_ns()
    assert later is not None
    assert abs(later - first - 3_600_000_000_000) < 100_000
