"""How long things really take beside what was estimated: learnt from what has finished.

Ratios of measured to estimated time are kept for ever coarser groups (this deployment, its model on its
engine, its engine), and the finest group that has seen enough speaks. A median, so that one stalled cell
moves nothing.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Hashable, Sequence

ENOUGH = 3


class Pace:
    """``groups`` are given finest first, here and there the same way."""

    def __init__(self) -> None:
        self._ratios: defaultdict[Hashable, list[float]] = defaultdict(list)
        self._times_s: defaultdict[Hashable, list[float]] = defaultdict(list)

    def observe(self, groups: Sequence[Hashable], estimated_s: float | None, took_s: float) -> None:
        for group in groups:
            insort(self._times_s[group], took_s)
            if estimated_s:
                insort(self._ratios[group], took_s / estimated_s)

    def expect_s(self, groups: Sequence[Hashable], estimated_s: float | None) -> float | None:
        """``estimated_s`` times the ratio seen, or as it is where nothing was seen; without an estimate what
        such things usually took, None where nothing was seen."""
        if estimated_s is None:
            return _typical([self._times_s.get(group, []) for group in groups])
        ratio = _typical([self._ratios.get(group, []) for group in groups])
        return estimated_s if ratio is None else ratio * estimated_s

    def total_s(self, groups: Sequence[Hashable], estimates_s: Sequence[float | None]) -> float | None:
        """The sum of what is expected of each, None where one of them is."""
        known = [seconds for seconds in estimates_s if seconds is not None]
        unknown = len(estimates_s) - len(known)
        one_s = self.expect_s(groups, None) if unknown else 0.0
        rest_s = self.expect_s(groups, sum(known))
        return None if one_s is None or rest_s is None else rest_s + unknown * one_s


def _typical(finest_first: Sequence[list[float]]) -> float | None:
    """The median of the first that has enough values, else of the first that has any."""
    for least in (ENOUGH, 1):
        for values in finest_first:
            if len(values) >= least:
                middle = len(values) // 2
                return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
    return None
