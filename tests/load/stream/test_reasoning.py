"""Reasoning that cannot be read or is counted wrongly, and where the answer begins."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.load.stream.events import counts, event, recorded, usage_only


def test_a_tool_call_ends_the_thinking() -> None:
    call = {"choices": [{"delta": {"tool_calls": [{}]}}], "usage": {"completion_tokens": 2}}
    found = recorded([event(reasoning="hm", total=1), orjson.dumps(call), event("", total=3)])
    assert counts(found.chunk_reasoning) == [1, 0, 0]
    assert (found.first_token_s, found.first_visible_s) == (1.0, 2.0)


@pytest.mark.parametrize(
    "before", [["<think>hm", "hm</think>\n"], ["<think>hm", "</think>"], ["<think>hm</think> ", " "]]
)
def test_a_tool_call_after_tags_is_the_first_that_is_visible(before: list[str]) -> None:
    call = {"choices": [{"delta": {"tool_calls": [{}]}}], "usage": {"completion_tokens": 3}}
    thought = [event(text, total=number) for number, text in enumerate(before, start=1)]
    found = recorded([*thought, orjson.dumps(call), event("", total=4)])
    assert (found.reasoning_from, found.first_visible_s) == ("tags", 3.0)
    assert counts(found.chunk_reasoning) == [1, 1, 0, 0]


def test_a_tool_call_before_the_answers_text_is_the_first_that_is_visible() -> None:
    call = {"choices": [{"delta": {"tool_calls": [{}]}}], "usage": {"completion_tokens": 2}}
    found = recorded([event("<think>hm</think>", total=1), orjson.dumps(call), event("4", total=3)])
    assert (found.first_visible_s, counts(found.chunk_reasoning)) == (2.0, [1, 0, 0])


SEALED = (
    {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AAAA"}]},
    {"content": [{"type": "redacted_thinking", "data": "AAAA"}]},
)


@pytest.mark.parametrize("delta", SEALED)
@pytest.mark.parametrize(("told", "reasoning"), [(None, 2), (1, 1)])
def test_reasoning_that_cannot_be_read_is_reasoning(
    delta: dict[str, Any], told: int | None, reasoning: int
) -> None:
    sealed = [
        orjson.dumps({"choices": [{"delta": delta}], "usage": {"completion_tokens": n}}) for n in (1, 2)
    ]
    found = recorded([*sealed, event("<think>4</think>", total=3), usage_only(3, reasoning_tokens=told)])
    assert (found.reasoning_from, found.usage_mode, found.reasoning_tokens) == (
        "field",
        "continuous",
        reasoning,
    )
    assert (found.first_token_s, found.first_visible_s) == (1.0, 3.0)
    assert found.response_text == "<think>4</think>"


@pytest.mark.parametrize("delta", SEALED)
@pytest.mark.parametrize(("told", "reasoning"), [(2, 2), (None, None), (0, None)])
def test_reasoning_that_cannot_be_read_is_counted_by_the_server_alone(
    delta: dict[str, Any], told: int | None, reasoning: int | None
) -> None:
    sealed = orjson.dumps({"choices": [{"delta": delta}]})
    found = recorded([sealed, event("4"), usage_only(3, reasoning_tokens=told)])
    assert (found.usage_mode, found.output_tokens, found.reasoning_tokens) == ("final", 3, reasoning)


@pytest.mark.parametrize(
    "usage", [{"completion_tokens_details": {"reasoning_tokens": 7}}, {"reasoning_tokens": 7}]
)
@pytest.mark.parametrize("asked", [True, False])
def test_more_reasoning_than_tokens_is_unknown_reasoning(usage: dict[str, Any], asked: bool) -> None:
    events = [event("a", total=1, **usage), event("b", total=2, **usage), usage_only(2, **usage)]
    found = recorded(events, counted=asked)
    assert (found.output_tokens, found.reasoning_tokens, found.chunk_reasoning) == (2, None, None)
    assert (found.chunk_tokens is not None) is asked


def test_one_chunks_own_reasoning_is_not_the_answers() -> None:
    events = [event(reasoning="hm", total=1, thought=1), event(reasoning="hm", total=1, thought=1)]
    found = recorded([*events, event("4", total=1, thought=1)])
    assert (found.usage_mode, found.output_tokens, found.reasoning_tokens) == ("per_chunk", 3, None)
