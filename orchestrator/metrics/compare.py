"""Cell against cell, on the items that both have.

Every difference is B minus A. Intervals cover 95 %; p is two-sided. What is resampled, the *unit*, is what
was drawn independently: an item for accuracy, a whole run for times and rates, since all requests of a run
share what the machine and the load did meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.significance import (
    BLOCK,
    FEWEST_PAIRS,
    LEVEL,
    RunsMethod,
    between_runs,
    holm,
    mcnemar,
    sign_flip,
    tango,
)

__all__ = ["Comparison", "compare_accuracy", "compare_runs", "compare_values", "holm", "mcnemar", "tango"]

Unit = Literal["item", "run"]
Method = Literal["mcnemar", "sign-flip", "bootstrap"] | RunsMethod
Verdict = Literal["equivalent", "different", "undecided", "too few", "within this run"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``difference`` and its interval are in the unit of the values. ``items``: how many both cells have (0
    where the runs' own numbers were compared).

    ``unit`` is what was resampled and ``units`` how many of them there were: shared items, or the runs of
    both cells together. ``method`` gave p, and ``too few`` says that no p could be below 5 %. ``within_run``:
    the interval tells what further requests of this very run would change and nothing of another run, so
    that there is no significance.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    items: int
    method: Method
    unit: Unit
    units: int
    within_run: bool = False

    def verdict(self, margin: float | None = None, adjusted_p: float | None = None) -> Verdict:
        """``equivalent``: the interval lies within ± ``margin`` (in the unit of the difference), which is a
        two one-sided test at 2.5 % each (Schuirmann 1987). ``different``: p, or ``adjusted_p`` where it is
        given, is below 5 % and the interval excludes 0. Else ``undecided``, which is not ``equivalent``;
        ``too few`` units to tell; ``within this run`` where there is one run.

        Raises ValueError for a margin that is no positive number.
        """
        if margin is not None and not 0 < margin < float("inf"):
            raise ValueError(f"margin={margin}: must be a number above 0")
        if self.within_run:
            return "within this run"
        few = self.unit == "item" and self.units < FEWEST_PAIRS
        if few or self.low is None or self.high is None:
            return "too few"
        if margin is not None and -margin < self.low and self.high < margin:
            return "equivalent"
        p = self.p if adjusted_p is None else adjusted_p
        if p is None:
            return "too few"
        return "different" if p < LEVEL and not self.low <= 0 <= self.high else "undecided"


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

    The unit is the item: answers of several repeats or runs are given together. With one answer to each item:
    McNemar's exact test, and Tango's (1998) score interval for a difference of paired proportions. With
    several: the items' mean differences by `significance.sign_flip`; where no item differs, Tango's interval.
    """
    a, b = _group(item_ids_a, correct_a), _group(item_ids_b, correct_b)
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    items = len(shared)
    if any(len(a[item]) > 1 or len(b[item]) > 1 for item in shared):
        differences = np.array([np.mean(b[item]) - np.mean(a[item]) for item in shared])
        if differences.any():
            return _by_items(differences, seed, resamples)
        return Comparison(0.0, *tango(0, 0, items), 1.0, items, "sign-flip", "item", items)
    gained = sum(b[item][0] > a[item][0] for item in shared)
    lost = sum(a[item][0] > b[item][0] for item in shared)
    low, high = tango(gained, lost, items)
    p = mcnemar(gained, lost)
    return Comparison((gained - lost) / items, low, high, p, items, "mcnemar", "item", items)


def compare_values(
    item_ids_a: Sequence[str],
    values_a: Sequence[float],
    item_ids_b: Sequence[str],
    values_b: Sequence[float],
    *,
    runs_a: Sequence[int] | None = None,
    runs_b: Sequence[int] | None = None,
    quantile: float | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Comparison | None:
    """The difference in a latency or another value per request: of means (over items, of the mean over
    repeats), or of a ``quantile`` in (0, 1) over all requests. None without a common item.

    ``runs_*`` tell the run of each value. With two runs or more on each side the unit is the run: the mean or
    quantile of each one, over the items that all of them have, goes to `compare_runs`. With one run on a side
    there is an interval within this run and no p: a paired bootstrap by item, in which each resample draws
    as many items as there are, with replacement, and takes every repeat of a drawn item from both cells, so
    that what an item has in common in both (its length, say) cancels; the percentile interval, None below
    `FEWEST_PAIRS` items.
    """
    if quantile is not None and not 0 < quantile < 1:
        raise ValueError(f"quantile={quantile}: must be above 0 and below 1")
    per_run = [_by_run(*side) for side in ((item_ids_a, values_a, runs_a), (item_ids_b, values_b, runs_b))]
    if min(len(side) for side in per_run) > 1:
        everywhere = sorted(set.intersection(*(set(run) for side in per_run for run in side)))
        if not everywhere:
            return None
        return compare_runs(
            *([_statistic(run, everywhere, quantile) for run in side] for side in per_run),
            items=len(everywhere),
        )
    a, b = _group(item_ids_a, values_a), _group(item_ids_b, values_b)
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    items = len(shared)
    difference = _statistic(b, shared, quantile) - _statistic(a, shared, quantile)
    if items < FEWEST_PAIRS:
        return Comparison(difference, None, None, None, items, "too few", "item", items, within_run=True)
    low, high = np.percentile(_draws(a, b, shared, quantile, seed, resamples), (2.5, 97.5))
    return Comparison(
        difference, float(low), float(high), None, items, "bootstrap", "item", items, within_run=True
    )


def compare_runs(a: Sequence[float], b: Sequence[float], *, items: int = 0) -> Comparison | None:
    """The difference of the means of two cells' runs, one number a run (a throughput, a mean or percentile of
    a latency). None without a run on a side. The rule is that of `significance.between_runs`."""
    if not len(a) or not len(b):
        return None
    difference, units = float(np.mean(b) - np.mean(a)), len(a) + len(b)
    found = between_runs(a, b)
    if found is None:
        return Comparison(difference, None, None, None, items, "too few", "run", units)
    interval, method = found
    return Comparison(difference, interval.low, interval.high, interval.p, items, method, "run", units)


def _group(item_ids: Sequence[str], values: Sequence[float]) -> dict[str, list[float]]:
    grouped: dict[str, list[float]] = {}
    for item_id, value in zip(item_ids, values, strict=True):
        grouped.setdefault(item_id, []).append(float(value))
    return grouped


def _by_run(
    item_ids: Sequence[str], values: Sequence[float], runs: Sequence[int] | None
) -> list[dict[str, list[float]]]:
    """The values of each run by item. Without ``runs`` all are of one."""
    found: dict[int, dict[str, list[float]]] = {}
    for run, item_id, value in zip(runs or [1] * len(values), item_ids, values, strict=True):
        found.setdefault(run, {}).setdefault(item_id, []).append(float(value))
    return list(found.values())


def _statistic(group: dict[str, list[float]], items: Sequence[str], quantile: float | None) -> float:
    if quantile is None:
        return float(np.mean([np.mean(group[item]) for item in items]))
    return float(np.quantile([value for item in items for value in group[item]], quantile))


def _by_items(differences: NDArray[np.float64], seed: int, resamples: int) -> Comparison:
    items, difference = len(differences), float(differences.mean())
    found = sign_flip(differences, seed, resamples)
    if found is None:
        return Comparison(difference, None, None, None, items, "too few", "item", items)
    return Comparison(difference, found.low, found.high, found.p, items, "sign-flip", "item", items)


def _draws(
    a: dict[str, list[float]],
    b: dict[str, list[float]],
    shared: Sequence[str],
    quantile: float | None,
    seed: int,
    resamples: int,
) -> NDArray[np.float64]:
    """The difference in each resample, shape (resamples,)."""
    if quantile is None:
        differences = np.array([np.mean(b[item]) - np.mean(a[item]) for item in shared])
        drawn = _resampled(len(shared), resamples, seed, len(shared))
        return np.concatenate([counts @ differences / len(shared) for counts in drawn])
    sides = [_sorted(group, shared) for group in (a, b)]
    drawn = _resampled(len(shared), resamples, seed, max(len(side[0]) for side in sides))
    return np.concatenate(
        [
            _quantiles(counts, *sides[1], quantile) - _quantiles(counts, *sides[0], quantile)
            for counts in drawn
        ]
    )


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
    rows = max(1, BLOCK // width)
    for start in range(0, resamples, rows):
        shape = min(rows, resamples - start)
        yield generator.multinomial(items, np.full(items, 1 / items), size=shape).astype(np.float64)
