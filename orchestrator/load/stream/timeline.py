"""From the events of one stream to its timeline: when which tokens came, and what they said."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, compress
from typing import Any, Literal, NamedTuple, TypeVar

import orjson

from orchestrator.load.stream.delta import said, sealed, whole
from orchestrator.load.stream.event_template import EventTemplate
from orchestrator.load.stream.payload import error_message, excerpt, mended
from orchestrator.load.stream.think import TAGS, Tagged, find
from orchestrator.load.stream.usage import COUNT_MAX, Counts, UsageMode, count_of
from orchestrator.records import cut_off

N = TypeVar("N", int, float)

ReasoningFrom = Literal["field", "tags", "none"]
"""Where a stream's reasoning was found: in a field of its own, between tags in the text, or nowhere."""

_THINKING, _WITHOUT_TEXT, _ACTED = 1, 2, 4  # bits of a chunk's kind
_ONE_TOKEN, _NO_COUNT = array("i", (1,)), array("i", (-1,))
_NO_CHUNK = (KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)


class Stream(NamedTuple):
    """What one stream held, in types that cross a pipe cheaply. Times are ``perf_counter`` seconds.

    One entry per chunk in ``chunk_s``, ``chunk_tokens`` (new output tokens), ``chunk_thinking`` (1 while the
    text was reasoning) and ``chunk_reasoning`` (the server's cumulative reasoning tokens, -1 where absent).
    With ``counted`` the entries are the chunks with new tokens; without, the chunks with text or a tool call,
    and ``chunk_tokens`` means nothing.
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
    usage_mode: UsageMode
    reasoning_from: ReasoningFrom


class Timeline:
    """Takes the data of each event with its arrival time, at a few µs each.

    What the counts are worth, and whether the text begins with reasoning, is decided in `stream`, from all
    that came. The first error stays in ``error``, and what comes after it is not read. ``done`` is set by
    ``[DONE]``.
    """

    __slots__ = (
        "_acted",
        "_asked",
        "_content",
        "_counts",
        "_inline",
        "_kinds",
        "_opened",
        "_reasoning",
        "_sealed",
        "_tags",
        "_thinking",
        "_usage",
        "_without_text",
        "_without_tokens",
        "chunk_reasoning",
        "chunk_s",
        "chunk_tokens",
        "done",
        "error",
        "finish_reason",
        "first_visible_s",
        "last",
    )

    def __init__(
        self,
        *,
        counted: bool = True,
        inline: bool = False,
        opened: bool = False,
        tags: tuple[str, str] = TAGS,
    ) -> None:
        """``counted``: usage was asked for on every chunk. ``opened``: the model's prompt has the opening one
        of ``tags`` already. ``inline``: and the server is known to leave reasoning in the text, so that an
        answer without any tag is all reasoning; of another server only where it was cut off."""
        self.done = False
        self.error: str | None = None
        self.finish_reason: str | None = None
        self.first_visible_s: float | None = None  # if there are no tags
        self.last = b""  # the data of the event added last
        self.chunk_s = array("d")
        self.chunk_tokens = array("i")
        self.chunk_reasoning = array("i")
        self._kinds = array("b")
        self._asked = counted
        self._inline = inline
        self._opened = opened
        self._tags = tags
        self._counts = Counts()
        self._thinking = False
        self._sealed = False  # reasoning came that cannot be read
        self._acted = False  # output of another kind than text came
        self._usage: dict[str, Any] = {}
        self._reasoning: list[str] = []
        # One piece for each entry, until reasoning comes in a field of its own.
        self._content: list[str] = []
        self._without_text = self._without_tokens = False  # there are such entries

    @property
    def tokens(self) -> int:
        """The highest count of output tokens so far."""
        return self._counts.tokens

    def add(self, t: float, data: bytes) -> None:
        """One event that arrived at ``t``."""
        if self.error is not None:
            return
        self.last = data
        try:
            event = orjson.loads(data)
            if event is None:
                return
            choices, usage = event.get("choices"), event.get("usage")
            if event.get("error"):
                raise KeyError("error")
            text, acted, content, reason = False, False, "", None
            if choices:
                choice = choices[0]
                reason = choice.get("finish_reason")
                if usage is None:
                    usage = choice.get("usage")
                if reason:
                    self.finish_reason = str(reason)
                delta = choice.get("delta")
                if delta is None:
                    delta = whole(choice, not self.chunk_s)
                if delta:
                    content = delta.get("content")
                    if len(delta) == 1 and type(content) is str:
                        thought = ""
                    else:
                        thought, content, acted = said(delta)
                        if not thought and sealed(delta):
                            text = self._thinking = self._sealed = True
                    if thought:
                        text = self._thinking = True
                        self._reasoning.append(thought)
                    if content or acted:
                        text = True
                        if self._thinking or self.first_visible_s is None:
                            self._show(t, content, acted)
                elif not reason and delta is None and "delta" not in choice:
                    raise KeyError("delta")
            elif not usage and (event.get("object") == "error" or "message" in event or "detail" in event):
                raise KeyError("choices")

            counts, total = self._counts, None
            if isinstance(usage, dict):
                total = usage.get("completion_tokens")
                if type(total) is not int or not 0 <= total <= COUNT_MAX:
                    total = count_of(total)
            if total is None:
                if text:
                    counts.miss()
                    self._enter(t, 0, -1, content, text, acted)
                return
            new = total - counts.tokens
            if text and new > 0 and not reason:
                counts.grow(total)
                self._usage = usage
            else:
                if total or not counts.tokens:
                    self._usage = usage
                new = counts.add(total, text=text, ends=bool(reason), apart=not choices)
                if not (text or (new and self._asked and not counts.uncounted)):
                    return
            details = usage.get("completion_tokens_details") or usage
            reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else None
            if type(reasoning) is not int or not 0 <= reasoning <= total:
                reasoning = -1
            self._enter(t, new, reasoning, content, text, acted)
        except orjson.JSONDecodeError:
            self._take_odd(t, data.strip())
        except _NO_CHUNK as error:
            what = str(error) if isinstance(error, OverflowError) else error_message(data)
            self.error = f"in the stream: {what}"

    def _take_odd(self, t: float, data: bytes) -> None:
        """What is no JSON as it stands. An event without any data keeps the connection open."""
        if data == b"[DONE]":
            self.done = True
        elif data:
            try:
                self.add(t, mended(data))
            except (ValueError, TypeError, RecursionError):
                self.error = f"not JSON in the stream: {excerpt(data)}"

    def _show(self, t: float, content: str, acted: bool) -> None:
        if acted or (content and not content.isspace()):
            self._thinking = False
            if self.first_visible_s is None:
                self.first_visible_s = t

    def _enter(self, t: float, tokens: int, reasoning: int, content: str, text: bool, acted: bool) -> None:
        kind = _THINKING if self._thinking else 0
        if acted:
            kind |= _ACTED
            self._acted = True
        if not text:
            kind |= _WITHOUT_TEXT
            self._without_text = True
        if not tokens:
            self._without_tokens = True
        self.chunk_s.append(t)
        self.chunk_tokens.append(tokens)
        self.chunk_reasoning.append(reasoning)
        self._kinds.append(kind)
        self._content.append(content)

    def add_run(self, template: EventTemplate, times: Sequence[float], texts: Sequence[str]) -> bool:
        """Events of one token each with those texts, at those times. False, and nothing is added, where the
        phase that they belong to has not begun."""
        thinking = template.thinking
        begun = self._thinking if thinking else not self._thinking and self.first_visible_s is not None
        counts = self._counts
        if not (begun and self._asked and not counts.uncounted and self.error is None):
            return False
        count = len(times)
        # An array repeated is copied at once, an iterator is asked number by number.
        if template.reasoning is None:
            self.chunk_reasoning += _NO_COUNT * count
        elif thinking:
            first = template.reasoning - template.tokens + counts.tokens + 1
            self.chunk_reasoning.extend(range(first, first + count))
        else:
            self.chunk_reasoning += array("i", (template.reasoning,)) * count
        self.chunk_tokens += _ONE_TOKEN * count
        self.chunk_s.extend(times)
        spoken = count
        if all(texts):
            self._kinds += array("b", (thinking,)) * count
        else:
            spoken -= texts.count("")
            self._without_text = True
            self._kinds.extend(thinking | (0 if text else _WITHOUT_TEXT) for text in texts)
        counts.add_run(count, spoken, bool(texts[-1]))
        (self._reasoning if thinking else self._content).extend(texts)
        return True

    def stream(self) -> Stream:
        """All of it, once the stream has ended."""
        mode, output = self._counts.verdict(
            asked=self._asked,
            outrun=bool(self.chunk_tokens)
            and not self.chunk_tokens[-1],  # text came after the last new token
            ended=self.finish_reason is not None,
        )
        counted = mode == "continuous"
        reasoning, content = "".join(self._reasoning), "".join(self._content)
        origin: ReasoningFrom = "field" if reasoning or self._sealed else "none"
        kinds, first_visible_s = self._kinds, self.first_visible_s
        if origin == "none" and (tagged := self._tagged(content)) is not None:
            origin = "tags"
            kinds, first_visible_s = self._split(content, tagged.visible)
            reasoning, content = content[tagged.start : tagged.end], content[tagged.visible :]
        chunk_s, tokens, cumulative = self.chunk_s, self.chunk_tokens, self.chunk_reasoning
        if self._without_tokens if counted else self._without_text:
            keep = [bool(n) for n in tokens] if counted else [not kind & _WITHOUT_TEXT for kind in kinds]
            chunk_s, tokens = _kept(chunk_s, keep), _kept(tokens, keep)
            cumulative, kinds = _kept(cumulative, keep), _kept(kinds, keep)
        if self._without_text or self._acted:
            kinds = array("b", (kind & _THINKING for kind in kinds))
        usage = self._usage
        of_all = _count(usage, "completion_tokens") == output
        return Stream(
            chunk_s=chunk_s,
            chunk_tokens=tokens,
            chunk_thinking=kinds,
            chunk_reasoning=cumulative,
            counted=counted,
            first_visible_s=first_visible_s,
            finish_reason=self.finish_reason,
            prompt_tokens=_count(usage, "prompt_tokens"),
            output_tokens=output,
            cached_tokens=_cached(usage),
            reasoning_tokens=_count(usage.get("completion_tokens_details") or usage, "reasoning_tokens")
            if of_all
            else None,
            reasoning_text=reasoning,
            response_text=content,
            usage_mode=mode,
            reasoning_from=origin,
        )

    def _tagged(self, content: str) -> Tagged | None:
        unfinished = self.finish_reason is None or cut_off(self.finish_reason)
        return find(content, self._tags, opened=self._opened, unclosed=self._inline or unfinished)

    def _split(self, content: str, visible: int) -> tuple[array[int], float | None]:
        """The entries' kinds and the first visible one's time, where the content is visible from there on."""
        hidden = len(content) - len(content[visible:].lstrip())
        ends = list(accumulate(map(len, self._content)))
        first = bisect_right(ends, hidden)
        if self._acted:
            begun = range(bisect_left(ends, visible), first)
            first = next((at for at in begun if self._kinds[at] & _ACTED), first)
        kinds = array("b", (kind | _THINKING for kind in self._kinds[:first])) + self._kinds[first:]
        return kinds, self.chunk_s[first] if first < len(kinds) else None


def _cached(usage: dict[str, Any]) -> int | None:
    """OpenAI's and the engines' name for it, else Moonshot's or DeepSeek's."""
    found = _count(usage.get("prompt_tokens_details"), "cached_tokens")
    if found is None:
        found = _count(usage, "cached_tokens")
    return _count(usage, "prompt_cache_hit_tokens") if found is None else found


def _kept(values: array[N], keep: Sequence[bool]) -> array[N]:
    return array(values.typecode, compress(values, keep))


def _count(counts: object, name: str) -> int | None:
    try:
        return count_of(counts.get(name)) if isinstance(counts, dict) else None
    except OverflowError:
        return None
