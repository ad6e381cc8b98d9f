"""`think` and `delta`: reasoning is read from what arrives, whatever the configuration says."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.load.stream.think import TAGS, find
from orchestrator.load.stream.timeline import Timeline
from tests.load.stream.events import counts, event, recorded

CONFIGURED: list[dict[str, Any]] = [
    {},
    {"opened": True},
    {"inline": True},
    {"inline": True, "opened": True},
]
PIECES = st.lists(st.text(st.sampled_from("<>/think \né"), max_size=9) | st.sampled_from(TAGS), max_size=8)


def split(pieces: list[str], **options: Any) -> tuple[str, str, str]:
    found = recorded(
        [event(piece, total=i) for i, piece in enumerate(pieces, start=1)], **{"inline": True} | options
    )
    return found.reasoning_text, found.response_text, str(found.reasoning_from)


@given(pieces=PIECES, opened=st.booleans())
def test_tagged_reasoning_is_the_same_however_it_is_cut(pieces: list[str], opened: bool) -> None:
    assert split(pieces, opened=opened) == split(["".join(pieces)], opened=opened)


@given(
    before=st.sampled_from(["", "\n", "  "]),
    thought=st.text("ab<\n"),
    answer=st.text("ab<>\n"),
    tags=st.sampled_from([TAGS, ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]")]),
    data=st.data(),
)
def test_tagged_reasoning_is_what_stands_between_the_tags(
    before: str, thought: str, answer: str, tags: tuple[str, str], data: st.DataObject
) -> None:
    whole = f"{before}{tags[0]}{thought}{tags[1]}{answer}"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in pairwise([0, *cuts, len(whole)])]
    for options in CONFIGURED:
        assert split(pieces, tags=tags, **options) == (thought, answer, "tags")


@pytest.mark.parametrize(
    ("pieces", "opened", "expected"),
    [
        (["hm</th", "ink>4"], True, ("hm", "4", "tags")),
        (["hm</th", "ink>4"], False, ("hm", "4", "tags")),  # the prompt had opened it
        (["<thi", "nk></think>4"], False, ("", "4", "tags")),
        (["<think>hm</think>4"], True, ("hm", "4", "tags")),
        (["hm</th"], True, ("hm</th", "", "tags")),
        (["hm"], False, ("", "hm", "none")),
        (["<thi", "s is <think>"], False, ("", "<this is <think>", "none")),
        (["a <think>", "</think> b"], False, ("", "a <think></think> b", "none")),
        (["  <th"], False, ("", "  <th", "none")),
        (["<think>", "a < b"], False, ("a < b", "", "tags")),
        ([], True, ("", "", "none")),
    ],
)
def test_what_only_looks_like_a_tag_is_text(
    pieces: list[str], opened: bool, expected: tuple[str, str, str]
) -> None:
    assert split(pieces, opened=opened) == expected


@pytest.mark.parametrize(
    ("finish", "inline", "thought"),
    [("stop", False, False), ("stop", True, True), ("length", False, True), ("MAX_TOKENS", False, True)],
)
def test_without_any_tag_an_answer_that_ended_is_an_answer_but_where_no_parser_is_known(
    finish: str, inline: bool, thought: bool
) -> None:
    found = recorded([event("hm", total=1, finish=finish)], inline=inline, opened=True)
    assert (found.reasoning_text, found.response_text) == (("hm", "") if thought else ("", "hm"))
    assert (found.first_visible_s is None) == thought


def test_tagged_reasoning_has_the_timeline_of_reasoning_in_its_own_field() -> None:
    pieces = ["<th", "ink>", "hm", "</think>", "\n\n", "4"]
    found = recorded([event(piece, total=i) for i, piece in enumerate(pieces, start=1)])
    assert found.reasoning_text == "hm"
    assert found.response_text == "\n\n4"
    assert found.first_visible_s == 6.0
    assert counts(found.chunk_reasoning) == [1, 1, 1, 1, 1, 0]


def test_the_first_visible_time_is_of_the_first_piece_of_what_turned_out_to_be_no_tag() -> None:
    found = recorded([event(piece, total=i) for i, piece in enumerate([" ", "<", "b>"], start=1)])
    assert (found.first_visible_s, found.response_text) == (2.0, " <b>")
    assert counts(found.chunk_reasoning) == [0, 0, 0]


@pytest.mark.parametrize("options", CONFIGURED)
def test_a_bare_closing_tag_makes_reasoning_from_the_start(options: dict[str, Any]) -> None:
    events = [event("hm", total=1), event("", total=2), event("</think>4", total=4), event("2", total=5)]
    found = recorded(events, **options)
    assert (found.reasoning_text, found.response_text, found.first_visible_s) == ("hm", "42", 3.0)
    assert counts(found.chunk_reasoning) == [1, 1, 0, 0]


@pytest.mark.parametrize("options", CONFIGURED)
@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"thinking": "hm"},
        {"reasoning": "hm", "reasoning_content": "hm"},
        {"reasoning": "", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "h"}, {"text": "m"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"content": [{"type": "reasoning", "text": "hm"}]},
    ],
)
def test_reasoning_in_a_field_is_read_whatever_is_configured(
    delta: dict[str, Any], options: dict[str, Any]
) -> None:
    first = orjson.dumps({"choices": [{"delta": delta}], "usage": {"completion_tokens": 1}})
    found = recorded([first, event("</think>4", total=2, finish="stop")], **options)
    assert (found.reasoning_text, found.response_text) == ("hm", "</think>4")
    assert (found.reasoning_from, found.first_visible_s) == ("field", 2.0)
    assert counts(found.chunk_reasoning) == [1, 0]


def test_content_in_parts_is_text_and_reasoning_in_their_order() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}, "2", {"type": "image"}]
    found = recorded([orjson.dumps({"choices": [{"delta": {"content": parts}}]})])
    assert (found.reasoning_text, found.response_text, found.error) == ("hm", "42", None)


@pytest.mark.parametrize("content", [5, True, [5], [[{"text": 5}]], {"text": 5}])
def test_content_that_is_no_text_is_the_requests_own_error(content: object) -> None:
    found = recorded([orjson.dumps({"choices": [{"delta": {"content": content}}]})])
    assert str(found.error).startswith("in the stream: ")


def test_parts_nested_without_end_are_the_requests_own_error() -> None:
    deep = b'{"choices":[{"delta":{"content":' + b"[" * 900 + b"5" + b"]" * 900 + b"}}]}"
    assert recorded([deep]).error is not None


@given(content=st.text("<>/think\n ", max_size=30), opened=st.booleans(), unclosed=st.booleans())
def test_places_lie_in_their_order_inside_the_content(content: str, opened: bool, unclosed: bool) -> None:
    found = find(content, TAGS, opened=opened, unclosed=unclosed)
    if found is not None:
        assert 0 <= found.start <= found.end <= found.visible <= len(content)
        assert content[found.end : found.visible] in ("", TAGS[1])


@given(pieces=PIECES, field=st.sampled_from(["reasoning", "thinking"]), at=st.integers(0, 8))
def test_no_text_is_lost_where_a_field_has_the_reasoning(pieces: list[str], field: str, at: int) -> None:
    events = [event(piece, total=i) for i, piece in enumerate(pieces, start=1)]
    events.insert(at, event(reasoning="hm", field=field, total=min(at, len(pieces))))
    for options in CONFIGURED:
        timeline = Timeline(**options)
        for number, data in enumerate(events):
            timeline.add(float(number), data)
        stream = timeline.stream()
        assert (stream.reasoning_text, stream.response_text) == ("hm", "".join(pieces))
        assert timeline.first_visible_s == next(
            (
                float(number)
                for number, data in enumerate(events)
                if (orjson.loads(data)["choices"][0]["delta"].get("content") or "").strip()
            ),
            None,
        )


def test_an_answers_pieces_add_up() -> None:
    pieces = ["<think>", "a", "b", "</th", "ink>", "", "c", "d"]
    found = recorded([event(piece, total=i) for i, piece in enumerate(pieces, start=1)])
    assert list(accumulate(counts(found.chunk_reasoning)))[-1] == 6
    assert (found.reasoning_tokens, found.first_visible_s) == (6, 7.0)
