"""Reasoning in the text: ``<think>…</think>`` at the start of the content."""

from __future__ import annotations

import re
from typing import NamedTuple

_BLANK = re.compile(r"\A[\s\ufeff\u200b\u2060]*")  # what is not seen before a tag
TAGS = ("<think>", "</think>")
"""Of a model that names no others."""


class Tagged(NamedTuple):
    """Places in a content: its reasoning is ``[start:end]``, its visible text ``[visible:]``."""

    start: int
    end: int
    visible: int


def find(content: str, tags: tuple[str, str], *, opened: bool, unclosed: bool) -> Tagged | None:
    """The reasoning in a whole content; None where there is none.

    It begins at the content's start, with the opening tag or without: a closing tag alone ends what the
    prompt has opened. An opening tag later than the content's start is text, and so is a closing tag after
    one: an answer may well speak about tags. ``opened``: the prompt is known to end inside the reasoning.
    ``unclosed``: then all of it is reasoning when no closing tag comes.
    """
    open_tag, close_tag = tags
    start = len(content) - len(_BLANK.sub("", content, count=1))
    begins = content.startswith(open_tag, start)
    start = start + len(open_tag) if begins else 0
    end = content.find(close_tag, start)
    if end >= 0:
        bare = not begins and not opened
        if bare and content.find(open_tag, 0, end) >= 0:
            return None
        return Tagged(start, end, end + len(close_tag))
    if content and (begins or (opened and unclosed)):
        return Tagged(start, len(content), len(content))
    return None
