"""Tests and intervals that comparisons are made of. Intervals cover 95 %; p is two-sided.

Each holds its level: under the null a p below 0.05 comes in at most 5 % of the cases, whatever the number of
units (`tests/metrics/test_significance.py` simulates it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.resampling import subset_means
from orchestrator.metrics.stats import Z

LEVEL = 0.05
FEWEST_PAIRS = 6  # 2 / 2**6 is the first smallest p below 5 %
EXACT_BELOW = 20  # pairs; from there on flips are drawn
MAX_SPLITS = 100_000  # 9 against 10 runs have 92,378

_Z2 = Z**2  # the chi-squared distribution's 95 % quantile, one degree of freedom
TOGETHER = 128  # samples that go through the same draws at once
_ROUNDING = 1e-12  # sums that differ by less, relatively, differ by rounding alone


RunsMethod = Literal["permutation", "welch", "too few"]
BlocksMethod = Literal["sign-flip", "student", "too few"]


@dataclass(frozen=True, slots=True)
class Interval:
    """``p`` is for a difference of 0; None where no p could be below `LEVEL`, or none is to be had."""

    low: float
    high: float
    p: float | None


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact p: of ``gained + lost`` items that changed, each way equally likely.

    p = min(1, 2 P(X <= min(gained, lost))) with X ~ Binomial(gained + lost, 1/2).
    """
    changed = gained + lost
    tail = choices = 1
    for i in range(min(gained, lost)):
        choices = choices * (changed - i) // (i + 1)
        tail += choices
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


def sign_flip(differences: NDArray[np.float64], seed: int, resamples: int) -> Interval | None:
    """For the mean of paired differences; None below `FEWEST_PAIRS`.

    Under the null each difference is as likely as its negative. All 2^n choices of signs are tried below
    `EXACT_BELOW` pairs, ``resamples`` drawn ones from there on, which count with the sample's own. Flipping a
    subset's signs changes the sum by twice that subset's, so that the means of all subsets give both: p is
    twice the share of them on the other side of 0, the empty one counted with them, and the interval holds
    what the test at 5 % would not reject (Hartigan 1969, "Using subsample values as typical values").
    """
    return sign_flips([differences], seed, resamples)[0]


def sign_flips(samples: Sequence[NDArray[np.float64]], seed: int, resamples: int) -> list[Interval | None]:
    """`sign_flip` of each, with the same choices of signs for all that have as many pairs."""
    found: list[Interval | None] = [None] * len(samples)
    drawn: dict[int, list[int]] = {}
    for i, differences in enumerate(samples):
        if len(differences) >= EXACT_BELOW:
            drawn.setdefault(len(differences), []).append(i)
        elif len(differences) >= FEWEST_PAIRS:
            found[i] = _of_subsets(_all_subsets(differences), differences)
    for alike in drawn.values():
        for start in range(0, len(alike), TOGETHER):
            some = alike[start : start + TOGETHER]
            means = subset_means([samples[i] for i in some], seed, resamples)
            for i, of in zip(some, means, strict=True):
                found[i] = _of_subsets(of, samples[i])
    return found


def _of_subsets(means: NDArray[np.float64], differences: NDArray[np.float64]) -> Interval:
    means[np.abs(means) <= _ROUNDING * np.abs(differences).max()] = 0.0
    flips = len(means) + 1
    side = min(int((means <= 0).sum()), int((means >= 0).sum()))
    kept = int(LEVEL / 2 * flips)
    low, high = np.partition(means, (kept - 1, len(means) - kept))[[kept - 1, len(means) - kept]]
    return Interval(float(low), float(high), min(1.0, 2 * (side + 1) / flips))


def between_runs(a: Sequence[float], b: Sequence[float]) -> tuple[Interval, RunsMethod] | None:
    """For the mean of ``b`` minus that of ``a``, one number a run, and the test that gave p: ``permutation``,
    ``welch`` or ``too few``. None with fewer than two runs on a side, which tell no spread.

    The interval is Welch's (1947). p is that of the exact permutation test over the runs (each split of them
    into two groups of these sizes equally likely) where one of its p could be below `LEVEL` and there are at
    most `MAX_SPLITS` of them; else Welch's t from three runs a side on, which is three against three, where
    no split of the six could, and ten against ten and more.
    """
    if min(len(a), len(b)) < 2:
        return None
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low, high, p = welch(first, second)
    splits = math.comb(len(a) + len(b), len(a))
    smallest = (2 if len(a) == len(b) else 1) / splits
    if smallest <= LEVEL and splits <= MAX_SPLITS:
        return Interval(low, high, permutation(first, second)), "permutation"
    if min(len(a), len(b)) < 3:
        return Interval(low, high, None), "too few"
    return Interval(low, high, max(smallest, p) if low == high else p), "welch"


def between_blocks(
    a: Sequence[float], b: Sequence[float], *, one_order: bool = False
) -> tuple[Interval, BlocksMethod]:
    """As `between_runs`, of at least two numbers that go in pairs: ``a[i]`` and ``b[i]`` are of one block,
    whose level cancels in their difference. ``one_order``: the same side came first in every block. With p
    the test that gave it: ``student``, ``sign-flip`` or ``too few``.

    Interval and p are Student's, from three pairs on: two may happen to differ alike. From 6 pairs to 16 (of
    which `MAX_SPLITS` hold all signs) nothing is significant that the exact test of all choices of signs does
    not call so at `LEVEL`: in a block in random order either side may come first, which is all that it takes
    for granted. It does not give p by itself, since below 5 % it has so few values that among some tens of
    comparisons ten blocks would prove nothing. Where the order was the same in all blocks, what changes from
    one place to the next passes for a difference: p is not below the chance of such an order, and there is
    none where that is above `LEVEL`, which is below 6 pairs.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    differences = second - first
    low, high, normal = student(differences, max(np.abs(first).max(), np.abs(second).max()))
    pairs, signs = len(differences), 2 ** len(differences)
    if pairs < 3 or (one_order and 2 / signs > LEVEL):
        return Interval(low, high, None), "too few"
    least = 2 / signs if one_order or low == high else 0.0
    if pairs >= FEWEST_PAIRS and signs <= MAX_SPLITS:
        exact = _of_subsets(_all_subsets(differences), differences).p
        least = max(least, exact if exact is not None and exact >= LEVEL else 0.0)
    return Interval(low, high, max(least, normal)), "student" if normal >= least else "sign-flip"


def student(differences: NDArray[np.float64], scale: float) -> tuple[float, float, float]:
    """The interval for the mean of paired ``differences``, and p, by Student's t. Without any spread, beside
    the ``scale`` of the values that they are of, the interval has no width, and p is 0 unless the mean is."""
    from scipy.special import stdtr, stdtrit  # here: what only plans needs none of it

    mean, freedom = float(differences.mean()), len(differences) - 1
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if error <= _ROUNDING * scale:
        return mean, mean, float(abs(mean) <= _ROUNDING * scale)
    half = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    return mean - half, mean + half, float(2 * stdtr(freedom, -abs(mean) / error))


def permutation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The share of all splits of the values into groups of these sizes whose means differ by at least as
    much as those of ``a`` and ``b``."""
    values = np.concatenate([a, b])
    sums = values[_splits(len(values), len(a))].sum(axis=1)
    expected = values.sum() * len(a) / len(values)  # of the sum: how far it is from there decides
    apart, seen = np.abs(sums - expected), abs(a.sum() - expected)
    return float((apart >= seen - _ROUNDING * np.abs(values).sum()).mean())


def welch(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float, float]:
    """The interval for mean(b) − mean(a), and p, by Student's t with Welch's degrees of freedom. Without any
    spread the interval has no width, and p is 0 unless the means are equal."""
    from scipy.special import stdtr, stdtrit  # here: what only plans needs none of it

    difference = float(b.mean() - a.mean())
    parts = [side.var(ddof=1) / len(side) for side in (a, b)]
    error = math.sqrt(sum(parts))
    if error <= _ROUNDING * max(np.abs(a).max(), np.abs(b).max()):
        return difference, difference, float(difference == 0)
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True)
    )
    half = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    return difference - half, difference + half, float(2 * stdtr(freedom, -abs(difference) / error))


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


def _all_subsets(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each subset but the empty one, shape (2^n − 1,)."""
    sums, sizes = np.zeros(1), np.zeros(1)
    for value in values:
        sums, sizes = np.concatenate([sums, sums + value]), np.concatenate([sizes, sizes + 1])
    means: NDArray[np.float64] = sums[1:] / sizes[1:]
    return means


@lru_cache(maxsize=8)
def _splits(values: int, size: int) -> NDArray[np.int64]:
    """Each choice of ``size`` of the values, shape (splits, size)."""
    return np.array(list(combinations(range(values), size)), np.int64)
