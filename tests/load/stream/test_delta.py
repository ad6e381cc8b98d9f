"""`delta` and `payload`: what one chunk says, whichever way it says it, and what an error says."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.load.stream.delta import said, sealed
from orchestrator.load.stream.payload import error_message, excerpt


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"reasoning": "hm"}, ("hm", "", False)),
        ({"reasoning_content": "hm"}, ("hm", "", False)),
        ({"thinking": "hm"}, ("hm", "", False)),
        ({"reasoning_details": [{"text": "h"}, {"summary": "m"}]}, ("hm", "", False)),
        ({"reasoning": ["h", None, "m"]}, ("hm", "", False)),
        ({"reasoning_text": "hm"}, ("hm", "", False)),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]}, ("hm", "", False)),
        ({"thinking_blocks": [{"thinking": "again"}], "reasoning_content": "hm"}, ("hm", "", False)),
        ({"reasoning": "one", "reasoning_content": "two", "content": "a"}, ("one", "a", False)),
        ({"reasoning": "", "thinking": "two", "content": None}, ("two", "", False)),
        ({"role": "assistant", "content": "a"}, ("", "a", False)),
        ({"content": "a", "tool_calls": [{}]}, ("", "a", True)),
        ({"content": "a", "tool_calls": []}, ("", "a", False)),
        ({"function_call": {"name": "f"}}, ("", "", True)),
        ({"refusal": "no"}, ("", "", True)),
        ({"content": ["a", "b"]}, ("", "ab", False)),
        ({"content": {"text": "a"}}, ("", "a", False)),
        ({"content": [{"type": "text", "text": "a"}, {"type": "output_text", "text": "b"}]},
         ("", "ab", False)),
        ({"content": [{"type": "thinking", "thinking": "h"}, {"type": "reasoning", "reasoning": "m"},
                      {"type": "reasoning_text", "text": "!"}, {"type": "text", "text": "a"}]},
         ("hm!", "a", False)),
        ({"content": [{"type": "thinking", "thinking": "h"}], "reasoning": "again"}, ("h", "", False)),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]}, ("h", "", False)),
        ({"content": [{"type": "tool_use"}]}, ("", "", True)),
        ({"content": [{"type": "tool_use"}, {"type": "text", "text": "a"}]}, ("", "a", True)),
        ({"content": [{"type": "text", "text": "", "content": "b"}]}, ("", "b", False)),
        ({"content": [{"type": "text"}, {"type": "text", "text": None}]}, ("", "", False)),
        ({}, ("", "", False)),
    ],
)  # fmt: skip
def test_a_chunk_says_its_reasoning_its_text_and_whether_it_does_more(
    delta: dict[str, Any], expected: tuple[str, str, bool]
) -> None:
    assert said(delta) == expected


@pytest.mark.parametrize("delta", [{"reasoning": 5}, {"content": 5}, {"content": [{"text": 5}]}])
def test_a_number_is_no_text(delta: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="int instead of text"):
        said(delta)


def test_an_excerpt_is_the_first_three_hundred_characters() -> None:
    assert excerpt(b" " + 300 * b"a" + b"\n") == 300 * "a"
    assert excerpt(301 * b"a") == 300 * "a" + "…"
    assert excerpt(b"a\xffb") == "a\ufffdb"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "full", "type": "Busy"}}', "Busy: full"),
        (b'{"error": {"message": "full"}}', "full"),
        (b'{"error": "full"}', "full"),
        (b'{"object": "error", "message": "full", "type": "Busy"}', "Busy: full"),
        (b'{"detail": "full"}', '{"detail": "full"}'),
        (b'["full"]', '["full"]'),
        (b"full\n", "full"),
    ],
)
def test_an_error_tells_its_message_or_all_it_has(body: bytes, message: str) -> None:
    assert error_message(body) == message


@pytest.mark.parametrize("field", ["reasoning_details", "thinking_blocks", "content"])
def test_reasoning_that_only_the_server_can_read_is_seen_in_every_field_of_parts(field: str) -> None:
    assert sealed({field: [{"type": "redacted_thinking", "data": "x"}]})
    assert not sealed({field: [{"type": "redacted_thinking", "data": ""}]})
    assert not sealed({field: "x"})
