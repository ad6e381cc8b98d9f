"""What senders leave open: nothing, whether they come to their end or are stopped before."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import pytest

from orchestrator.load.client.linux import Tickets
from orchestrator.load.client.senders import BatchSender, ClosedSender, OpenSender, Sender

DUE = [(0.0, 0), (0.01, 1)]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def leaves_no_file_open(
    make: Callable[[asyncio.AbstractEventLoop, Callable[[int, float], None]], Sender],
    *,
    until_sent: int | None = None,
) -> None:
    """Started and left until request ``until_sent`` is sent, or closed before it begins. Closed twice."""

    async def body() -> None:
        loop, sent = asyncio.get_running_loop(), asyncio.Event()
        before = open_files()
        sender = make(loop, lambda index, at_s: sent.set() if index == until_sent else None)
        if until_sent is not None:
            sender.start(perf_counter())
            await asyncio.wait_for(sent.wait(), 10)
        sender.close()
        sender.close()
        assert sender.exhausted
        assert open_files() == before

    asyncio.run(body())


@pytest.fixture
def tickets() -> Iterator[Tickets]:
    made = Tickets.create(2)
    yield made
    os.close(made.fd)


@pytest.mark.parametrize("until_sent", [None, 0, 1])
def test_an_open_sender_closes_its_timer(until_sent: int | None) -> None:
    leaves_no_file_open(lambda loop, send: OpenSender(loop, send, DUE), until_sent=until_sent)


def test_an_open_sender_with_nothing_to_send_closes_its_timer() -> None:
    leaves_no_file_open(lambda loop, send: OpenSender(loop, send, []))


def test_an_open_sender_that_has_sent_all_needs_no_timer_any_more() -> None:
    async def body() -> None:
        before, sent = open_files(), asyncio.Event()
        loop = asyncio.get_running_loop()
        sender = OpenSender(loop, lambda index, at_s: sent.set() if index == 1 else None, DUE)
        sender.start(perf_counter())
        await asyncio.wait_for(sent.wait(), 10)
        assert open_files() == before

    asyncio.run(body())


def test_a_closed_sender_that_never_began_closes_its_timer(tickets: Tickets) -> None:
    leaves_no_file_open(lambda loop, send: ClosedSender(loop, send, 1, tickets, lambda: None))


def test_a_batch_sender_that_never_began_closes_its_timer(tickets: Tickets) -> None:
    reads, writes = os.pipe()

    def make(loop: asyncio.AbstractEventLoop, send: Callable[[int, float], None]) -> BatchSender:
        return BatchSender(
            loop,
            send,
            [[0], [1]],
            size=1,
            total=2,
            tickets=tickets,
            barrier_read_fd=reads,
            barrier_write_fds=[writes],
            on_exhausted=lambda: None,
        )

    leaves_no_file_open(make)
    os.close(reads)
    os.close(writes)


def test_a_closed_sender_that_finds_no_request_left_says_so(tickets: Tickets) -> None:
    while tickets.take() is not None:
        pass

    async def body() -> None:
        told = asyncio.Event()
        sender = ClosedSender(asyncio.get_running_loop(), lambda *_: None, 2, tickets, told.set)
        sender.start(perf_counter())
        await asyncio.wait_for(told.wait(), 10)
        assert sender.exhausted
        sender.close()

    asyncio.run(body())


def test_a_batch_sender_without_a_request_of_the_last_batch_says_so(tickets: Tickets) -> None:
    reads, writes = os.pipe()

    async def body() -> None:
        began, told = asyncio.Event(), asyncio.Event()
        sender = BatchSender(
            asyncio.get_running_loop(),
            lambda index, at_s: began.set(),
            [[1], []],
            size=2,
            total=3,
            tickets=tickets,
            barrier_read_fd=reads,
            barrier_write_fds=[writes],
            on_exhausted=told.set,
        )
        sender.start(perf_counter())
        await asyncio.wait_for(began.wait(), 10)
        assert not told.is_set()
        sender.finished(perf_counter())
        sender.finished(perf_counter())  # another process's, which opens the last batch
        await asyncio.wait_for(told.wait(), 10)
        assert sender.exhausted
        sender.close()

    asyncio.run(body())
    os.close(reads)
    os.close(writes)
