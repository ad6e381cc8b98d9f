"""Inline reasoning: ``<think>…</think>`` at the start of the content, cut over chunks anywhere."""

from __future__ import annotations

OPEN_TAG, CLOSE_TAG = "<think>", "</think>"


class ThinkSplitter:
    """Splits content into reasoning and visible text.

    ``thinking`` is None while the content so far may still be the beginning of ``<think>``, then whether the
    text is inside it. A tag later than the content's start is text: an answer may well speak about tags.
    """

    __slots__ = ("_held", "thinking")

    def __init__(self, *, opened: bool) -> None:
        """``opened``: the prompt's template ends inside ``<think>``, so only ``</think>`` will be seen."""
        self.thinking: bool | None = True if opened else None
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """(reasoning, visible) that ``text`` settles; what may be part of a tag is held back."""
        if self._held:
            text = self._held + text
            self._held = ""
        if self.thinking is None:
            start = text.lstrip()
            if OPEN_TAG.startswith(start):
                if start != OPEN_TAG:
                    self._held = text
                    return "", ""
            elif not start.startswith(OPEN_TAG):
                self.thinking = False
                return "", text
            self.thinking = True
            text = start[len(OPEN_TAG) :]
        if not self.thinking:
            return "", text
        reasoning, tag, visible = text.partition(CLOSE_TAG)
        if tag:
            self.thinking = False
            return reasoning, visible
        cut = text.rfind("<")
        if cut >= 0 and CLOSE_TAG.startswith(text[cut:]):
            self._held = text[cut:]
            return text[:cut], ""
        return text, ""

    def flush(self) -> tuple[str, str]:
        """(reasoning, visible) of what is still held back when the stream ends: it was no tag."""
        held, self._held = self._held, ""
        return (held, "") if self.thinking else ("", held)
