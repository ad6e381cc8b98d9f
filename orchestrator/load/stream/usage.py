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
        "_peak",
        "_seen",
        "_stalled",
        "_sum",
        "_tail",
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
        self._peak = 0  # the highest count of a chunk of the answer, once `_final` is known
        self._sum = 0  # of all their counts
        # The last count but for 0, whether it came without text or with the end, and the count of the last
        # chunk of the answer, 0 where that had text. None: the last chunk had text and the highest count.
        self._tail: tuple[int, bool, int] | None = None
        self._final: int | None = None  # a count after the answer

    def add(self, count: int, *, text: bool, ends: bool, apart: bool) -> int:
        """A chunk's count. ``text``: it carried output; ``ends``: and the finish_reason; ``apart``: it is no
        part of the answer but a report after it. Returns how many tokens are new by it, if it is of all so
        far: 0 when it fell."""
        if not count and self.tokens and not text:
            return 0  # a server's empty report says nothing
        self._seen = True
        new, highest = count - self.tokens, self.tokens
        if new < 0:
            self._fell = True
        else:
            self.tokens = count
        last, settles, end = self._tail or (highest, False, 0)
        if count:
            last, settles = count, ends or not text
        if not apart:
            end = 0 if text else count
        self._tail = last, settles, end
        if apart:
            if self._final is None:
                self._peak = highest
            self._final = count
            return max(new, 0)
        self._sum += count
        if text:
            self._texts += 1
            if not count:
                self._zero = True
            elif new == 0:
                self._stalled += 1
            if self._texts > self.tokens:
                self._behind = True
        return max(new, 0)

    def grow(self, count: int) -> None:
        """The same for the usual chunk: one with text, not the last, whose count is above all before."""
        self.tokens = count
        self._sum += count
        self._texts = texts = self._texts + 1
        self._tail = None
        if texts > count:
            self._behind = True

    def add_run(self, chunks: int, texts: int, last_has_text: bool) -> None:
        """Chunks that count one token more each, of which so many had text."""
        before = self.tokens
        self.tokens = last = before + chunks
        self._texts += texts
        self._sum += chunks * (before + 1 + last) // 2
        self._tail = None if last_has_text else (last, True, last)

    def verdict(self, *, asked: bool) -> tuple[UsageMode, int | None]:
        """What the counts are, and the total of the answer's output tokens. ``asked``: a count on every chunk
        was asked for; where it was not, those that come are only looked at for the total."""
        if not (self._seen or self.tokens):
            return "none", None
        last, settles, end = self._tail or (self.tokens, False, 0)
        alone = self._alone(end)
        if alone is not None:
            return "per_chunk", alone
        if self._fell or (self.uncounted and self._behind):
            enough = self._final is not None or not self._behind or last >= self._texts
            return "contradictory", last if settles and enough else None
        if asked and not (self.uncounted or self._behind):
            return "continuous", self.tokens
        # 0 beside text, and a count in the middle of the answer, cannot be of all of it.
        whole = settles or last >= self._texts
        total = last if whole and (last or not (self._texts or self.uncounted)) else None
        return ("late" if asked and not self.uncounted else "final"), total

    def _alone(self, end: int) -> int | None:
        """The total where each chunk's own tokens were counted, else None. ``end``: the count of the chunk
        that ends the answer, where that has no text.

        The counts must be no cumulative ones (or sum up to a total that is given, without having grown as
        such would), and be all equal, or mostly far below the number of chunks, or sum up to the total.
        """
        if self._zero or self.uncounted or self._texts < 2:
            return None
        total = self._final
        sums = {self._sum} if total is None else {self._sum, self._sum - end}
        if total is None and end and self._sum == 2 * end:  # the chunk that ends it has the total
            total, sums = end, {end}
        adds_up = total in sums
        if not (self._behind or self._fell or (self._stalled and adds_up)):
            return None
        equal = self._stalled == self._texts - 1
        peak = self.tokens if self._final is None else self._peak
        if adds_up or equal or 2 * peak < self._texts:
            return self._sum if total is None else total
        return None
