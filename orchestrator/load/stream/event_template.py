"""Events that are like the one before them but for their text and their counts, read many at a time.

Nearly every event of a stream repeats some 350 bytes around one token. What such a run says is checked by
writing it again: the bytes must be exactly those of the same event with another text and one token more each.
Anything else is left to the parsers.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from pathlib import Path

import orjson

SOURCE = Path(__file__).with_name("event_template.c")

_COUNTS = re.compile(rb'(?:(?<="total_tokens":)|(?<="completion_tokens":))(\d+)')
_COUNTS_THINKING = re.compile(_COUNTS.pattern.replace(b"(?:", b'(?:(?<="reasoning_tokens":)|', 1))
_TEXTS = ("content", "reasoning", "reasoning_content", "thinking")
_TOKENS_AT_MOST = 1 << 30
_PROBE = "\u2020 another text"


class EventTemplate:
    """The form of the events of one phase of one stream, reasoning (``thinking``) or visible text.

    ``reasoning`` is the server's cumulative count of reasoning tokens when ``tokens`` were out, None where it
    has none; while thinking it goes up with every token.
    """

    __slots__ = (
        "_c_arguments",
        "_form",
        "_offsets",
        "_size",
        "reasoning",
        "thinking",
        "tokens",
    )

    def __init__(
        self, before: bytes, after: Sequence[bytes], offsets: Sequence[int], *, thinking: bool, tokens: int
    ) -> None:
        """An event is ``before``, the text, and ``after`` with a number between any two of its parts: each of
        ``offsets`` plus the output tokens so far."""
        self._offsets = offsets
        self._size = len(before) + sum(map(len, after))  # without the text and the numbers
        literal = [part.replace(b"%", b"%%") for part in (before, *after)]
        # As `event_template.c` takes it.
        self._c_arguments = (
            *(before, len(before), b"".join(after)),
            *((ctypes.c_uint64 * len(after))(*map(len, after)), len(after)),
            (ctypes.c_int64 * len(offsets))(*offsets),
        )
        self._form = b"%%x\r\n%b%%b%b\r\n" % (literal[0], b"%d".join(literal[1:]))
        self.thinking = thinking
        self.reasoning: int | None = None
        self.tokens = tokens

    @classmethod
    def of(cls, event: bytes) -> EventTemplate | None:
        """Learned from the data of one event; None when there is nothing to be learned from it."""
        try:
            document = orjson.loads(event)
            (choice,), usage = document["choices"], document["usage"]
            delta = choice["delta"]
            ((name, text),) = [(name, text) for name, text in delta.items() if text and name != "role"]
            tokens = usage["completion_tokens"]
            details = usage.get("completion_tokens_details") or usage
            reasoning = details.get("reasoning_tokens")
            thought = 0 if reasoning is None else reasoning
            total = usage.get("total_tokens", 0)
            if name not in _TEXTS or type(text) is not str or choice.get("finish_reason"):
                return None
            if not (type(tokens) is type(thought) is type(total) is int):
                return None
            said = b'"%b":%b' % (name.encode(), orjson.dumps(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if not (0 <= thought <= tokens < _TOKENS_AT_MOST and 0 <= total < _TOKENS_AT_MOST):
            return None
        thinking = name != "content"
        before, _, after = event.strip().partition(said)
        parts = (_COUNTS_THINKING if thinking else _COUNTS).split(b'"%b\n\n' % after)
        form = cls(
            b'data: %b"%b":"' % (before, name.encode()),
            parts[::2],
            [int(number) - tokens for number in parts[1::2]],
            thinking=thinking,
            tokens=tokens,
        )
        form.reasoning = reasoning
        # Whether the places found are the ones that mean the text and the counts: written with other values,
        # the event must say just those.
        delta[name] = _PROBE
        usage["completion_tokens"] += 1
        if "total_tokens" in usage:
            usage["total_tokens"] += 1
        if thinking and reasoning is not None:
            details["reasoning_tokens"] += 1
        chunk = form.written([_PROBE.encode()], tokens)
        try:
            return form if orjson.loads(chunk[chunk.index(b"{") :]) == document else None
        except ValueError:
            return None

    def read(self, wire: bytes, tokens: int, split: Split) -> list[str] | None:
        """The texts of ``wire``, HTTP chunks of one event and one token each that follow token number
        ``tokens``; None when it is anything else."""
        found = split(self, wire, tokens)
        if found is None:
            return None
        count, joined = found
        try:
            texts: list[str] = orjson.loads(b'["%b"]' % joined)
        except orjson.JSONDecodeError:
            return None
        return texts if len(texts) == count else None

    def split_in_c(self, library: ctypes.CDLL, wire: bytes, tokens: int) -> tuple[int, bytes] | None:
        texts, size = ctypes.create_string_buffer(len(wire)), ctypes.c_uint64()
        count = library.event_template_read(
            wire, len(wire), *self._c_arguments, tokens, texts, ctypes.byref(size)
        )
        return (count, ctypes.string_at(texts, size.value)) if count > 0 else None

    def written(self, texts: Sequence[bytes], tokens: int) -> bytes:
        """The HTTP chunks of the events that follow token number ``tokens``, with these texts as JSON has
        them."""
        count = len(texts)
        numbers = [range(first, first + count) for first in (tokens + 1 + each for each in self._offsets)]
        sizes = map(sum, zip(repeat(self._size, count), map(len, texts), *map(_digits, numbers), strict=True))
        values = chain.from_iterable(zip(sizes, texts, *numbers, strict=True))
        return self._form * count % tuple(values)


def _digits(numbers: range) -> Iterable[int]:
    """How many digits each of these has."""
    most = len(str(numbers[-1]))
    return repeat(most, len(numbers)) if len(str(numbers[0])) == most else map(len, map(str, numbers))


Split = Callable[[EventTemplate, bytes, int], tuple[int, bytes] | None]
"""(template, wire, tokens) → how many texts there are, and these as JSON has them with ``","`` between; None
when ``wire`` is not exactly what the template gives."""


def split_none(template: EventTemplate, wire: bytes, tokens: int) -> tuple[int, bytes] | None:
    """For where nothing is held: there is no run to be split."""
    return None


def split_in_c(library: ctypes.CDLL) -> Split:
    """``library``: compiled from `SOURCE`."""
    data, size = ctypes.c_char_p, ctypes.c_uint64
    pieces = (data, ctypes.POINTER(size), ctypes.c_int, ctypes.POINTER(ctypes.c_int64))
    arguments = (data, size, data, size, *pieces, ctypes.c_int64, data, ctypes.POINTER(size))
    library.event_template_read.argtypes = arguments

    def split(template: EventTemplate, wire: bytes, tokens: int) -> tuple[int, bytes] | None:
        return template.split_in_c(library, wire, tokens)

    return split
