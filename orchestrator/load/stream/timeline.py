"""From the events of one stream to its timeline: when which tokens came, and what they said."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import orjson

from orchestrator.load.stream.event_template import EventTemplate
from orchestrator.load.stream.think import ThinkSplitter


class Stream(NamedTuple):
    """What one stream held, in types that cross a pipe cheaply. Times are ``perf_counter`` seconds.

    One entry per chunk in ``chunk_s``, ``chunk_tokens`` (new output tokens), ``chunk_thinking`` (1 while the
    text was reasoning) and ``chunk_reasoning`` (the server's cumulative reasoning tokens, -1 where absent).
    With ``counted`` the entries are the chunks with new tokens; without, the chunks with text, and
    ``chunk_tokens`` means nothing.
    """

    chunk_s: array[float]
    chunk_tokens: array[int]
    chunk_thinking: array[int]
    chunk_reasoning: array[int]
    counted: bool
    first_visible_s: float | None
    finish_reason: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    reasoning_text: str
    response_text: str


class Timeline:
    """Takes the data of each event with its arrival time, at a few µs each.

    The first error stays in ``error``, and what comes after it is not read. ``done`` is set by ``[DONE]``.
    """

    __slots__ = (
        "_counted",
        "_reasoning",
        "_response",
        "_splitter",
        "_thinking",
        "_usage",
        "chunk_reasoning",
        "chunk_s",
        "chunk_thinking",
        "chunk_tokens",
        "done",
        "error",
        "finish_reason",
        "first_visible_s",
        "last",
        "tokens",
    )

    def __init__(self, *, counted: bool = True, inline: bool = False, opened: bool = False) -> None:
        """``counted``: usage was asked for on every chunk. ``inline``: the content may begin with
        ``<think>…</think>``; ``opened``: the prompt has the opening tag already."""
        self.tokens = 0
        self.done = False
        self.error: str | None = None
        self.finish_reason: str | None = None
        self.first_visible_s: float | None = None
        self.last = b""  # the data of the event added last
        self.chunk_s = array("d")
        self.chunk_tokens = array("i")
        self.chunk_thinking = array("b")
        self.chunk_reasoning = array("i")
        self._counted = counted
        self._splitter = ThinkSplitter(opened=opened) if inline else None
        self._thinking = inline and opened
        self._usage: Any = None
        self._reasoning: list[str] = []
        self._response: list[str] = []

    def add(self, t: float, data: bytes) -> None:
        """One event that arrived at ``t``."""
        if self.error is not None:
            return
        self.last = data
        try:
            event = orjson.loads(data)
            choices = event["choices"]
            text = False
            if choices:
                choice = choices[0]
                reason = choice.get("finish_reason")
                if reason is not None:
                    self.finish_reason = str(reason)
                delta = choice["delta"]
                thought = delta.get("reasoning") or delta.get("reasoning_content")
                if thought:
                    text = self._thinking = True
                    self._reasoning.append(thought + "")  # what is no text raises
                content = delta.get("content")
                if content:
                    text = True
                    content += ""
                    if self._splitter is None:
                        self._show(t, content)
                    else:
                        self._split(t, content)
            elif event.get("error"):
                raise KeyError("error")
            usage = event.get("usage")
            if usage is None:
                if text:
                    self._counted = False
                    self._enter(t, 0, -1)
                return
            # Cumulative, so each chunk's share is exact however many tokens share it, and a trailing chunk
            # that repeats the count adds nothing.
            total = usage["completion_tokens"]
            new = total - self.tokens
            reasoning = (usage.get("completion_tokens_details") or usage).get("reasoning_tokens")
            if not isinstance(reasoning, int) or not 0 <= reasoning <= total:
                reasoning = -1
            if new > 0 if self._counted else text:
                self._enter(t, new, reasoning)
            if new > 0:
                self.tokens = total
            self._usage = usage
        except orjson.JSONDecodeError:
            if data.strip() == b"[DONE]":
                self.done = True
            else:
                self.error = f"not JSON in the stream: {excerpt(data)}"
        except (KeyError, IndexError, TypeError, AttributeError, OverflowError):
            self.error = f"in the stream: {error_message(data)}"

    def add_run(self, template: EventTemplate, times: Sequence[float], texts: Sequence[str]) -> bool:
        """Events of one token each with those texts, at those times. False, and nothing is added, where the
        phase that they belong to has not begun."""
        thinking = template.thinking
        begun = self._thinking if thinking else not self._thinking and self.first_visible_s is not None
        if not thinking and self._splitter is not None:
            begun = begun and self._splitter.thinking is False
        if not (begun and self._counted and self.error is None):
            return False
        count = len(times)
        if template.reasoning is None:
            reasoning: Iterable[int] = repeat(-1, count)
        elif thinking:
            first = template.reasoning - template.tokens + self.tokens + 1
            reasoning = range(first, first + count)
        else:
            reasoning = repeat(template.reasoning, count)
        self.chunk_reasoning.extend(reasoning)
        self.chunk_tokens.extend(repeat(1, count))
        self.chunk_thinking.extend(repeat(thinking, count))
        self.chunk_s.extend(times)
        self.tokens += count
        (self._reasoning if thinking else self._response).extend(texts)
        return True

    def stream(self) -> Stream:
        """All of it, once the stream has ended."""
        if self._splitter is not None:
            reasoning, visible = self._splitter.flush()
            self._reasoning.append(reasoning)
            self._response.append(visible)
        usage = self._usage or {}
        return Stream(
            chunk_s=self.chunk_s,
            chunk_tokens=self.chunk_tokens,
            chunk_thinking=self.chunk_thinking,
            chunk_reasoning=self.chunk_reasoning,
            counted=self._counted,
            first_visible_s=self.first_visible_s,
            finish_reason=self.finish_reason,
            prompt_tokens=_count(usage, "prompt_tokens"),
            output_tokens=self.tokens if self._usage else None,
            cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
            reasoning_tokens=_count(usage.get("completion_tokens_details") or usage, "reasoning_tokens"),
            reasoning_text="".join(self._reasoning),
            response_text="".join(self._response),
        )

    def _enter(self, t: float, tokens: int, reasoning: int) -> None:
        self.chunk_tokens.append(tokens)  # first, as the only one that can fail
        self.chunk_s.append(t)
        self.chunk_thinking.append(self._thinking)
        self.chunk_reasoning.append(reasoning)

    def _show(self, t: float, content: str) -> None:
        self._response.append(content)
        if self._thinking or self.first_visible_s is None:
            if content.isspace():
                return
            self._thinking = False
            if self.first_visible_s is None:
                self.first_visible_s = t

    def _split(self, t: float, content: str) -> None:
        assert self._splitter is not None
        before = self._splitter.thinking
        thought, visible = self._splitter.feed(content)
        if before is None and self._splitter.thinking is not False:
            # What may become the tag counts as visible until it is one: then nothing was visible yet.
            if self._splitter.thinking is None:
                if self.first_visible_s is None and not content.isspace():
                    self.first_visible_s = t
                return
            self.first_visible_s = None
            self._thinking = True
            self.chunk_thinking = array("b", b"\1" * len(self.chunk_thinking))
        if thought:
            self._reasoning.append(thought)
        if visible:
            self._show(t, visible)


def _count(counts: object, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) else None


def excerpt(data: bytes, limit: int = 300) -> str:
    text = data.decode(errors="replace").strip()
    return text if len(text) <= limit else text[:limit] + "…"


def error_message(body: bytes) -> str:
    """The message of an OpenAI-style error object, or the beginning of whatever came instead."""
    try:
        document = orjson.loads(body)
        error = document.get("error") or document
        if isinstance(error, str):
            return error
        kind = error.get("type")
        return f"{kind}: {error['message']}" if kind else str(error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return excerpt(body)
