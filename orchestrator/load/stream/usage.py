"""What a stream's token counts are worth: they and the text that arrived check each other.

A server may leave out its counts, send them late, or count each chunk alone, and says so nowhere. The
evidence is gathered as the stream is read; what it comes to is decided at the stream's end, from all of it.
"""

from __future__ import annotations

from typing import Any, Literal

UsageMode = Literal["continuous", "final", "late", "per_chunk", "contradictory", "none"]
"""``continuous``: each chunk came with the tokens so far. ``final``: text came without counts, and the total
after it. ``late``: text came before the counts knew of it. ``per_chunk``: each chunk's own tokens were
counted, not all so far. ``contradictory``: counts fell. ``none``: there were no counts."""

COUNT_MAX = 2**31 - 1
"""Of tokens, by the columns that they are stored in; no answer is as long."""


def count_of(value: Any) -> int | None:
    """A count as servers write it: a whole number, as JSON's number or as text. None for anything else.
    Raises OverflowError above `COUNT_MAX`."""
    if (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20) or (
        isinstance(value, float) and value.is_integer()
    ):
        value = int(value)
    if type(value) is not int or value < 0:
        return None
    if value > COUNT_MAX:
        raise OverflowError(f"a count of {value} tokens")
    return value


class Counts:
    """The counts of one stream, and the text beside them.

    A chunk with text holds at least one token. So counts of all tokens so far are never below the number of
    such chunks, and never fall; a chunk's own count is never 0 beside text, and all of them add up to the
    total. ``tokens`` is the highest count so far.
    """

    __slots__ = (
        "_behind",
        "_fell",
        "_final",
        "_last",
        "_last_settles",
        "_last_without_text",
        "_peak",
        "_seen",
        "_stalled",
        "_sum",
        "_texts",
        "_zero",
        "tokens",
        "uncounted",
    )

    def __init__(self) -> None:
        self.tokens = 0
        self.uncounted = False  # a chunk with text had no count
        self._seen = False
        self._texts = 0  # chunks with text and a count
        self._behind = False  # there were more of these than tokens
        self._zero = False  # the count of one was 0
        self._fell = False
        self._stalled = 0  # chunks with text whose count, not 0, was that of the chunk before
        self._peak = 0  # the highest count of a chunk of the answer
        self._sum = 0  # of all their counts
        self._last = 0  # the last count, but for 0
        self._last_settles = False  # it came without text, or with the end
        self._last_without_text = 0  # the last count of a chunk of the answer, where that had no text
        self._final: int | None = None  # a count after the answer

    def add(self, count: int, *, text: bool, ends: bool, apart: bool) -> int:
        """A chunk's count. ``text``: it carried output; ``ends``: and the finish_reason; ``apart``: it is no
        part of the answer but a report after it. Returns how many tokens are new by it, if it is of all so
        far: 0 when it fell."""
        if not count and self.tokens and not text:
            return 0  # a server's empty report says nothing
        self._seen = True
        new = count - self.tokens
        if new < 0:
            self._fell = True
        else:
            self.tokens = count
        if count:
            self._last, self._last_settles = count, ends or not text
        if apart:
            self._final = count
            return max(new, 0)
        self._sum += count
        self._peak = max(self._peak, count)
        self._last_without_text = 0 if text else count
        if text:
            self._texts += 1
            if not count:
                self._zero = True
            elif new == 0:
                self._stalled += 1
            if self._texts > self.tokens:
                self._behind = True
        return max(new, 0)

    def add_run(self, chunks: int, texts: int, *, last_has_text: bool) -> None:
        """Chunks that count one token more each, of which so many had text."""
        first, self.tokens = self.tokens + 1, self.tokens + chunks
        self._texts += texts
        self._peak = self._last = self.tokens
        self._sum += chunks * (first + self.tokens) // 2
        self._last_settles = not last_has_text
        self._last_without_text = 0 if last_has_text else self.tokens

    def verdict(self, *, asked: bool) -> tuple[UsageMode, int | None]:
        """What the counts are, and the total of the answer's output tokens. ``asked``: a count on every chunk
        was asked for; where it was not, those that come are only looked at for the total."""
        if not self._seen:
            return "none", None
        alone = self._alone()
        if alone is not None:
            return "per_chunk", alone
        if self._fell or (self.uncounted and self._behind):
            enough = self._final is not None or not self._behind or self._last >= self._texts
            return "contradictory", self._last if self._last_settles and enough else None
        if self.uncounted or not asked:
            return "final", self._total()
        return ("late", self._total()) if self._behind else ("continuous", self.tokens)

    def _total(self) -> int | None:
        """The server's last count; None where it cannot be of the whole answer."""
        known = self._last_settles or self._last >= self._texts
        return self._last if known and (self._last or not (self._texts or self.uncounted)) else None

    def _alone(self) -> int | None:
        """The total where each chunk's own tokens were counted, else None.

        The counts must be no cumulative ones (or sum up to a total that is given, without having grown as
        such would), and be all equal, or mostly far below the number of chunks, or sum up to the total.
        """
        if self._zero or self.uncounted or self._texts < 2:
            return None
        total, end = self._final, self._last_without_text
        sums = {self._sum} if total is None else {self._sum, self._sum - end}
        if total is None and end and self._sum == 2 * end:  # the chunk that ends it has the total
            total, sums = end, {end}
        adds_up = total in sums
        if not (self._behind or self._fell or (self._stalled and adds_up)):
            return None
        equal = self._stalled == self._texts - 1
        if adds_up or equal or 2 * self._peak < self._texts:
            return self._sum if total is None else total
        return None
