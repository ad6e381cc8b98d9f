"""A run of events that follow one template reads as it does one by one; other events are left alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.load.client import loops
from orchestrator.load.stream.event_template import EventTemplate, split_none
from orchestrator.load.stream.timeline import Stream, Timeline
from tests.load.both import C
from tests.load.stream.fed import FedReader

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 7, "total_tokens": 107, "completion_tokens": 100}


def event(
    text: str, tokens: int, *, field: str = "content", thought: int | None = None, **more: Any
) -> bytes:
    usage: dict[str, Any] = {"prompt_tokens": 7, "total_tokens": 7 + tokens, "completion_tokens": tokens}
    if thought is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    choice = {"index": 0, "delta": {field: text}, "logprobs": None, "finish_reason": None}
    return orjson.dumps({"id": "100%", "choices": [choice], "usage": usage} | more)


def chunk(payload: bytes) -> bytes:
    data = b"data: " + payload + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def form(payload: bytes) -> EventTemplate:
    found = EventTemplate.of(payload)
    assert found is not None
    return found


BEFORE, _, AFTER = (b"data: " + event("x", 5)).partition(b'x"}')
MIDDLE = b'"}' + AFTER[: AFTER.index(b"12")]


def written_again(template: EventTemplate, wire: bytes, tokens: int) -> list[str] | None:
    """The texts of what `event` made, if the wire is just what the template writes of them."""
    texts = [piece[: piece.find(MIDDLE)] for piece in wire.split(BEFORE)[1:]]
    if not texts or template.written(texts, tokens) != wire:
        return None
    try:
        found: list[str] = orjson.loads(b'["%b"]' % b'","'.join(texts))
    except orjson.JSONDecodeError:
        return None
    return found if len(found) == len(texts) else None


TEXT = st.text(st.sampled_from('ab "\\\n\té日🙂{}:,%'), max_size=4)


@given(texts=st.lists(TEXT, min_size=1, max_size=20), tokens=st.integers(0, 2000))
def test_texts_come_back_whatever_they_hold(texts: list[str], tokens: int) -> None:
    wire = b"".join(chunk(event(text, number)) for number, text in enumerate(texts, tokens + 1))
    assert form(event("x", 5)).read(wire, tokens, C.split) == texts


@settings(max_examples=500)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=6),
    tokens=st.integers(0, 2000),
    data=st.data(),
)
def test_nothing_is_read_but_what_would_be_written_just_so(
    texts: list[str], tokens: int, data: st.DataObject
) -> None:
    wire = bytearray(b"".join(chunk(event(text, n)) for n, text in enumerate(texts, tokens + 1)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(wire) - 1))
        with_what = data.draw(st.sampled_from([b"", b"0", b"1", b'"', b"\r\n", b"\\", b'","', b"x" * 300]))
        wire[at : at + data.draw(st.integers(0, 2))] = with_what
    template, tampered = form(event("x", 5)), bytes(wire)
    assert template.read(tampered, tokens, C.split) == written_again(template, tampered, tokens)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "thinking"])
def test_while_thinking_the_reasoning_count_goes_up_too(field: str) -> None:
    template = form(event("x", 5, field=field, thought=4))
    assert (template.thinking, template.reasoning, template.tokens) == (True, 4, 5)
    wire = b"".join(chunk(event("y", n, field=field, thought=n - 1)) for n in range(98, 103))
    assert template.read(wire, 97, C.split) == ["y"] * 5
    wrong = wire.replace(b'"reasoning_tokens":99', b'"reasoning_tokens":98')
    assert template.read(wrong, 97, C.split) is None


@pytest.mark.parametrize(
    "odd",
    [
        event("b", 4),  # two tokens
        event("b", 2),  # none
        event("b", 3, id="other"),
        event("b", 3, error=None),
        event("b", 3, field="reasoning"),
        event("b", 3).replace(b'"b"', b'"b","c":"d"'),
        event("b", 3).replace(b'"b"', b'"\x01"'),
        event("b", 3).replace(b'"b"', b'"\xff"'),
        event("b", 3).replace(b'"b"', b'"\\ud83d"'),
        event("b", 3).replace(b'"b"', b'"b\\"'),
        event("b", 3).replace(b":null", b": null", 1),
        b"[DONE]",
    ],
)
def test_no_event_is_taken_from_a_run_with_an_odd_one(odd: bytes) -> None:
    wire = chunk(event("a", 2)) + chunk(odd) + chunk(event("c", 4))
    assert form(event("x", 1)).read(wire, 1, C.split) is None


MOST = 2**30 - 1


@pytest.mark.parametrize(
    ("payload", "learned"),
    [
        (event("x", 5, thought=2), (False, 2, 5)),
        (event("x", 5, field="reasoning", thought=5), (True, 5, 5)),
        (event("x", 5, field="reasoning"), (True, None, 5)),
        (event("x", 0), (False, None, 0)),
        (event("x", 5, usage={"completion_tokens": 5}), (False, None, 5)),
        (event("x", 5, usage={"completion_tokens": 5, "total_tokens": 5}), (False, None, 5)),
        (event("x", MOST, usage={"completion_tokens": MOST, "total_tokens": MOST}), (False, None, MOST)),
        (event("x", 5).replace(b'"content"', b'"role":"assistant","content"'), (False, None, 5)),
    ],
)
def test_what_a_template_is_learned_from(payload: bytes, learned: tuple[bool, int | None, int]) -> None:
    found = form(payload)
    assert (found.thinking, found.reasoning, found.tokens) == learned


def test_while_answering_the_reasoning_count_stays() -> None:
    wire = b"".join(chunk(event("y", n, thought=2)) for n in range(98, 103))
    assert form(event("x", 5, thought=2)).read(wire, 97, C.split) == ["y"] * 5
    assert form(event("x", 5, thought=3)).read(wire, 97, C.split) is None


@pytest.mark.parametrize("tokens", [MOST + 1, 2**31])
def test_counts_that_are_too_high_for_the_fast_way_are_left_to_the_parser(tokens: int) -> None:
    assert EventTemplate.of(event("x", 5, usage={"completion_tokens": tokens})) is None
    assert EventTemplate.of(event("x", 5, usage={"completion_tokens": 5, "total_tokens": tokens})) is None


def test_what_is_compiled_may_be_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRATOR_NATIVE", raising=False)
    wire = chunk(event("a", 98)) + chunk(event("b", 99)) + chunk(event("c", 100))
    assert form(event("x", 5)).read(wire, 97, loops.choose().split) == ["a", "b", "c"]
    assert form(event("x", 5)).read(wire, 98, loops.choose().split) is None
    assert form(event("x", 5)).read(wire, 97, split_none) is None


def test_an_event_is_written_with_the_next_tokens_number_and_its_own_size() -> None:
    """9 to 10 and 99 to 100: a number gets longer, and the chunk with it."""
    for tokens in (8, 98):
        wire = b"".join(chunk(event(text, tokens + n)) for n, text in enumerate(("a", "bc", ""), 1))
        assert form(event("x", 5)).written([b"a", b"bc", b""], tokens) == wire


def test_a_wrong_chunk_size_is_not_taken() -> None:
    wire = chunk(event("a", 2))
    assert form(event("x", 1)).read(b"f" + wire[1:], 1, C.split) is None
    assert form(event("x", 1)).read(b"0" + wire, 1, C.split) is None
    assert form(event("x", 1)).read(wire[:-1], 1, C.split) is None
    assert form(event("x", 1)).read(b"", 1, C.split) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"[DONE]",
        b"{}",
        event("", 1),
        event("x", 1, choices=[]),
        event("x", 1, usage=None),
        event("x", 1, usage=USAGE | {"completion_tokens": 1.0}),
        event("x", 1, usage=USAGE | {"reasoning_tokens": 101}),
        event("x", 1, field="tool_calls"),
        event("x", 1, usage=USAGE | {"total_tokens": None}),
        event("x", 1, usage=USAGE | {"total_tokens": "107"}),
        event("x", 1, usage=USAGE | {"total_tokens": {}}),
        event("x", 1, usage=USAGE | {"total_tokens": 2**63}),
        event("x", 1, usage=USAGE | {"completion_tokens": 2**32}),
        event("x", 1, usage=USAGE | {"completion_tokens_details": "none"}),
        event("x", 1, choices=[{"delta": ["x"]}]),
        event("x", 1, choices=[{"delta": {"content": ["x"]}}]),
        event("x", 1, choices=[{"delta": {"content": "x", "tool_calls": [{}]}}]),
        event("x", 1).replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        event("x", 1).replace(b'"content":"x"', b'"content":"x","reasoning":"y"'),
        event("x", 1).replace(b'"content":"x"', b'"content": "x"'),
        # The text is found first where it is not the text, and the count where it is not the count.
        b'{"a":{"content":"x"},' + event("x", 1)[1:],
        event("x", 1)[:-1] + b',"usage_before":{"completion_tokens":1}}',
    ],
)
def test_nothing_is_learned_where_the_form_is_not_plain(payload: bytes) -> None:
    assert EventTemplate.of(payload) is None


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The payloads of a stream that thinks and then answers, most of them alike."""
    counted, field = draw(st.booleans()), draw(st.sampled_from(["reasoning", "thinking", "content"]))
    out = thought = 0
    payloads = []
    for is_thinking in (True, False):
        made_at = 0
        for _ in range(draw(st.integers(0, 60))):
            odd = draw(st.integers(0, 30))
            out += 1 if odd else draw(st.integers(0, 3))
            thought = out if is_thinking else thought
            made_at += odd == 1
            text = draw(TEXT)
            name = field if is_thinking else "content"
            payloads.append(
                event(text, out, field=name, thought=thought if counted else None, created=made_at)
            )
    return payloads


def read(payloads: list[bytes], together: list[int], *, flush: bool) -> Stream:
    """``together``: how many events each read holds, in turns."""
    timeline = Timeline()
    fed = FedReader(timeline)
    reader = fed.reader
    fed.feed(0.0, HEAD)
    at = number = 0
    while at < len(payloads):
        count = together[number % len(together)]
        fed.feed(float(at), b"".join(map(chunk, payloads[at : at + count])))
        if flush:
            reader.flush()
        at += count
        number += 1
    fed.feed(float(at), chunk(b"[DONE]") + b"0\r\n\r\n")
    assert (reader.complete, timeline.done, timeline.error) == (True, True, None)
    return timeline.stream()


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(payloads=streams(), together=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_stream_read_in_runs_is_the_stream_read_one_by_one(
    payloads: list[bytes], together: list[int]
) -> None:
    in_runs, one_by_one = (read(payloads, together, flush=flush) for flush in (False, True))
    assert in_runs == one_by_one
    assert not in_runs.counted or sum(in_runs.chunk_tokens) == in_runs.output_tokens
    assert all(a <= b for a, b in pairwise(in_runs.chunk_s))


def test_in_a_plain_stream_few_events_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    add = Timeline.add

    def parse(timeline: Timeline, t: float, data: bytes) -> None:
        parsed.append(t)
        add(timeline, t, data)

    monkeypatch.setattr(Timeline, "add", parse)
    stream = read([event("a", n) for n in range(1, 601)], [1], flush=False)
    assert list(stream.chunk_tokens) == [1] * 600
    assert list(stream.chunk_s) == [float(n) for n in range(600)]
    assert len(parsed) < 50


@pytest.mark.parametrize("behind", [0, 1])
def test_counts_of_reasoning_go_on_through_a_run(behind: int) -> None:
    """The server's count of reasoning tokens may be one behind."""
    thinking = [event("a", n, field="reasoning", thought=n - behind) for n in range(1, 61)]
    answer = [event("b", n, thought=60 - behind) for n in range(61, 121)]
    found = read(thinking + answer, [1], flush=False)
    thought = list(range(1 - behind, 61 - behind)) + [60 - behind] * 60
    assert list(found.chunk_reasoning) == thought
    assert list(found.chunk_thinking) == [1] * 60 + [0] * 60
    assert (found.reasoning_text, found.response_text) == ("a" * 60, "b" * 60)
    assert (found.output_tokens, found.reasoning_tokens) == (120, 60 - behind)


def test_without_counts_of_reasoning_a_run_has_none() -> None:
    found = read([event("a", n, field="reasoning") for n in range(1, 61)], [1], flush=False)
    assert list(found.chunk_reasoning) == [-1] * 60
    assert list(found.chunk_thinking) == [1] * 60


def test_chunks_without_text_in_a_run_are_no_text() -> None:
    """Else the text that was held back would be more than there are tokens."""
    payloads = [event("a" if n % 5 else "", n) for n in range(1, 61)] + [event("b", 60), event("c", 61)]
    found = read(payloads, [1], flush=False)
    assert (found.usage_mode, found.output_tokens, len(found.chunk_s)) == ("continuous", 61, 61)
    assert found.response_text == "a" * 48 + "bc"
