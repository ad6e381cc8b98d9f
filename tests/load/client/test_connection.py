"""One connection, fed bytes directly: what is sent again, what ends a call, and what changes nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.load.client import connection as module
from orchestrator.load.stream.timeline import Timeline
from tests.load.client.line import Line
from tests.load.raw_server import EVENT, OK, STREAM


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, to be set."""
    clock = [100.0]
    monkeypatch.setattr(module, "perf_counter", lambda: clock[0])
    return clock


def used_line(now: list[float]) -> Line:
    line = Line()
    line.ask()
    line.feed(now[0], OK)
    assert [end.outcome for end in line.ends] == ["ok"]
    return line


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
@pytest.mark.parametrize(("after_s", "again"), [(0.0, True), (0.2499, True), (0.25, False), (1.0, False)])
def test_only_a_connection_that_was_idle_and_closes_at_once_lets_a_request_be_sent_again(
    now: list[float], error: OSError | None, after_s: float, again: bool
) -> None:
    line = used_line(now)
    now[0] = 200.0
    call = line.ask()
    now[0] += after_s
    line.connection.on_closed(error)
    assert line.closed
    assert (line.again == [call], call.retries, len(line.ends)) == (again, int(again), 2 - again)
    assert call.sent_s == 200.0
    if not again:
        what = "reset" if error else "closed by the server"
        assert line.ends[1][:3] == (
            200.0 + after_s,
            "error",
            f"the connection was {what} before the response",
        )


def test_a_request_is_not_sent_again_from_a_fresh_connection_after_a_byte_or_twice(now: list[float]) -> None:
    fresh = Line()
    fresh.ask()
    fresh.connection.on_closed(None)
    begun = used_line(now)
    begun.ask()
    begun.feed(now[0], b"H")
    begun.connection.on_closed(None)
    twice = used_line(now)
    call = twice.ask()
    twice.connection.on_closed(None)
    second = used_line(now)
    now[0] += 5
    second.connection.start(call, b"POST")
    second.connection.on_closed(None)
    assert [line.again for line in (fresh, begun, second)] == [[]] * 3
    assert [line.ends[-1].outcome for line in (fresh, begun, second)] == ["error"] * 3
    assert (call.sent_s, call.retries) == (100.0, 1), "its first sending counts"


def test_the_status_is_that_of_the_call_that_ended_though_another_begins_at_once(now: list[float]) -> None:
    line = Line()
    line.on_release = lambda: cast(None, line.ask())
    line.ask()
    line.feed(now[0], OK)
    assert [(end.outcome, end.status) for end in line.ends] == [("ok", 200)]


def test_bytes_from_before_the_request_are_not_its_answer(now: list[float]) -> None:
    line = used_line(now)
    now[0] = 300.0
    line.ask()
    line.feed(299.9, OK)
    assert line.ends[1][1:4] == ("error", "the server sent something before it was asked", None)
    assert line.closed
    assert line.ends[1].stream.response_text == ""


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "zstd"])
@pytest.mark.parametrize("status", ["200 OK", "503 Busy"])
def test_a_compressed_response_is_named_as_such(now: list[float], encoding: str, status: str) -> None:
    line = Line()
    line.ask()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\nContent-Encoding: {encoding}\r\n"
    line.feed(100.0, head.encode() + b"Content-Length: 4\r\n\r\n\x1f\x8b\x08\x00")
    said = f"HTTP {status[:3]}: compressed (Content-Encoding: {encoding.lower()}), which was not asked for"
    assert (line.ends[0].outcome, line.ends[0].error) == ("error", said)


def test_a_response_whose_encoding_is_identity_is_not_compressed(now: list[float]) -> None:
    line = Line()
    line.ask()
    line.feed(100.0, OK.replace(b"\r\n", b"\r\nContent-Encoding: identity\r\n", 1))
    assert line.ends[0].outcome == "ok"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = STREAM + b"Transfer-Encoding: chunked\r\n\r\n"
TOKENS = [
    chunk(
        b"data: %b\n\n"
        % orjson.dumps({"choices": [{"delta": {"content": "t"}}], "usage": {"completion_tokens": n}})
    )
    for n in range(1, 40)
]
END = [chunk(b"data: %b\n\n" % EVENT.replace(b'"completion_tokens":1', b'"completion_tokens":40'))]
END += [chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"]
WHOLE = [CHUNKED + b"".join(TOKENS + END), OK, b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno"]
BEHIND = st.one_of(
    st.sampled_from([*WHOLE, CHUNKED, TOKENS[0], CHUNKED + TOKENS[0], b"HTT", b"0\r\n\r\n"]),
    st.binary(min_size=1, max_size=30).filter(lambda data: data.strip(b"\r\n")),
)


def told(data: bytes, ends: list[int]) -> Line:
    """What a connection makes of it when the reads end there, each at the time of its number."""
    line = Line()
    line.ask()
    line.connection._asked_s = 0.0
    for number, (start, end) in enumerate(pairwise([0, *ends])):
        line.feed(float(number), data[start:end])
    return line


@settings(max_examples=300, deadline=None)
@example(answer=WHOLE[0], behind=CHUNKED + TOKENS[0], data=None)
@given(answer=st.sampled_from(WHOLE), behind=BEHIND, data=st.data())
def test_what_comes_behind_an_answer_changes_nothing_of_it_and_is_nobodys(
    answer: bytes, behind: bytes, data: Any
) -> None:
    expected = told(answer, [len(answer)])
    size = len(answer) + len(behind)
    cuts = {len(answer) - 5} if data is None else data.draw(st.sets(st.integers(1, size - 1), max_size=6))
    line = told(answer + behind, sorted({*cuts, size}))
    line.flush()
    assert line.closed, "a connection on which more came is not used again"
    (end,) = line.ends
    assert end[1:4] == expected.ends[0][1:4]
    assert end.stream._replace(
        chunk_s=expected.ends[0].stream.chunk_s, first_visible_s=None
    ) == expected.ends[0].stream._replace(first_visible_s=None)
    assert len(end.stream.chunk_s) == len(expected.ends[0].stream.chunk_s)


PIECES = st.one_of(
    st.sampled_from([CHUNKED, OK, *TOKENS[:3], *END, STREAM, b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]),
    st.sampled_from([b"".join(TOKENS), b"fffffff\r\n", b"-1\r\n", b"HTTP/1.1 101 Up\r\nUpgrade: x\r\n\r\n"]),
    st.binary(max_size=30),
)


@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(PIECES, max_size=12), calls=st.integers(1, 3), data=st.data())
def test_whatever_a_server_sends_each_call_ends_once(
    pieces: list[bytes], calls: int, data: st.DataObject
) -> None:
    line, asked = Line(), 0
    sent = b"".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=12)) | {0, len(sent)})
    for number, (start, end) in enumerate(pairwise(cuts)):
        if line.connection.call is None and not line.closed and asked < calls:
            line.ask()
            line.connection._asked_s = 0.0
            asked += 1
        line.feed(float(number), sent[start:end])
    line.settle()
    assert len(line.ends) + len(line.again) == asked
    assert line.closed


def test_an_answer_that_cannot_be_read_is_the_requests_error(
    now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(timeline: Timeline, t: float, data: bytes) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(Timeline, "add", fail)
    line = Line()
    line.ask()
    line.feed(100.0, OK)
    said = "the response cannot be read (RuntimeError('odd'))"
    assert (line.ends[0].outcome, line.ends[0].error) == ("error", said)
