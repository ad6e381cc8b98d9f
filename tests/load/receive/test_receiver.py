"""The two receivers, in Python and in C, report the same, but that only the one in C holds reads."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.load.receive.receiver import (
    CLOSED,
    EVENT_END,
    HELD_AT_MOST,
    HELD_FULL,
    LARGE,
    READ,
    READ_SIZE,
    WRITABLE,
    HeldReads,
    NewReceiver,
    Report,
)
from tests.load.both import PYTHON, C

EVENT = b"event" + EVENT_END


class Ends:
    """One socket in a receiver, and its other end."""

    def __init__(self, new_receiver: NewReceiver) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.ours = socket.create_connection(listener.getsockname())
            self.theirs = listener.accept()[0]
        self.ours.setblocking(False)
        self.epoll = select.epoll()
        self.receiver = new_receiver(self.epoll, False)
        self.held: HeldReads = self.receiver.add(self.ours)
        self.epoll.register(self.ours.fileno(), select.EPOLLIN)

    def send(self, data: bytes) -> list[Report]:
        """What is reported once ``data`` has arrived."""
        self.theirs.sendall(data)
        return self.poll()

    def poll(self) -> list[Report]:
        select.select([self.epoll.fileno()], [], [], 5)
        return list(self.receiver.poll(None, 1.0))

    def close(self) -> None:
        self.receiver.close()
        for each in (self.epoll, self.ours, self.theirs):
            each.close()


@pytest.fixture(params=[PYTHON, C], ids=["python", "c"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    ends = Ends(request.param.new_receiver)
    yield ends
    ends.close()


def test_a_read_is_reported_with_its_bytes_and_time(ends: Ends) -> None:
    before = perf_counter()
    (report,) = ends.send(EVENT)
    assert (report.kind, report.fd, report.data) == (READ, ends.ours.fileno(), EVENT)
    assert before <= report.t <= perf_counter()
    assert not ends.receiver.stamped(), "the offset of the clocks was not known"
    assert ends.held.take() is None
    assert ends.held.last_s() == 0


@pytest.fixture
def holding() -> Iterator[Ends]:
    ends = Ends(C.new_receiver)
    yield ends
    ends.close()


def test_the_plain_receiver_reports_every_read() -> None:
    ends = Ends(PYTHON.new_receiver)
    ends.held.hold(True)
    assert [(r.kind, r.data) for r in ends.send(EVENT)] == [(READ, EVENT)]
    assert ends.held.take() is None
    ends.close()


def test_whole_events_are_held_until_they_are_taken_and_other_reads_are_reported(holding: Ends) -> None:
    ends = holding
    ends.held.hold(True)
    assert ends.send(EVENT) == []
    assert ends.send(2 * EVENT) == []
    assert [(r.kind, r.data) for r in ends.send(b"no end")] == [(READ, b"no end")]
    reads = ends.held.take()
    assert reads is not None
    assert (list(reads.ends), reads.wire) == ([len(EVENT), 3 * len(EVENT)], 3 * EVENT)
    assert list(reads.times) == sorted(reads.times)
    assert ends.held.last_s() == reads.times[-1]
    assert ends.held.take() is None
    ends.held.hold(False)
    assert [r.kind for r in ends.send(EVENT)] == [READ]


def test_held_reads_are_to_be_taken_when_they_are_many_or_large(holding: Ends) -> None:
    ends = holding
    ends.held.hold(True)
    for _ in range(HELD_AT_MOST - 1):
        assert ends.send(EVENT) == []
    assert [r.kind for r in ends.send(EVENT)] == [HELD_FULL]
    reads = ends.held.take()
    assert reads is not None
    assert len(reads.times) == HELD_AT_MOST
    assert [r.kind for r in ends.send(b"x" * LARGE + EVENT_END)] == [HELD_FULL]


def test_reads_and_their_sockets_are_counted_anew_each_time(ends: Ends) -> None:
    for _ in range(3):
        ends.send(b"x")
    assert tuple(ends.receiver.counts()) == (3, 1, 0)
    assert tuple(ends.receiver.counts()) == (0, 0, 0)


def test_a_socket_that_accepts_bytes_and_one_that_is_closed_are_reported(ends: Ends) -> None:
    ends.epoll.modify(ends.ours.fileno(), select.EPOLLIN | select.EPOLLOUT)
    assert [r.kind for r in ends.poll()] == [WRITABLE]
    ends.epoll.modify(ends.ours.fileno(), select.EPOLLIN)
    ends.theirs.close()
    assert [(r.kind, r.error) for r in ends.poll()] == [(CLOSED, 0)]


def test_a_reset_is_reported_with_its_errno(ends: Ends) -> None:
    ends.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    ends.theirs.close()
    (report,) = ends.poll()
    assert report.kind == CLOSED
    assert report.error != 0


STEP = st.one_of(
    st.tuples(st.just("send"), st.binary(max_size=40) | st.sampled_from([EVENT, 3 * EVENT, EVENT_END])),
    st.tuples(st.just("send"), st.integers(LARGE - 8, 2 * READ_SIZE).map(lambda n: b"y" * n + EVENT_END)),
    st.tuples(st.just("hold"), st.sampled_from([b"", b"on"])),
    st.tuples(st.just("take"), st.just(b"")),
    st.tuples(st.just("many"), st.integers(1, 2 * HELD_AT_MOST).map(lambda n: b"." * n)),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, max_size=30), stamped=st.booleans())
def test_no_byte_is_lost_or_changes_its_place_whatever_is_held(
    steps: list[tuple[str, bytes]], stamped: bool
) -> None:
    ends, sent, seen, times = Ends(C.new_receiver), b"", b"", [0.0]
    ends.ours.setsockopt(socket.SOL_SOCKET, 35, int(stamped))

    def take() -> bytes:
        reads = ends.held.take()
        if reads is None:
            return b""
        times.extend(reads.times)
        assert reads.ends[-1] == len(reads.wire)
        assert list(reads.ends) == sorted(reads.ends)
        assert len(reads.times) <= HELD_AT_MOST
        return reads.wire

    def send(data: bytes) -> None:
        nonlocal sent, seen
        if not data:
            return
        ends.theirs.sendall(data)
        sent += data
        for report in ends.poll():
            assert report.kind in (READ, HELD_FULL)
            seen += take() + report.data
            times.append(report.t)

    for what, data in steps:
        if what == "send":
            send(data)
        elif what == "many":
            for _ in data:
                send(EVENT)
        elif what == "hold":
            ends.held.hold(bool(data))
        else:
            seen += take()
    seen += take()
    # What was sent last may still be on its way; whatever is lost stays away for a second too.
    while len(seen) < len(sent) and select.select([ends.epoll.fileno()], [], [], 1.0)[0]:
        for report in ends.poll():
            seen += take() + report.data
            times.append(report.t)
        seen += take()
    assert seen == sent
    assert times == sorted(times)
    ends.close()
