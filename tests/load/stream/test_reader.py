"""`ResponseReader` at responses whose reading is written beside them."""

from __future__ import annotations

import pytest

from orchestrator.load.receive.receiver import READ
from orchestrator.load.stream.event_template import split_none
from orchestrator.load.stream.response import ProtocolError, ResponseReader
from orchestrator.load.stream.timeline import Timeline
from tests.load.stream.events import event
from tests.load.stream.fed import FedReader, HeldInMemory

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def said(text: str, total: int) -> bytes:
    return chunk(b"data: %b\n\n" % event(text, total=total))


def in_two_lines(text: str, total: int, newline: bytes) -> bytes:
    return chunk(b"data: %b\n\n" % event(text, total=total).replace(b",", b",%bdata: " % newline, 1))


def fed(*reads: bytes) -> FedReader:
    """Each read's time is its number."""
    reader = FedReader(Timeline(), split_none)
    for number, read in enumerate(reads):
        reader.feed(float(number), read)
    return reader


def test_a_plain_body_is_kept_with_all_that_is_known_of_it() -> None:
    reader = fed(
        b"HTTP/1.1 503 Busy\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{", b'"a": 12}'
    ).reader
    assert (reader.status, reader.body, reader.encoding) == (503, b'{"a": 12}', b"")
    assert (reader.started, reader.complete, reader.keep_alive) == (True, True, True)
    assert (reader.is_stream, reader.until_close, reader.excess) == (False, False, False)


@pytest.mark.parametrize(
    ("head", "is_stream", "encoding", "until_close"),
    [
        (b"200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5", True, b"", False),
        (b"200 OK\r\nCONTENT-TYPE: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked",
         True, b"", False),
        (b"200 OK\r\nContent-Type: text/event-stream", True, b"", True),
        (b"200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5", False, b"", False),
        (b"500 No\r\nContent-Type: text/event-stream\r\nContent-Length: 5", False, b"", False),
        (b"200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: GZIP ", False, b"gzip", True),
        (b"200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: identity", True, b"", True),
    ],
)  # fmt: skip
def test_what_a_head_says(head: bytes, is_stream: bool, encoding: bytes, until_close: bool) -> None:
    reader = fed(b"HTTP/1.1 " + head + b"\r\n\r\n").reader
    assert (reader.is_stream, reader.encoding, reader.until_close) == (is_stream, encoding, until_close)
    assert not reader.complete


def test_a_reader_that_has_read_nothing_has_not_begun() -> None:
    reader = FedReader(Timeline(), split_none).reader
    assert (reader.started, reader.complete, reader.keep_alive, reader.excess) == (False,) * 4
    assert (reader.status, reader.body, reader.encoding, reader.is_stream) == (None, b"", b"", False)
    assert reader.until_close


def test_a_server_that_means_to_close_is_not_asked_again() -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    assert (fed(head).reader.complete, fed(head).reader.keep_alive) == (True, False)


def test_an_announcement_is_not_the_response() -> None:
    first = fed(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert not first.reader.complete
    first.feed(1.0, b"HTTP/1.1 404 None\r\nContent-Length: 2\r\n\r\nno")
    assert (first.reader.status, first.reader.body, first.reader.complete) == (404, b"no", True)
    assert not first.reader.excess


@pytest.mark.parametrize("more", [b"HTTP/1.1 500 No\r\nContent-Length: 1\r\n\r\nx", b"junk"])
def test_what_comes_behind_a_response_changes_nothing_of_it(more: bytes) -> None:
    reader = fed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", more).reader
    assert (reader.status, reader.body, reader.complete, reader.excess) == (200, b"ok", True, True)


def test_a_body_that_is_no_stream_is_kept_to_its_first_64_kilobytes() -> None:
    part = b"x" * 16384
    reader = fed(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", *[part] * 6).reader
    assert len(reader.body) == 65536


@pytest.mark.parametrize("junk", [b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_response_is_an_error(junk: bytes) -> None:
    with pytest.raises(ProtocolError, match="not an HTTP response"):
        fed(junk)


def test_a_fault_of_a_callback_is_told_as_what_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(timeline: Timeline, t: float, data: bytes) -> None:
        raise MemoryError("full")

    monkeypatch.setattr(Timeline, "add", fails)
    with pytest.raises(ProtocolError, match=r"^the response cannot be read \(MemoryError\('full'\)\)$"):
        fed(STREAM, chunk(b": c\ndata: {}\n\n"))


@pytest.mark.parametrize(
    ("reads", "times"),
    [
        ([said("a", 1), said("b", 2), said("c", 3)], [1.0, 2.0, 3.0]),
        ([said("a", 1) + said("b", 2), said("c", 3)], [1.0, 1.0, 2.0]),
        ([said("a", 1), said("b", 2)[:30], said("b", 2)[30:], said("c", 3)], [1.0, 3.0, 4.0]),
        ([said("a", 1) + said("b", 2)[:30], said("b", 2)[30:] + said("c", 3)], [1.0, 2.0, 2.0]),
        ([said("a", 1), said("b", 2)[:-2], b"\r\n" + said("c", 3)], [1.0, 2.0, 3.0]),
        ([said("a", 1), said("b", 2)[:-1], b"\n" + said("c", 3)], [1.0, 2.0, 3.0]),
        ([said("a", 1), said("b", 2)[:1], said("b", 2)[1:] + said("c", 3)], [1.0, 3.0, 3.0]),
        ([said("a", 1), chunk(b": nothing\n\n"), said("b", 2), said("c", 3)], [1.0, 3.0, 4.0]),
        ([said("a", 1), chunk(b"data: \n\n"), said("b", 2), said("c", 3)], [1.0, 3.0, 4.0]),
        ([chunk(b"data: %b\r\n\r\n" % event("a", total=1)), said("b", 2), said("c", 3)], [1.0, 2.0, 3.0]),
        ([said("a", 1), chunk(b"data: %b\r\n\n" % event("b", total=2)), said("c", 3)], [1.0, 2.0, 3.0]),
        ([said("a", 1), chunk(b"data:%b\n\n" % event("b", total=2)), said("c", 3)], [1.0, 2.0, 3.0]),
        ([said("a", 1), chunk(b"data: %b\n" % event("b", total=2)), chunk(b"\n"), said("c", 3)], [1, 3, 4]),
        ([said("a", 1), b"0000" + said("b", 2), said("c", 3)], [1.0, 2.0, 3.0]),
        ([said("a", 1), in_two_lines("b", 2, b"\r"), said("c", 3)], [1.0, 2.0, 3.0]),
        ([said("a", 1), in_two_lines("b", 2, b"\n"), said("c", 3)], [1.0, 2.0, 3.0]),
    ],
)
def test_an_event_has_the_time_of_the_read_that_completes_it(reads: list[bytes], times: list[float]) -> None:
    timeline = Timeline()
    reader = FedReader(timeline, split_none)
    for number, read in enumerate([STREAM, *reads, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"]):
        reader.feed(float(number), read)
        reader.reader.flush()
    assert (timeline.error, timeline.done, reader.reader.complete) == (None, True, True)
    stream = timeline.stream()
    assert (list(stream.chunk_s), stream.response_text) == (times, "abc")
    assert list(stream.chunk_tokens) == [1, 1, 1]


def test_reads_are_held_only_from_one_whole_event_to_the_next() -> None:
    held = HeldInMemory()
    reader = ResponseReader(held, split_none)
    timeline = Timeline()
    reader.begin(timeline)
    whole = said("a", 1)

    def holds_after(read: bytes) -> bool:
        reader.feed(0.0, read)
        return held.put(1.0, whole) is None

    assert held.put(0.0, whole) == READ, "before the head"
    assert not holds_after(STREAM)
    assert holds_after(whole)
    assert not holds_after(whole[:20])
    assert holds_after(whole[20:])
    assert not holds_after(chunk(b"data: {}\n"))
    assert holds_after(chunk(b"\n"))
    assert not holds_after(b"0\r\n\r\n")
    assert (reader.complete, timeline.stream().response_text) == (True, "a" * 5)
    reader.begin(Timeline())
    assert held.put(0.0, whole) == READ


def test_a_wrong_size_is_no_chunk() -> None:
    with pytest.raises(ProtocolError, match="not an HTTP response"):
        fed(STREAM, said("a", 1), b"zz" + said("b", 2), said("c", 3)).reader.flush()


def test_the_next_response_begins_anew() -> None:
    reader = fed(b"HTTP/1.1 503 Busy\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nno")
    timeline = Timeline()
    reader.reader.begin(timeline)
    assert (reader.reader.status, reader.reader.body, reader.reader.encoding) == (None, b"", b"")
    assert (reader.reader.started, reader.reader.complete, reader.reader.keep_alive) == (False,) * 3
    for number, read in enumerate([STREAM, said("a", 1), b"0\r\n\r\n"]):
        reader.feed(float(number), read)
    reader.reader.flush()
    assert (reader.reader.status, reader.reader.complete, timeline.stream().response_text) == (200, True, "a")
