"""Sound answers that are written in an odd way are read as what they are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orchestrator.load.stream.timeline import Timeline
from tests.load.stream.fed import FedReader

EVENTS = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}],"usage":{"completion_tokens":0}}\n\n',
    b'data: {"choices":[{"delta":{"content":"4"}}],"usage":{"completion_tokens":1}}\n\n',
    b'data: {"choices":[{"delta":{"content":"2"}}],"usage":{"completion_tokens":2}}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":2}}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
)


def read_events(events: Sequence[bytes], size: int | None) -> Timeline:
    """Each event a chunk and a read of its own, or all of it in reads of ``size`` bytes."""
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events] + [b"0\r\n\r\n"]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = head + b"".join(chunks)
    reads = [head, *chunks] if size is None else [wire[i : i + size] for i in range(0, len(wire), size)]
    timeline = Timeline()
    fed = FedReader(timeline)
    for number, data in enumerate(reads):
        fed.feed(float(number), data)
    fed.reader.flush()
    assert fed.reader.complete
    return timeline


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize(
    "noise",
    [
        b"data:\n\n",
        b"data: \n\n",
        b"data: null\n\n",
        b"event: ping\ndata: {}\n\n",
        b'event: ping\ndata: {"choices":[{"delta":{"content":"X"}}]}\n\n',
        b"event: ping\n\n",
        b"data: 2026-01-01\nevent: heartbeat\n\n",
        b": ping\n\n",
        b'data: {"type":"ping"}\n\n',
        b'data: {"id":"x","usage":null}\n\n',
        b'data: {"choices":null}\n\n',
        b'data: {"choices":[{"index":0,"delta":null}]}\n\n',
        b'data: {"choices":[],"usage":{}}\n\n',
        b'data: {"choices":[],"usage":"none"}\n\n',
        b'data: {"choices":[],"usage":{"completion_tokens":1.5}}\n\n',
    ],
)
def test_what_keeps_a_connection_open_changes_nothing(noise: bytes, size: int | None) -> None:
    expected = read_events(EVENTS, size).stream()
    for at in range(len(EVENTS)):
        timeline = read_events([*EVENTS[:at], noise, *EVENTS[at:]], size)
        assert timeline.error is None, at
        found = timeline.stream()
        assert found._replace(chunk_s=expected.chunk_s, first_visible_s=None) == expected._replace(
            first_visible_s=None
        )
        assert len(found.chunk_s) == 2


@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_a_byte_order_mark_before_the_first_event_is_no_part_of_it(size: int | None) -> None:
    marked = read_events([b"\xef\xbb\xbf" + EVENTS[1], *EVENTS[2:]], size)
    assert (marked.error, marked.stream().response_text) == (None, "42")
    inside = read_events([*EVENTS[:2], b"\xef\xbb\xbf" + EVENTS[2], *EVENTS[3:]], size)
    assert (inside.error, inside.stream().response_text) == (None, "4")  # a field without a meaning


@pytest.mark.parametrize(
    "last",
    [
        b'{"choices":[{"index":0,"finish_reason":"stop"}]}',
        b'{"choices":[{"delta":null,"finish_reason":"stop"}]}',
        b'{"choices":[{"delta":{"content":null},"finish_reason":"stop"}],"usage":null}',
        b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{}}',
        b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":2.0}}',
        b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":"2"}}',
        b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":null}}',
        b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":2,"total_tokens":"7"}}',
        b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":2,"total_tokens":null}}',
    ],
)
def test_the_end_of_an_answer_is_read_however_it_is_written(last: bytes) -> None:
    timeline = read_events([*EVENTS[:3], b"data: " + last + b"\n\n", EVENTS[5]], None)
    found = timeline.stream()
    assert (timeline.error, timeline.finish_reason, found.response_text) == (None, "stop", "42")
    assert (found.usage_mode, found.output_tokens) == ("continuous", 2)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_a_number_that_json_does_not_have_is_null(number: bytes) -> None:
    chunk = EVENTS[1].replace(b'{"delta"', b'{"logprobs":[%b],"delta"' % number)
    timeline = read_events([EVENTS[0], chunk, *EVENTS[2:]], None)
    assert (timeline.error, timeline.stream().response_text) == (None, "42")
    assert list(timeline.stream().chunk_tokens) == [1, 1]


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ((b'{"text":"42","finish_reason":"stop"}',), "42"),
        ((b'{"text":"4"}', b'{"text":"2"}', b'{"text":"","finish_reason":"stop"}'), "42"),
        ((b'{"message":{"role":"assistant","content":"42"},"finish_reason":"stop"}',), "42"),
        ((b'{"delta":{"content":"42"}}', b'{"message":{"content":"42"},"finish_reason":"stop"}'), "42"),
        ((b'{"delta":{"content":"42"},"message":{"content":"42"},"finish_reason":"stop"}',), "42"),
    ],
)
def test_an_answer_without_deltas_is_not_lost(events: Sequence[bytes], text: str) -> None:
    chunks = [b'data: {"choices":[%b]}\n\n' % event for event in events]
    timeline = read_events([*chunks, EVENTS[4], EVENTS[5]], None)
    found = timeline.stream()
    assert (timeline.error, timeline.finish_reason, found.response_text) == (None, "stop", text)
    assert (found.output_tokens, found.first_visible_s is not None) == (2, True)


@pytest.mark.parametrize("unseen", ["\ufeff", "\u200b", " \u2060\n"])
def test_what_is_not_seen_before_a_tag_does_not_hide_it(unseen: str) -> None:
    said = f"{unseen}<think>hm</think>42".encode()
    chunk = b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":"stop"}]}\n\n'
    found = read_events([chunk % said.replace(b"\n", b"\\n"), EVENTS[5]], None).stream()
    assert (found.reasoning_from, found.reasoning_text, found.response_text) == ("tags", "hm", "42")


def test_counts_inside_the_choice_are_counts() -> None:
    form = b'data: {"choices":[{"delta":{%b},"usage":{"completion_tokens":%d,"prompt_tokens":5}}]}\n\n'
    inside = [form % (b'"content":"4"', 1), form % (b'"content":"2"', 2)]
    inside.append((form % (b"", 2)).replace(b'"usage"', b'"finish_reason":"stop","usage"'))
    found = read_events([*inside, EVENTS[5]], None).stream()
    assert (found.usage_mode, found.output_tokens, found.prompt_tokens) == ("continuous", 2, 5)


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        (b'"prompt_tokens_details":{"cached_tokens":3}', 3),
        (b'"prompt_tokens_details":{"cached_tokens":0},"cached_tokens":9', 0),
        (b'"cached_tokens":3', 3),
        (b'"prompt_cache_hit_tokens":3,"prompt_cache_miss_tokens":2', 3),
        (b'"prompt_tokens_details":null', None),
    ],
)
def test_cached_tokens_by_whichever_name(usage: bytes, cached: int | None) -> None:
    last = b'data: {"choices":[],"usage":{"completion_tokens":2,%b}}\n\n' % usage
    assert read_events([*EVENTS[:4], last, EVENTS[5]], None).stream().cached_tokens == cached


@pytest.mark.parametrize(
    ("half", "says"),
    [
        (rb"a\ud83db", "a\ufffdb"),
        (rb"\ude00", "\ufffd"),
        (rb"\ud83d\ude00", "\U0001f600"),
        (b"a\xf0\x9f", "a\ufffd"),
        (rb"\\ud83d\ud83d", "\\ud83d\ufffd"),
    ],
)
@pytest.mark.parametrize("size", [None, 1])
def test_half_a_character_is_replaced_and_the_stream_goes_on(
    half: bytes, says: str, size: int | None
) -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"%b"}}],"usage":{"completion_tokens":1}}\n\n' % half
    timeline = read_events([EVENTS[0], chunk, *EVENTS[2:]], size)
    found = timeline.stream()
    assert (timeline.error, found.response_text) == (None, says + "2")
    assert list(found.chunk_tokens) == [1, 1]


def test_a_run_with_a_half_character_in_it_is_read_one_by_one() -> None:
    form = b'data: {"choices":[{"delta":{"content":"%b"}}],"usage":{"completion_tokens":%d}}\n\n'
    events = [form % (rb"\ud83d" if n == 40 else b"a", n) for n in range(1, 101)]
    found = read_events([*events, EVENTS[5]], None).stream()
    assert list(found.chunk_tokens) == [1] * 100
    assert found.response_text == "a" * 39 + "\ufffd" + "a" * 60


@pytest.mark.parametrize("finish", [b'""', b"null"])
def test_an_error_beside_choices_is_an_error_and_an_empty_finish_reason_is_none(finish: bytes) -> None:
    event = b'data: {"choices":[{"delta":{"content":"4"},"finish_reason":%b}]}\n\n' % finish
    timeline = read_events([event, EVENTS[5]], None)
    assert (timeline.error, timeline.finish_reason) == (None, None)
    broken = b'data: {"error":{"message":"gone"},"choices":[{"delta":{},"finish_reason":%b}]}\n\n' % finish
    timeline = read_events([event, broken, EVENTS[5]], None)
    assert timeline.error == "in the stream: gone"
