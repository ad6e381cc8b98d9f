"""Values of requests by their items."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.resampling import Counts, counts

SPREADS = 4.5  # so many standard deviations around a quantile are looked at first
WHOLE = 2**24  # below it every whole number is one of 32 bits

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Grouped:
    """``items`` in ascending order, each once, with the number of values that each has; ``values`` of one
    item beside one another, in the order given."""

    items: NDArray[np.str_]
    counts: Indices
    values: NDArray[np.float64]

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """Of each item's values, shape (items,)."""
        if len(self.values) == len(self.items):
            return self.values
        means = np.empty(len(self.items))
        starts = np.cumsum(self.counts) - self.counts
        for count in np.unique(self.counts):
            alike = np.flatnonzero(self.counts == count)
            means[alike] = self.values[starts[alike][:, None] + np.arange(count)].mean(axis=1)
        return means

    def mean(self, chosen: Indices | None) -> float:
        """Over the items, of the means of their values; ``chosen``: of these items (None: of all)."""
        return float(np.mean(self.means if chosen is None else self.means[chosen]))

    def quantile(self, chosen: Indices | None, quantile: float) -> float:
        """Of all values of these items, interpolated linearly (NumPy's default)."""
        return float(np.quantile(self._of(chosen)[0], quantile))

    def drawn_quantiles(
        self, chosen: Indices | None, quantile: float, seed: int, resamples: int
    ) -> NDArray[np.float64]:
        """The quantile in each of ``resamples`` draws of as many of these items with replacement, with every
        value of a drawn item, shape (resamples,). Kept for the next time where it is of all items."""
        key = (quantile, seed, resamples)
        if chosen is None and key in self._drawn:
            return self._drawn[key]
        values, items = self._of(chosen)
        order = np.argsort(values, kind="stable")
        units = len(self.items) if chosen is None else len(chosen)
        found = np.concatenate(
            [
                _quantiles(drawn, values[order], items[order], quantile)
                for drawn in counts(units, seed, resamples)
            ]
        )
        if chosen is None:
            self._drawn[key] = found
        return found

    def _of(self, chosen: Indices | None) -> tuple[NDArray[np.float64], Indices]:
        """The values of these items, and the place of each one's item among them."""
        items = np.repeat(np.arange(len(self.items)), self.counts)
        if chosen is None:
            return self.values, items
        place = np.full(len(self.items), -1)
        place[chosen] = np.arange(len(chosen))
        kept = place[items] >= 0
        return self.values[kept], place[items][kept]

    @cached_property
    def _drawn(self) -> dict[tuple[float, int, int], NDArray[np.float64]]:
        return {}


def grouped(item_ids: Sequence[str], values: Sequence[float] | NDArray[np.float64]) -> Grouped:
    """Raises ValueError where there are not as many items as values."""
    if len(item_ids) != len(values):
        raise ValueError(f"{len(item_ids)} items of {len(values)} values")
    items, places = np.unique(np.asarray(item_ids, np.str_), return_inverse=True)
    return placed(items, places, np.asarray(values, np.float64))


def placed(items: NDArray[np.str_], places: Indices, values: NDArray[np.float64]) -> Grouped:
    """By the place of each value's item in ``items``, which ascend and may have more than these."""
    number = np.bincount(places, minlength=len(items))
    values = values[np.argsort(places, kind="stable")]
    there = number > 0
    return Grouped(items, number, values) if there.all() else Grouped(items[there], number[there], values)


def shared(a: Grouped, b: Grouped) -> tuple[Indices | None, Indices | None, int]:
    """Where the items that both have are in each, in ascending order, and how many; None for all of them."""
    if a.items is b.items or np.array_equal(a.items, b.items):
        return None, None, len(a.items)
    _, in_a, in_b = np.intersect1d(a.items, b.items, assume_unique=True, return_indices=True)
    whole_a, whole_b = (len(at) == len(side.items) for at, side in ((in_a, a), (in_b, b)))
    return None if whole_a else in_a, None if whole_b else in_b, len(in_a)


def paired(a: Grouped, b: Grouped) -> NDArray[np.float64]:
    """Of each item that both have, b's mean minus a's, in the items' order."""
    in_a, in_b, _ = shared(a, b)
    first = a.means if in_a is None else a.means[in_a]
    second = b.means if in_b is None else b.means[in_b]
    differences: NDArray[np.float64] = second - first
    return differences


def _quantiles(
    drawn: Counts, values: NDArray[np.float64], items: Indices, quantile: float
) -> NDArray[np.float64]:
    """The quantile of each resample. ``drawn`` has shape (resamples, items): how often each item was drawn;
    ``values`` ascend. Only the values around the quantile are looked at one by one, more of them until it
    lies among them in every resample."""
    units, last = drawn.shape[1], len(values) - 1
    of_item = np.bincount(items, minlength=units)
    of_unit: NDArray[Any] = drawn.T if units * of_item.max() < WHOLE else drawn.T.astype(np.float64)
    total = _sums(of_item, of_unit).astype(np.float64)
    place = quantile * (total - 1)
    below = np.floor(place)
    half = SPREADS * np.sqrt(quantile * (1 - quantile) * len(values)) + 2
    while True:
        middle = quantile * last
        first, end = max(0, int(middle - half)), min(len(values), int(middle + half) + 2)
        before = _sums(np.bincount(items[:first], minlength=units), of_unit)
        ends = of_unit[items[first:end]]
        ends[0] += before
        for last_row, row in itertools.pairwise(ends):
            row += last_row
        enough = end == len(values) or bool((ends[-1] > below + 1).all())
        if enough and (not first or bool((before <= below).all())):
            break
        half *= 2
    low = values[np.minimum(first + _reached(ends, below), last)]
    high = values[np.minimum(first + _reached(ends, below + 1), last)]
    result: NDArray[np.float64] = low + (place - below) * (high - low)
    return result


def _reached(ends: NDArray[Any], most: NDArray[np.float64]) -> NDArray[np.int32]:
    """How many of each column are at most its ``most``, a whole number; shape (columns,)."""
    found: NDArray[np.int32] = (ends <= most.astype(ends.dtype)).sum(axis=0, dtype=np.int32)
    return found


def _sums(weights: NDArray[Any], of_unit: NDArray[Any]) -> NDArray[Any]:
    """Of each column the weighted sum. Not by ``@``, whose threads wait for each other on a busy machine;
    these are whole numbers, so that the order of the sum changes nothing."""
    sums: NDArray[Any] = np.einsum("i,ij->j", weights.astype(of_unit.dtype), of_unit)
    return sums
