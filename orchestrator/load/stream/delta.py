"""What a chunk of an answer says, in whichever of the field's ways it says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REASONING_FIELDS = (
    *("reasoning", "reasoning_content", "thinking", "reasoning_details"),
    *("reasoning_text", "thinking_blocks"),
)
"""Where servers put reasoning. Some send the same text in several: the first one that has some counts."""

_REASONING_PARTS = ("thinking", "reasoning", "reasoning_text")
_TEXT_PARTS = ("text", "output_text")
_SEALED_PARTS = ("redacted_thinking", "reasoning.encrypted")  # reasoning that only the server can read
_KEYS = ("text", "thinking", "reasoning", "summary", "content")  # of a part, where its text may be


def said(delta: Mapping[str, Any]) -> tuple[str, str, bool]:
    """(reasoning, the answer's text, whether there is output of another kind, such as a tool call). Raises
    TypeError for what is no text."""
    if len(delta) == 1:  # the usual chunk of reasoning
        alone = delta.get("reasoning") or delta.get("reasoning_content")
        if isinstance(alone, str):
            return alone, "", False
    acted = bool(delta.get("tool_calls") or delta.get("function_call") or delta.get("refusal"))
    content = delta.get("content") or ""
    thought, shown = "", content
    if not isinstance(content, str):
        thought, shown, other = _parts(content)
        acted = acted or other
    for name in REASONING_FIELDS:
        if thought:
            break
        if value := delta.get(name):
            thought = value if isinstance(value, str) else _text(value)
    return thought, shown, acted


def whole(choice: Mapping[str, Any], first: bool) -> Mapping[str, Any] | None:
    """What a choice without a delta says all the same: the text of a completion, or as the ``first`` of an
    answer its message, which later repeats all of it."""
    if isinstance(text := choice.get("text"), str):
        return {"content": text}
    return choice.get("message") if first else None


def sealed(delta: Mapping[str, Any]) -> bool:
    """Whether it holds reasoning that only the server can read."""
    values = map(delta.get, ("reasoning_details", "thinking_blocks", "content"))
    return any(map(_is_sealed, (part for value in values if isinstance(value, list) for part in value)))


def _is_sealed(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in _SEALED_PARTS and bool(part.get("data"))


def _parts(content: object) -> tuple[str, str, bool]:
    """The same of content in parts, such as ``{"type": "thinking", "thinking": …}``."""
    thought, shown, acted = [], [], False
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _REASONING_PARTS:
            thought.append(_text(part))
        elif kind is None or kind in _TEXT_PARTS:
            shown.append(_text(part))
        elif kind not in _SEALED_PARTS:
            acted = True
    return "".join(thought), "".join(shown), acted


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        return "".join(map(_text, value))
    if isinstance(value, dict):
        return next((_text(value[key]) for key in _KEYS if value.get(key)), "")
    raise TypeError(f"{type(value).__name__} instead of text")
