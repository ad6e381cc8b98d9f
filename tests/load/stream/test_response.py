"""`ResponseReader`, with the events and timelines that it feeds: any split of any stream gives the same
timeline, which is the one that the stream was made from."""

from __future__ import annotations

import json
import re
import select
import socket
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from time import perf_counter

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.load.client.loops import InnerLoops
from orchestrator.load.receive.receiver import HELD_FULL, READ
from orchestrator.load.stream.event_template import EventTemplate
from orchestrator.load.stream.response import ProtocolError, ResponseReader
from orchestrator.load.stream.sse import EventStream
from orchestrator.load.stream.timeline import Stream, Timeline
from tests.load.both import C, in_both
from tests.load.stream.fed import FedReader


@dataclass(frozen=True)
class Wire:
    """A whole response: its bytes, where its HTTP chunks end, and what it says."""

    data: bytes
    chunk_ends: tuple[int, ...]
    tokens: tuple[int, ...]
    reasoning: tuple[int, ...]
    reasoning_text: str
    response_text: str


TEXT = st.text(st.sampled_from('ab \n\r\t\\"{}:,<>/é日🙂\u2028'), min_size=1, max_size=6)
CHUNK = st.tuples(st.integers(0, 4), st.booleans(), TEXT)  # new tokens at least, reasoning?, text
# Lines that mean nothing, even where one looks like an event.
NOISE = st.lists(
    st.sampled_from([b": c", b"event: x", b"id", b': see data: {"choices":[{"delta":{"content":"X"}}]}']),
    max_size=1,
)


@st.composite
def wires(draw: st.DrawFn) -> Wire:
    newlines = draw(st.sampled_from([[b"\n"], [b"\n", b"\r\n", b"\r"]]))
    space = draw(st.sampled_from([b" ", b""]))
    chunks = draw(st.lists(CHUNK, max_size=8))

    def joined(lines: list[bytes]) -> bytes:
        data = b""
        for line in lines:
            end = draw(st.sampled_from(newlines))
            # CR then LF would be the one end of the line before, not an empty line.
            data += line + (b"\r" if not line and end == b"\n" and data.endswith(b"\r") else end)
        return data

    def event(payload: bytes) -> bytes:
        before, after = draw(NOISE), draw(NOISE)
        return joined([*before, b"data:" + space + payload, *after, b""])

    def body(choices: list[dict[str, object]], out: int, thought: int) -> bytes:
        usage = {"completion_tokens": out, "prompt_tokens": 5}
        details = {"completion_tokens_details": {"reasoning_tokens": thought}}
        return event(orjson.dumps({"choices": choices, "usage": usage | details}))

    events = [body([{"delta": {"role": "assistant", "content": ""}}], 0, 0)]
    out = thought = 0
    for number, (least, reasons, text) in enumerate(chunks):
        # Each text has a token, of its own chunk or of the one before; the last one's is new.
        shared = 0 < number < len(chunks) - 1 and out > number and chunks[number - 1][0] > 0
        new = max(least, 0 if shared else 1)
        chunks[number] = new, reasons, text
        out += new
        thought += new * reasons
        delta = {"reasoning" if reasons else "content": text}
        events.append(body([{"delta": delta, "finish_reason": None}], out, thought))
    events.append(body([{"delta": {}, "finish_reason": "stop"}], out, thought))
    events.append(body([], out, thought))
    events.append(event(b"[DONE]"))

    payload = b"".join(events)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    if draw(st.booleans()):
        head += b"content-length: %d\r\n\r\n" % len(payload)
        data, ends = head + payload, [len(head) + end for end in accumulate(map(len, events))]
    else:
        # An event a chunk, as vLLM does; anything; and where a chunk would look like a whole event.
        whole = set(accumulate(map(len, events[:-1])))
        anywhere = st.sets(st.integers(1, len(payload) - 1), max_size=12)
        tempting = st.sets(st.sampled_from([m.start() for m in re.finditer(b"data: ?", payload)] or [1]))
        cuts = draw(st.just(whole) | anywhere | tempting | tempting.map(whole.union))
        parts = [payload[a:b] for a, b in pairwise([0, *sorted(cuts - {0}), len(payload)])]
        head += b"transfer-encoding: chunked\r\n\r\n"
        frames = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts] + [b"0\r\n\r\n"]
        data, ends = head + b"".join(frames), [len(head) + end for end in accumulate(map(len, frames))]
    entries = [(new, new * reasons) for new, reasons, _ in chunks if new]
    return Wire(
        data=data,
        chunk_ends=tuple(ends),
        tokens=tuple(new for new, _ in entries),
        reasoning=tuple(thought for _, thought in entries),
        reasoning_text="".join(text for _, reasons, text in chunks if reasons),
        response_text="".join(text for _, reasons, text in chunks if not reasons),
    )


def read(wire: Wire, ends: list[int]) -> Stream:
    """The timeline when the reads end at those offsets; each read's time is its number."""
    timeline = Timeline()
    fed = FedReader(timeline)
    reader = fed.reader
    for number, (start, end) in enumerate(pairwise([0, *ends])):
        assert not reader.complete
        fed.feed(float(number), wire.data[start:end])
    assert timeline.error is None
    assert timeline.done
    assert reader.complete
    assert reader.status == 200
    return timeline.stream()


def check(wire: Wire, ends: list[int], by_byte: Stream) -> None:
    found = read(wire, ends)
    assert tuple(found.chunk_tokens) == wire.tokens
    each = [b - a for a, b in pairwise([0, *found.chunk_reasoning])]
    assert tuple(each) == wire.reasoning
    assert found.reasoning_text == wire.reasoning_text
    assert found.response_text == wire.response_text
    assert found.counted
    assert found.finish_reason == "stop"
    # A chunk's time is that of the read that holds the byte which completes its event.
    assert list(found.chunk_s) == [bisect_right(ends, int(offset)) for offset in by_byte.chunk_s]
    assert found._replace(chunk_s=by_byte.chunk_s, first_visible_s=None) == by_byte._replace(
        first_visible_s=None
    )
    if by_byte.first_visible_s is None:
        assert found.first_visible_s is None
    else:
        assert found.first_visible_s == bisect_right(ends, int(by_byte.first_visible_s))


class Wired:
    """A reader whose reads come over a socket, through a receiver."""

    def __init__(self, inner: InnerLoops, timeline: Timeline) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._epoll = select.epoll()
        self._receiver = inner.new_receiver(self._epoll, False)
        self.held = self._receiver.add(self._ours)
        self._epoll.register(self._ours.fileno(), select.EPOLLIN)
        self.reader = ResponseReader(self.held, inner.split)
        self.reader.begin(timeline)

    def feed(self, data: bytes) -> tuple[float, float]:
        """When it was read, at the earliest and at the latest."""
        self._theirs.sendall(data)
        before = perf_counter()
        for kind, fd, t, read, _ in self._receiver.poll(None, 1.0):
            assert fd == self._ours.fileno()
            if kind == READ:
                self.reader.feed(t, read)
            else:
                assert kind == HELD_FULL
                self.reader.flush()
        return before, perf_counter()

    def close(self) -> None:
        self.reader.close()
        self._receiver.close()
        for each in (self._epoll, self._ours, self._theirs):
            each.close()


@in_both
@settings(max_examples=150, deadline=None)
@given(wire=wires(), cuts=st.data())
def test_a_stream_held_back_by_a_receiver_gives_the_same_timeline(
    inner: InnerLoops, wire: Wire, cuts: st.DataObject
) -> None:
    size = len(wire.data)
    at_chunks = cuts.draw(st.sets(st.sampled_from(wire.chunk_ends)), "reads end at")
    anywhere = cuts.draw(st.sets(st.integers(1, size - 1), max_size=6), "and at")
    ends = sorted(at_chunks | anywhere | {size})
    expected = read(wire, ends)
    timeline = Timeline()
    wired = Wired(inner, timeline)
    try:
        spans = [wired.feed(wire.data[start:end]) for start, end in pairwise([0, *ends])]
        assert wired.reader.complete
        assert timeline.error is None
        found = timeline.stream()
    finally:
        wired.close()
    assert found._replace(chunk_s=expected.chunk_s, first_visible_s=None) == expected._replace(
        first_visible_s=None
    )
    for t, number in zip(found.chunk_s, expected.chunk_s, strict=True):
        earliest, latest = spans[int(number)]
        assert earliest <= t <= latest


@pytest.mark.parametrize("at_once", [1, 3])
def test_each_token_of_a_long_stream_that_was_held_has_its_own_reads_time(at_once: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    form = '{"choices":[{"delta":{"content":"%s"}}],"usage":{"completion_tokens":%d}}'
    events = [b"data: %b\n\n" % (form % (f"t{n} ", n)).encode() for n in range(1, 301)]
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    timeline = Timeline()
    wired = Wired(C, timeline)
    wired.feed(head)
    spans = [wired.feed(b"".join(chunks[n : n + at_once])) for n in range(0, 300, at_once)]
    assert wired.held.last_s() == pytest.approx(spans[-1][0], abs=0.01)
    wired.reader.flush()
    stream = timeline.stream()
    wired.close()
    assert list(stream.chunk_tokens) == [1] * 300
    assert stream.response_text == "".join(f"t{n} " for n in range(1, 301))
    for number, t in enumerate(stream.chunk_s):
        earliest, latest = spans[number // at_once]
        assert earliest <= t <= latest


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(wire=wires(), cuts=st.data())
def test_any_split_of_any_stream_gives_the_same_timeline(wire: Wire, cuts: st.DataObject) -> None:
    size = len(wire.data)
    by_byte = read(wire, list(range(1, size + 1)))
    anywhere = cuts.draw(st.sets(st.integers(1, size - 1), max_size=20), "reads end at")
    at_chunks = cuts.draw(st.sets(st.sampled_from(wire.chunk_ends)), "and after the HTTP chunks that end at")
    for ends in (anywhere, at_chunks, anywhere | at_chunks, set(wire.chunk_ends), set[int]()):
        check(wire, sorted(ends | {size}), by_byte)


@settings(deadline=None)
@given(
    lines=st.lists(
        st.sampled_from([b"data: a", b"data:b", b"data:", b": c", b"retry: 3", b"data", b""]), max_size=12
    ),
    newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    size=st.integers(1, 7),
)
def test_events_are_the_same_however_their_bytes_are_cut(
    lines: list[bytes], newline: bytes, size: int
) -> None:
    data = b"".join(line + newline for line in lines)
    whole = EventStream().feed(data)
    parser = EventStream()
    assert [e for i in range(0, len(data), size) for e in parser.feed(data[i : i + size])] == whole

    expected: list[bytes] = []
    pending: list[bytes] = []
    for line in lines:
        if not line and pending:
            expected.append(b"\n".join(pending))
            pending = []
        elif line.startswith(b"data:"):
            pending.append(line.removeprefix(b"data:").removeprefix(b" "))
    assert whole == expected


@given(data=st.binary(max_size=60), head=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 "]))
def test_no_bytes_raise_anything_but_a_protocol_error(data: bytes, head: bytes) -> None:
    fed = FedReader(Timeline())
    reader = fed.reader
    try:
        fed.feed(0.0, head + data)
    except ProtocolError:
        return
    assert not reader.is_stream or reader.status == 200


NAMES = ["choices", "usage", "delta", "error", "content", "reasoning", "finish_reason", "completion_tokens"]
NAMES += ["prompt_tokens_details", "completion_tokens_details", "reasoning_tokens", "prompt_tokens"]
NAMES += ["thinking", "reasoning_details", "tool_calls", "type", "text", "message"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, inner))
    ),
    max_leaves=20,
)
EVENT = st.fixed_dictionaries({"choices": st.lists(JSON, max_size=2), "usage": JSON}) | JSON
PAYLOAD = st.binary(max_size=40) | EVENT.map(lambda event: json.dumps(event).encode())


@pytest.mark.slow
@settings(max_examples=500)
@example([b'{"choices":[],"usage":{"reasoning_tokens":0.0,"completion_tokens":1}}'], False)
@given(payloads=st.lists(PAYLOAD, max_size=3), inline=st.booleans())
def test_an_event_that_makes_no_sense_is_an_error_and_never_an_exception(
    payloads: list[bytes], inline: bool
) -> None:
    timeline = Timeline(inline=inline)
    for payload in payloads:
        timeline.add(0.0, payload)
        EventTemplate.of(payload)
    stream = timeline.stream()
    assert len(stream.chunk_s) == len(stream.chunk_tokens) == len(stream.chunk_thinking)
    assert all(n > 0 for n in stream.chunk_tokens) or not stream.counted
    assert sum(stream.chunk_tokens) == (stream.output_tokens or 0) or not stream.counted
    (stream.response_text + stream.reasoning_text).encode()  # it can be stored


@pytest.mark.parametrize("extension", [b";x=y", b" ", b""])
def test_chunk_extensions_are_read_past(extension: bytes) -> None:
    event = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"completion_tokens":1}}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    timeline = Timeline()
    fed = FedReader(timeline)
    reader = fed.reader
    fed.feed(0.0, head)
    fed.feed(1.0, b"%x\r\n: hi\n\n\r\n" % 6)
    fed.feed(2.0, b"%x%b\r\n%b\r\n" % (len(event), extension, event))
    reader.flush()
    assert list(timeline.chunk_s) == [2.0]


def test_a_chunk_that_contains_what_looks_like_another_is_read_by_its_length() -> None:
    event = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    looks_like_a_chunk = b"%x\r\n%b\r\n" % (len(event), event)
    chunk = b": a comment\n" + looks_like_a_chunk
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    first = b"%x\r\n%b\r\n" % (len(event), event)
    wire = [head, first, b"%x\r\n: a comment\n" % len(chunk), looks_like_a_chunk, b"\r\n0\r\n\r\n"]
    timeline = Timeline()
    fed = FedReader(timeline)
    reader = fed.reader
    for data in wire:
        fed.feed(0.0, data)
    assert reader.complete
    assert timeline.error is None
