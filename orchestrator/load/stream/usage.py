"""What a stream's token counts are worth: they and the text that arrived check each other.

A server may leave out its counts, send them late, or count each chunk alone, and says so nowhere. The
evidence is gathered as the stream is read; what it comes to is decided at the stream's end, from all of it.
"""

from __future__ import annotations

from typing import Any, Literal

UsageMode = Literal["continuous", "final", "late", "ahead", "per_chunk", "contradictory", "none"]
"""``continuous``: each chunk came with the tokens so far. ``final``: text came without counts, and the total
after it. ``late``: text came before the counts knew of it. ``ahead``: tokens were counted before their text
came. ``per_chunk``: each chunk's own tokens were counted, not all so far. ``contradictory``: counts fell, or
the total is below what the text holds at least. ``none``: there were no counts."""

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
    total. Two chunks may share a count, the end of the reasoning and the beginning of the answer in one step;
    where three do, text came after its tokens were counted. ``tokens`` is the highest count so far.
    """

    __slots__ = (
        "_ahead",
        "_behind",
        "_fell",
        "_final",
        "_missed_at",
        "_peak",
        "_seen",
        "_stalled",
        "_stalled_at",
        "_sum",
        "_tail",
        "_texts",
        "_zero",
        "tokens",
        "uncounted",
    )

    def __init__(self) -> None:
        self.tokens = 0
        self.uncounted = 0  # chunks with text and without a count
        self._missed_at = 0  # how many with text and a count there were before the last of these
        self._seen = False
        self._texts = 0  # chunks with text and a count
        self._behind = False  # there were more of these than tokens
        self._zero = False  # the count of one was 0
        self._fell = False
        self._stalled = 0  # chunks with text whose count, not 0, was that of the chunk before
        self._stalled_at = 0  # the count of the last of these
        self._ahead = False  # there were two of one count
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
                self._ahead = self._ahead or count == self._stalled_at
                self._stalled_at = count
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

    def miss(self) -> None:
        """A chunk with text and without a count."""
        self.uncounted += 1
        self._missed_at = self._texts
        if self._tail is not None:
            last, _, end = self._tail
            self._tail = last, False, end

    def verdict(self, *, asked: bool, outrun: bool, ended: bool) -> tuple[UsageMode, int | None]:
        """What the counts are, and the total of the answer's output tokens; None where the last count is not
        of all of it. ``asked``: a count on every chunk was asked for; where it was not, those that come are
        only looked at for the total. ``outrun``: text came
        after the last new token. ``ended``: the answer
        has come to its end."""
        last, settles, end = self._tail or (self.tokens, False, 0)
        if not (self._seen or self.tokens) or (self.uncounted and not (self.tokens or self._texts)):
            return "none", None
        alone = self._alone(end)
        if alone is not None:
            return "per_chunk", alone
        texts = self._texts + self.uncounted
        stopped = self.uncounted > 0 and self._missed_at == self._texts  # the last text had no count
        # 0 beside text, and a count in the middle of the answer, cannot be of all of it.
        whole = last >= texts and (settles or not stopped)
        total = last if whole and (last or not texts) else None
        if self._fell or (self.uncounted and self._behind):
            return "contradictory", total if settles else None
        if asked and not (self.uncounted or self._behind):
            if not (self._ahead or outrun):
                return "continuous", self.tokens
            # Equal counts alone may be each chunk's own or of all to come: a report has to say which.
            known = settles or self._stalled < self._texts - 1
            return "ahead", self.tokens if known else None
        late = asked and not self.uncounted
        if total is None and last and (settles or (ended and not late)):
            return "contradictory", None
        return ("late" if late else "final"), total

    def _alone(self, end: int) -> int | None:
        """The total where each chunk's own tokens were counted, else None. ``end``: the count of the chunk
        that ends the answer, where that has no text.

        The counts must be no cumulative ones (or sum up to a total that is given, without having grown as
        such would), and be all equal, or mostly far below the number of chunks, or sum up to the total. A
        total that is given and below the number of chunks is the last chunk's own too.
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
            if total is None:
                return self._sum
            return total if total >= self._texts else self._sum - end
        return None
