"""Cell against cell, on the items that both have.

Every difference is B minus A. Intervals cover 95 %; p is two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["mcnemar", "bootstrap"]

_Z2 = 1.959963984540054**2  # the chi-squared distribution's 95 % quantile, one degree of freedom
_BLOCK = 4_000_000  # floats held at once while resampling: 32 MB


@dataclass(frozen=True, slots=True)
class Comparison:
    """``difference`` and its interval are in the unit of the values. ``items``: how many both cells have."""

    difference: float
    low: float
    high: float
    p: float
    items: int
    method: Method


def compare_accuracy(
    item_ids_a: Sequence[str],
    correct_a: Sequence[bool],
    item_ids_b: Sequence[str],
    correct_b: Sequence[bool],
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> Comparison | None:
    """The difference in accuracy; None when the cells have no item in common.

    With one answer per item: McNemar's exact test, and Tango's (1998) score interval for a difference of
    paired proportions. With repeats: a bootstrap of the items' mean differences (see `compare_values`).
    """
    a, b = _group(item_ids_a, correct_a), _group(item_ids_b, correct_b)
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    if any(len(a[item]) > 1 or len(b[item]) > 1 for item in shared):
        return _mean_difference(a, b, shared, seed, resamples)
    gained = sum(b[item][0] > a[item][0] for item in shared)
    lost = sum(a[item][0] > b[item][0] for item in shared)
    low, high = tango(gained, lost, len(shared))
    return Comparison(
        (gained - lost) / len(shared), low, high, mcnemar(gained, lost), len(shared), method="mcnemar"
    )


def compare_values(
    item_ids_a: Sequence[str],
    values_a: Sequence[float],
    item_ids_b: Sequence[str],
    values_b: Sequence[float],
    *,
    quantile: float | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Comparison | None:
    """The difference in a latency or another value per request: of means (over items, of the mean over
    repeats), or of a ``quantile`` in (0, 1) over all requests. None without a common item.

    A paired bootstrap by item: each resample draws as many items as there are, with replacement, and takes
    every repeat of a drawn item from both cells, so that what an item has in common in both (its length,
    say) cancels. The interval is the percentile interval; p is twice the smaller share of resamples on one
    side of zero, each counted with one resample added (Davison and Hinkley 1997), so it is never 0.
    """
    a, b = _group(item_ids_a, values_a), _group(item_ids_b, values_b)
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    if quantile is None:
        return _mean_difference(a, b, shared, seed, resamples)
    if not 0 < quantile < 1:
        raise ValueError(f"quantile={quantile}: must be above 0 and below 1")
    sides = [_sorted(group, shared) for group in (a, b)]
    observed_a, observed_b = (_quantiles(np.ones((1, len(shared))), *side, quantile) for side in sides)
    draws = np.concatenate(
        [
            _quantiles(counts, *sides[1], quantile) - _quantiles(counts, *sides[0], quantile)
            for counts in _resampled(len(shared), resamples, seed, max(len(side[0]) for side in sides))
        ]
    )
    return _bootstrapped(float((observed_b - observed_a)[0]), draws, len(shared))


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact p: of ``gained + lost`` items that changed, each way equally likely.

    p = min(1, 2 P(X <= min(gained, lost))) with X ~ Binomial(gained + lost, 1/2).
    """
    changed = gained + lost
    tail = sum(math.comb(changed, i) for i in range(min(gained, lost) + 1))
    return min(1.0, float(2 * tail / 2**changed))


def tango(gained: int, lost: int, items: int) -> tuple[float, float]:
    """Tango's (1998) 95 % score interval for (gained - lost) / items, a difference of paired proportions.

    Its bounds are where the score statistic equals the normal quantile; found by bisection.
    """

    def excess(delta: float) -> float:
        a = 2 * items
        b = -gained - lost + (2 * items - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = items * (2 * q + delta * (1 - delta))
        return (gained - lost - items * delta) ** 2 - _Z2 * max(variance, 0.0)

    difference = (gained - lost) / items
    return _root(excess, difference, -1.0), _root(excess, difference, 1.0)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) adjusted p-values, in the order given: each may be read at the level that the whole table
    is meant to have. None stays None and does not count."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted


def _root(excess: Callable[[float], float], inside: float, outside: float) -> float:
    """Where ``excess`` turns from at most 0 at ``inside`` to above 0 towards ``outside``."""
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if excess(middle) <= 0 else (inside, middle)
    return outside


def _group(item_ids: Sequence[str], values: Sequence[float]) -> dict[str, list[float]]:
    grouped: dict[str, list[float]] = {}
    for item_id, value in zip(item_ids, values, strict=True):
        grouped.setdefault(item_id, []).append(float(value))
    return grouped


def _mean_difference(
    a: dict[str, list[float]], b: dict[str, list[float]], shared: Sequence[str], seed: int, resamples: int
) -> Comparison:
    differences = np.array([np.mean(b[item]) - np.mean(a[item]) for item in shared])
    draws = np.concatenate(
        [
            counts @ differences / len(shared)
            for counts in _resampled(len(shared), resamples, seed, len(shared))
        ]
    )
    return _bootstrapped(float(differences.mean()), draws, len(shared))


def _sorted(
    group: dict[str, list[float]], shared: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All values of the shared items in ascending order, and the position of each value's item."""
    values = np.array([value for item in shared for value in group[item]])
    items = np.repeat(np.arange(len(shared)), [len(group[item]) for item in shared])
    order = np.argsort(values, kind="stable")
    return values[order], items[order]


def _quantiles(
    counts: NDArray[np.float64], values: NDArray[np.float64], items: NDArray[np.int64], quantile: float
) -> NDArray[np.float64]:
    """The quantile of each resample, interpolated linearly (NumPy's default). ``counts`` has shape
    (resamples, items): how often each item was drawn."""
    ends = counts[:, items].cumsum(axis=1)
    place = quantile * (ends[:, -1] - 1)
    below = np.floor(place)
    last = len(values) - 1
    low = values[np.minimum((ends <= below[:, None]).sum(axis=1), last)]
    high = values[np.minimum((ends <= below[:, None] + 1).sum(axis=1), last)]
    result: NDArray[np.float64] = low + (place - below) * (high - low)
    return result


def _resampled(items: int, resamples: int, seed: int, width: int) -> Iterator[NDArray[np.float64]]:
    """How often each item is drawn, for all resamples, in blocks whose rows times ``width`` fit in memory."""
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // width)
    for start in range(0, resamples, rows):
        shape = min(rows, resamples - start)
        yield generator.multinomial(items, np.full(items, 1 / items), size=shape).astype(np.float64)


def _bootstrapped(difference: float, draws: NDArray[np.float64], items: int) -> Comparison:
    low, high = np.percentile(draws, (2.5, 97.5))
    side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p = min(1.0, 2 * (side + 1) / (len(draws) + 1))
    return Comparison(difference, float(low), float(high), p, items, method="bootstrap")
