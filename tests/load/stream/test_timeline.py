"""`timeline` and `result`: from the events of a stream to its record."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from orchestrator.load.stream.event_template import EventTemplate
from orchestrator.load.stream.timeline import Timeline
from tests.load.stream.events import counts, event, recorded, usage_only


def test_a_chunk_of_several_tokens_is_one_entry_with_its_share() -> None:
    found = recorded(
        [event("", total=0), event("a b c", total=3), event("d", total=4), event("e f", total=6)]
    )
    assert found.chunk_s.tolist() == [2.0, 3.0, 4.0]
    assert counts(found.chunk_tokens) == [3, 1, 2]
    assert (found.first_token_s, found.last_token_s, found.output_tokens) == (2.0, 4.0, 6)


def test_the_role_chunk_carries_no_token() -> None:
    assert recorded([event("", total=0), event("a", total=1)]).first_token_s == 2.0


def test_a_token_without_text_still_has_its_time() -> None:
    found = recorded([event("a", total=1), event("", total=2, finish="stop"), usage_only(2)])
    assert found.chunk_s.tolist() == [1.0, 2.0]
    assert counts(found.chunk_tokens) == [1, 1]
    assert found.finish_reason == "stop"


def test_a_trailing_usage_that_repeats_the_count_adds_no_time() -> None:
    found = recorded([event("a", total=1), usage_only(1), usage_only(1)])
    assert found.chunk_s.tolist() == [1.0]


def test_chunks_that_the_parser_swallowed_are_counted_with_the_next() -> None:
    found = recorded([event(reasoning="x", total=1, thought=1), event("y", total=4, thought=2)])
    assert counts(found.chunk_tokens) == [1, 3]
    assert counts(found.chunk_reasoning) == [1, 1]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_read_from_either_field(field: str) -> None:
    found = recorded(
        [
            event(reasoning="hm ", field=field, total=1, thought=1),
            event(reasoning="hm", field=field, total=2, thought=2),
            event("\n\n", total=3, thought=2),
            event("4", total=4, thought=2),
        ]
    )
    assert found.reasoning_text == "hm hm"
    assert found.response_text == "\n\n4"
    assert (found.first_token_s, found.first_visible_s) == (1.0, 4.0)
    assert (found.reasoning_tokens, counts(found.chunk_reasoning)) == (2, [1, 1, 0, 0])


def test_reasoning_tokens_beside_the_details_are_read_too() -> None:
    found = recorded(
        [event(reasoning="hm", total=2, reasoning_tokens=2), event("4", total=3, reasoning_tokens=2)]
    )
    assert (found.reasoning_tokens, counts(found.chunk_reasoning)) == (2, [2, 0])


@pytest.mark.parametrize("thought", [None, 0])
def test_without_counts_of_reasoning_the_text_of_each_chunk_decides(thought: int | None) -> None:
    found = recorded(
        [
            event(reasoning="hm", total=2, thought=thought),
            event("", total=3, thought=thought),
            event("4", total=5),
        ]
    )
    assert counts(found.chunk_reasoning) == [2, 1, 0]
    assert found.reasoning_tokens == 3


def test_a_total_that_comes_only_at_the_end_is_laid_over_the_first_tokens() -> None:
    found = recorded(
        [event(reasoning="a", total=2), event(reasoning="b", total=4), event("c", total=6),
         usage_only(6, reasoning_tokens=3)]
    )  # fmt: skip
    assert counts(found.chunk_reasoning) == [2, 1, 0]
    assert found.reasoning_tokens == 3


def test_a_standard_model_has_no_reasoning_tokens() -> None:
    found = recorded([event("a", total=1), event("b", total=2)])
    assert (found.reasoning_tokens, counts(found.chunk_reasoning)) == (0, [0, 0])


def test_a_request_that_shows_nothing_has_no_first_visible_time() -> None:
    assert recorded([event(reasoning="a", total=1), event(" \n", total=2)]).first_visible_s is None


def test_cached_and_prompt_tokens_come_from_the_last_usage() -> None:
    found = recorded([event("a", total=1), usage_only(1, prompt_tokens_details={"cached_tokens": 7})])
    assert (found.prompt_tokens, found.cached_tokens) == (9, 7)
    assert recorded([event("a", total=1)]).cached_tokens is None


def test_with_final_usage_the_entries_are_the_chunks_with_text() -> None:
    events = [event(""), event("a"), event(reasoning="b"), event(""), usage_only(5, reasoning_tokens=2)]
    for options in ({"counted": False}, {}):
        found = recorded(events, **options)
        assert found.chunk_s.tolist() == [2.0, 3.0]
        assert found.chunk_tokens is None
        assert found.chunk_reasoning is None
        assert (found.output_tokens, found.reasoning_tokens) == (5, 2)


def test_final_usage_without_a_count_of_reasoning_is_none_where_there_was_some_and_0_where_not() -> None:
    def tokens(*events: bytes) -> int | None:
        return recorded([*events, usage_only(5)], counted=False).reasoning_tokens

    assert tokens(event(reasoning="b"), event("a")) is None
    assert tokens(event("a")) == 0


def test_a_stream_that_never_came_to_its_usage_has_no_token_count() -> None:
    found = recorded([event("a"), event("b")], counted=False)
    assert (found.output_tokens, found.reasoning_tokens) == (None, None)
    assert found.chunk_s.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            b'{"error": {"message": "out of memory", "type": "EngineError", "code": 500}}',
            "EngineError: out of memory",
        ),
        (b'{"error": "gone"}', "gone"),
        (b'{"choices": [], "error": {"message": "gone"}}', "gone"),
        (b'{"object": "error", "message": "bad request"}', "bad request"),
        (b'{"object": "error", "code": 500}', '"code": 500'),
        (b'{"message": "bad request"}', "bad request"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"choices": [{"index": 0}]}', "choices"),
        (b"<html>", "not JSON in the stream: <html>"),
        (b'{"choices": [{"delta": {"content": 5}}]}', "content"),
    ],
)
def test_what_is_no_chunk_is_an_error_and_ends_the_reading(data: bytes, says: str) -> None:
    found = recorded([event("a", total=1), data, event("b", total=2)])
    assert says in str(found.error)
    assert found.response_text == "a"
    assert found.output_tokens == 1


@pytest.mark.parametrize(
    "odd", [b"{}", b'{"object": "chunk"}', b'{"choices": [], "usage": {"x": 1}, "message": "hello"}']
)
def test_what_says_nothing_is_read_past(odd: bytes) -> None:
    found = recorded([event("a", total=1), odd, event("b", total=2)])
    assert (found.error, found.response_text, found.output_tokens) == (None, "ab", 2)


THOUGHT, SAID = event(reasoning="hm", total=1), event("a", total=1)


@pytest.mark.parametrize(
    ("before", "options", "of", "taken"),
    [
        ([THOUGHT], {}, THOUGHT, True),
        ([SAID], {}, SAID, True),
        ([], {}, THOUGHT, False),  # the phase of the run has not begun
        ([], {}, SAID, False),
        ([THOUGHT], {}, SAID, False),
        ([SAID], {}, THOUGHT, False),
        ([event(" ", total=1)], {}, SAID, False),  # nothing visible yet
        ([SAID], {"counted": False}, SAID, False),
        ([event("a"), SAID], {}, SAID, False),  # a chunk without its count
        ([SAID, b"<html>"], {}, SAID, False),
    ],
)
def test_a_run_is_added_where_its_phase_has_begun_and_counts_are_sound(
    before: list[bytes], options: dict[str, Any], of: bytes, taken: bool
) -> None:
    timeline = Timeline(**options)
    for data in before:
        timeline.add(1.0, data)
    entries = len(timeline.chunk_s)
    template = EventTemplate.of(of)
    assert template is not None
    assert timeline.add_run(template, [2.0, 3.0, 4.0], ["b", "", "c"]) is taken
    assert list(timeline.chunk_s[entries:]) == ([2.0, 3.0, 4.0] if taken else [])
    if taken:
        stream = timeline.stream()
        assert stream.usage_mode == "continuous"
        assert list(stream.chunk_tokens) == [1, 1, 1, 1]
        assert list(stream.chunk_thinking) == [int(of is THOUGHT)] * 4
        assert (stream.output_tokens, (stream.reasoning_text or stream.response_text)[-2:]) == (4, "bc")


@pytest.mark.parametrize("details", ["none", 5, [], None, {}])
def test_details_that_hold_no_count_are_none(details: object) -> None:
    found = recorded([event("a", total=1, completion_tokens_details=details)])
    assert (found.error, found.output_tokens, found.reasoning_tokens) == (None, 1, 0)


def test_the_streams_arrays_hold_no_objects() -> None:
    stream = Timeline().stream()
    assert all(isinstance(value, array) for value in stream[:4])
