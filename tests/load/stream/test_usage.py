"""`usage`: counts and text check each other, and the timeline falls back to what is sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.load.stream.usage import COUNT_MAX, Counts, count_of
from orchestrator.metrics.requests import itl_s, tpot_s, ttft_s
from orchestrator.records import Record
from tests.load.stream.events import counts, event, recorded, usage_only

Script = Sequence[tuple[str, int | None]]


def read(script: Script, last: int | None = None, *, finish: int | None = None, **options: Any) -> Record:
    """Chunks of text with their counts at 1, 2, 3, … s after a role chunk at 1; ``finish``: the count of the
    chunk that ends the answer; ``last``: that of a report after it."""
    events = [event("", total=0), *(event(text, total=count) for text, count in script)]
    events.append(event(total=finish, finish="stop"))
    if last is not None:
        events.append(usage_only(last))
    return recorded(events, **options)


def texts(*numbers: int | None) -> list[tuple[str, int | None]]:
    return [(f"t{place}", number) for place, number in enumerate(numbers)]


@pytest.mark.parametrize(
    ("script", "last", "finish", "mode", "total"),
    [
        (texts(1, 2, 4, 5), 5, None, "continuous", 5),
        (texts(1, 2, 4, 5), None, 5, "continuous", 5),
        (texts(1, 2, 3), 4, None, "continuous", 4),  # a token without text ends it
        ([("", 2), ("a", 2), ("b", 3)], 3, None, "continuous", 3),  # text that was held back
        (texts(3, 3, 6), 6, None, "continuous", 6),  # two chunks with text from one step
        (texts(1, 2, 3), 0, None, "continuous", 3),  # an empty report says nothing
        (texts(None, None, None), 5, None, "final", 5),
        (texts(None, None, None), None, 5, "final", 5),
        (texts(None, 2, None), 5, None, "final", 5),
        (texts(None, None), None, None, "none", None),
        (texts(None, None), 0, None, "none", None),
        (texts(None, None, None), 2, None, "contradictory", None),  # each has a token at least
        (texts(None, None, None), None, 2, "contradictory", None),
        (texts(1, 2, 3, None, None), None, None, "contradictory", None),  # they stop
        (texts(3, 6, 9, None, None), None, None, "contradictory", None),
        (texts(3, 6, 9, None, None), 14, None, "final", 14),
        (texts(None, 3, None, 9), None, None, "final", 9),
        (texts(0, 0, 0, 0), 5, None, "late", 5),  # nothing until the last
        (texts(0, 0, 0, 0), None, 5, "late", 5),
        (texts(0, 0, 0, 4), None, None, "late", 4),  # the last one with text
        (texts(0, 0, 3, 4, 5), 5, None, "late", 5),  # nothing while thinking
        (texts(0, 1, 2, 3), 4, None, "late", 4),  # one chunk behind
        (texts(0, 1, 2, 3), None, None, "late", None),
        (texts(1, 1, 2, 3), 4, None, "late", 4),
        (texts(0, 0, 0), 0, None, "late", None),
        (texts(0, 0, 1, 2), 2, None, "contradictory", None),  # the reasoning is left out
        (texts(0, 0, 0, 0), 3, None, "contradictory", None),
        (texts(2, 4, 6, 6, 6, 6), 6, None, "ahead", 6),
        (texts(2, 4, 6, 6, 6, 6), None, None, "ahead", 6),
        (texts(1, 2, 6, 6, 6, 6), None, 6, "ahead", 6),
        (texts(6, 6, 6, 6, 6, 6), 6, None, "ahead", 6),
        (texts(6, 6, 6, 6, 6, 6), None, None, "ahead", None),  # of each, or of all to come
        (texts(1, 2, 3, 4, 4), None, None, "late", None),
        (texts(2, 3, 3), 3, None, "ahead", 3),
        (texts(2, 4, 6, 6, 6, 6), 7, None, "ahead", 7),  # a last token without text changes nothing
        (texts(3, 6, 9, 9, 9, 12), 12, None, "ahead", 12),
        (texts(3, 6, 6, 9, 9, 12), 12, None, "continuous", 12),
        (texts(1, 1, 1, 1), 4, None, "per_chunk", 4),
        (texts(1, 1, 1, 1), None, None, "per_chunk", 4),
        (texts(1, 1, 1, 1), None, 1, "per_chunk", 5),  # the end counts its own too
        (texts(1, 1, 1, 1), None, 4, "per_chunk", 4),  # the end has the total
        (texts(1, 1, 1, 1), 4, 4, "per_chunk", 4),
        (texts(1, 1, 1, 1), 5, None, "per_chunk", 5),
        (texts(1, 1), None, None, "per_chunk", 2),
        (texts(1, 1, 1, 1), 1, None, "per_chunk", 4),  # so is the report's, the last chunk's own
        (texts(1, 1, 1, 1), 1, 1, "per_chunk", 4),
        (texts(1, 2, 1, 1, 2), 2, None, "per_chunk", 7),
        (texts(3, 3, 3), 9, None, "per_chunk", 9),
        (texts(1, 4, 2, 1), 8, 8, "per_chunk", 8),
        (texts(1, 4, 2, 1), 8, None, "per_chunk", 8),
        (texts(1, 2, 1, 1, 2), None, None, "per_chunk", 7),
        (texts(1, 2, 3, 2, 3, 4), 6, None, "contradictory", 6),
        (texts(1, 2, 3, 2, 3, 4), 5, None, "contradictory", None),
        (texts(3, 6, 9, 6, 9), 5, None, "contradictory", 5),
        (texts(1, 2, 4, 3, 4, 6), None, None, "contradictory", None),
        (texts(1, 2, 3, 4), 3, None, "contradictory", None),  # corrected at the end
        (texts(2, 4, 6, 8), 5, None, "contradictory", 5),
        (texts(5, 6, 7, 8), None, 6, "contradictory", 6),
        (texts(None, 1, 1, 1), None, 1, "contradictory", None),
        (texts(None, 1, 1, 1), 4, None, "contradictory", 4),
    ],
)
def test_what_the_counts_are_is_told_from_them_and_the_text(
    script: Script, last: int | None, finish: int | None, mode: str, total: int | None
) -> None:
    found = read(script, last, finish=finish)
    assert (found.usage_mode, found.output_tokens) == (mode, total)
    assert found.response_text == "".join(text for text, _ in script)
    if mode == "continuous":
        assert sum(counts(found.chunk_tokens)) == total
    else:
        assert found.chunk_tokens is None
        assert found.chunk_reasoning is None
        assert itl_s(found) is None
        assert len(found.chunk_s) == len(script)


def test_a_total_where_the_text_ends_with_the_answer() -> None:
    for total, mode, known in ((3, "late", 3), (2, "contradictory", None)):
        found = recorded([event("a", total=0), event("b", total=0), event("c", total=total, finish="stop")])
        assert (found.usage_mode, found.output_tokens) == (mode, known)


def test_a_count_between_texts_is_not_of_those_after_it() -> None:
    found = recorded([event("a", total=3), event("", total=9), event("b"), event(finish="stop")])
    assert (found.usage_mode, found.output_tokens) == ("contradictory", None)


def test_an_answer_that_broke_off_contradicts_no_count() -> None:
    found = recorded([event("a", total=1), event("b", total=2), event("c"), event("d")])
    assert (found.usage_mode, found.output_tokens) == ("final", None)


def test_an_empty_report_at_the_end_takes_no_count_away() -> None:
    found = recorded([event("a", total=1), usage_only(0, prompt_tokens=0)])
    assert (found.usage_mode, found.output_tokens, found.prompt_tokens) == ("continuous", 1, 9)


def assert_a_run_counts_as_its_chunks(before: list[tuple[int, bool]], texts: list[bool]) -> None:
    in_run, one_by_one = Counts(), Counts()
    for each in (in_run, one_by_one):
        each.add(1, text=True, ends=False, apart=False)
        for count, text in before:
            each.add(count, text=text, ends=False, apart=False)
    for number, text in enumerate(texts, start=one_by_one.tokens + 1):
        if text:
            one_by_one.grow(number)
        else:
            one_by_one.add(number, text=False, ends=False, apart=False)
    in_run.add_run(len(texts), sum(texts), texts[-1])
    for name in Counts.__slots__:
        assert getattr(in_run, name) == getattr(one_by_one, name), name


@given(
    before=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=4),
    texts=st.lists(st.booleans(), min_size=1, max_size=9),
)
def test_a_run_counts_as_its_chunks_do_one_by_one(before: list[tuple[int, bool]], texts: list[bool]) -> None:
    assert_a_run_counts_as_its_chunks(before, texts)


@pytest.mark.parametrize("before", [[], [(2, True), (5, True)], [(3, False), (1, True)]])
@pytest.mark.parametrize("texts", [[True], [False], [True, True, True], [True, False], [False, True, True]])
def test_short_runs_count_as_their_chunks(before: list[tuple[int, bool]], texts: list[bool]) -> None:
    assert_a_run_counts_as_its_chunks(before, texts)


@pytest.mark.parametrize(
    "numbers",
    [(2, 4, 4, 4), (1, 4, 4, 4), (4, 4, 4, 4), (3, 3, 4, 4)],
)
def test_an_answer_ends_with_its_last_text_though_its_count_was_there_before(
    numbers: tuple[int, ...],
) -> None:
    found = read(texts(*numbers), 4)
    assert (found.usage_mode, found.output_tokens) == ("ahead", 4)
    assert (ttft_s(found), found.last_token_s, itl_s(found)) == (1.5, 5.0, None)
    assert tpot_s(found) == pytest.approx(1.0)


@pytest.mark.parametrize("numbers", [(0, 0, 0, 0), (0, 0, 2, 4), (0, 1, 2, 3), (1, 1, 1, 1), (1, 2, 1, 3)])
def test_the_times_are_those_of_the_text_where_the_counts_are_not_sound(numbers: tuple[int, ...]) -> None:
    """Sent at 0.5 s, the text comes at 2, 3, 4 and 5 s."""
    found = read(texts(*numbers), 4)
    assert ttft_s(found) == 1.5
    assert tpot_s(found) == pytest.approx(1.0)
    assert found.last_token_s == 5.0
    assert found.first_visible_s == 2.0


def test_reasoning_without_counts_is_not_shown_before_it_is_thought() -> None:
    events = [event(reasoning="hm", total=0), event(reasoning="hm", total=0), event("4", total=0)]
    found = recorded([*events, usage_only(3, reasoning_tokens=2)])
    assert (found.first_token_s, found.first_visible_s, found.reasoning_tokens) == (1.0, 3.0, 2)
    assert recorded([*events, usage_only(3, reasoning_tokens=4)]).reasoning_tokens is None


def test_a_stream_that_broke_off_before_its_late_counts_has_none() -> None:
    found = recorded([event("a", total=0), event("b", total=0)])
    assert (found.usage_mode, found.output_tokens) == ("late", None)


@pytest.mark.parametrize("numbers", [(1, 2, 3), (0, 0, 0), (0, 1, 2)])
def test_counts_that_were_not_asked_for_are_looked_at_for_the_total_alone(numbers: tuple[int, ...]) -> None:
    found = read(texts(*numbers), 3, counted=False)
    assert (found.usage_mode, found.output_tokens, found.chunk_tokens) == ("final", 3, None)


def test_a_final_count_that_is_one_of_many_is_not_taken_for_the_total() -> None:
    found = read(texts(1, 1, 1), counted=False)
    assert (found.usage_mode, found.output_tokens) == ("per_chunk", 3)


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"function_call": {"arguments": '{"a"'}},
        {"refusal": "I cannot"},
    ],
)
@pytest.mark.parametrize(
    ("numbers", "mode"), [((1, 2), "continuous"), ((None, None), "final"), ((0, 0), "late")]
)
def test_a_tool_call_is_output(delta: dict[str, Any], numbers: tuple[int | None, ...], mode: str) -> None:
    events = [
        {"choices": [{"delta": delta}]} | ({} if n is None else {"usage": {"completion_tokens": n}})
        for n in numbers
    ]
    found = recorded([event("", total=0), *map(orjson.dumps, events), usage_only(2)])
    assert (found.usage_mode, found.output_tokens) == (mode, 2)
    assert found.chunk_s.tolist() == [2.0, 3.0]
    assert found.first_visible_s == 2.0


NO_COUNTS: list[object] = [None, -1, 5.5, "five", "-5", "٥", True, [5], {}, "9" * 30]
WRITTEN: list[tuple[object, int | None]] = [(5, 5), (5.0, 5), ("5", 5), (0, 0), (COUNT_MAX, COUNT_MAX)]


@pytest.mark.parametrize(("value", "count"), [*WRITTEN, *((value, None) for value in NO_COUNTS)])
def test_a_count_is_a_whole_number_however_it_is_written(value: object, count: int | None) -> None:
    assert count_of(value) == count


@pytest.mark.parametrize("total", [COUNT_MAX + 1, 2**63, float(2**40), str(2**40)])
def test_a_count_above_every_answer_is_the_requests_own_error(total: object) -> None:
    found = recorded([event("a", total=1), orjson.dumps({"usage": {"completion_tokens": total}})])
    assert str(found.error).startswith("in the stream: a count of")
    assert (found.response_text, found.output_tokens) == ("a", 1)


def test_a_count_of_the_prompt_that_is_none_is_absent() -> None:
    odd = {"prompt_tokens": 2**40, "prompt_tokens_details": {"cached_tokens": "x"}, "total_tokens": "many"}
    found = recorded([event("a", total=1), usage_only(1, **odd)])
    assert (found.error, found.prompt_tokens, found.cached_tokens, found.output_tokens) == (
        None,
        None,
        None,
        1,
    )


@dataclass(frozen=True)
class Mixed:
    """A stream whose counts change their mode as it goes."""

    events: list[bytes]
    shown: str
    thought: str
    texts: int
    total: int
    told: int | None
    last_text_s: float


@st.composite
def mixed(draw: st.DrawFn) -> Mixed:
    modes = st.sampled_from(["all", "none", "zero", "behind", "own", "random", "null", "{}", "text"])
    events, shown, thought, out, before, spoken, last_text_s = [], "", "", 0, 0, 0, 0.0
    for _ in range(draw(st.integers(0, 4))):
        mode = draw(modes)
        for _ in range(draw(st.integers(0, 6))):
            new = draw(st.integers(0, 4))
            text = draw(st.sampled_from(["", "a", " ", "</think>", "é"]))
            field = draw(st.sampled_from(["content", "content", "reasoning", "tool_calls"]))
            before, out = out, out + max(new, bool(text))
            value: Any = [{"function": {"arguments": text}}] if field == "tool_calls" else text
            chunk: dict[str, Any] = {"choices": [{"delta": {field: value}}]}
            spoken += bool(value)
            shown += text if field == "content" else ""
            thought += text if field == "reasoning" else ""
            count = {"all": out, "zero": 0, "behind": before, "own": out - before, "text": str(out)}
            if mode in count:
                chunk["usage"] = {
                    "completion_tokens": count[mode],
                    "reasoning_tokens": draw(st.integers(-1, 9)),
                }
            elif mode == "random":
                chunk["usage"] = {"completion_tokens": draw(st.integers(0, 30))}
            elif mode != "none":
                chunk["usage"] = None if mode == "null" else {}
            events.append(orjson.dumps(chunk))
            last_text_s = float(len(events)) if value else last_text_s
    told = draw(st.none() | st.just(out) | st.integers(1, 40))
    if told is not None:
        events.append(usage_only(told))
    return Mixed(events, shown, thought, spoken, out, told, last_text_s)


@settings(max_examples=500)
@given(stream=mixed(), asked=st.booleans(), opened=st.booleans())
def test_whatever_the_counts_the_timeline_holds_together(stream: Mixed, asked: bool, opened: bool) -> None:
    found = recorded(stream.events, counted=asked, opened=opened)
    assert found.error is None
    whole = found.reasoning_text + found.response_text
    expected = stream.thought + stream.shown
    assert (
        whole == expected
        if stream.thought
        else whole == expected.replace("</think>", "", 1)
        or (found.reasoning_from == "none" and whole == expected)
    )
    assert all(a <= b for a, b in pairwise(found.chunk_s))
    assert found.usage_mode != "continuous" or asked
    if found.usage_mode == "continuous":
        assert sum(counts(found.chunk_tokens)) == found.output_tokens
        if found.reasoning_tokens is None:  # the server has more of them than of tokens
            assert found.chunk_reasoning is None
        else:
            assert sum(counts(found.chunk_reasoning)) == found.reasoning_tokens
        assert min(counts(found.chunk_tokens), default=1) > 0
    else:
        assert found.chunk_tokens is None
        assert len(found.chunk_s) == stream.texts
    if stream.told and found.usage_mode in ("final", "late"):
        assert found.output_tokens == stream.told
    if stream.told and stream.told >= stream.texts and found.usage_mode == "per_chunk":
        assert found.output_tokens == stream.told
    assert found.output_tokens is None or found.output_tokens >= stream.texts
    assert not stream.texts or found.last_token_s is not None
    assert not stream.last_text_s or (found.last_token_s or 0.0) >= stream.last_text_s
    if found.reasoning_tokens is not None and found.output_tokens is not None:
        assert 0 <= found.reasoning_tokens <= found.output_tokens
