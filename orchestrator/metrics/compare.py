"""Cell against cell, on the items that both have.

Every difference is B minus A. Intervals cover 95 %; p is two-sided. What is resampled, the *unit*, is what
was drawn independently: an item for accuracy, a whole run for times and rates, since all requests of a run
share what the machine and the load did meanwhile; a block of runs where `blocks` pairs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.grouped import Grouped, Indices, grouped, paired, shared
from orchestrator.metrics.resampling import bootstrap_means
from orchestrator.metrics.significance import (
    FEWEST_PAIRS,
    LEVEL,
    TOGETHER,
    BlocksMethod,
    Interval,
    RunsMethod,
    between_runs,
    holm,
    mcnemar,
    sign_flip,
    tango,
)

__all__ = ["Comparison", "compare_accuracy", "compare_runs", "compare_values", "holm", "mcnemar", "tango"]

Unit = Literal["item", "run", "block"]
Method = Literal["mcnemar", "sign-flip", "bootstrap"] | RunsMethod | BlocksMethod
Verdict = Literal["equivalent", "different", "undecided", "too few", "within this run"]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Of runs by the blocks that both cells have. ``paired`` and ``runs``: how many runs of A and of B are in
    such blocks, and how many there are. ``width``: the interval's length over that of the unpaired one of the
    same numbers, below 1 where pairing made it narrower; None where the latter has no length."""

    paired: tuple[int, int]
    runs: tuple[int, int]
    width: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """``difference`` and its interval are in the unit of the values. ``items``: how many both cells have (0
    where the runs' own numbers were compared).

    ``unit`` is what was resampled and ``units`` how many of them there were: shared items, the runs of both
    cells together, or shared blocks, of which ``pairing`` tells more. ``method`` gave p, and ``too few`` says
    that no p could be below 5 %. ``within_run``: the interval tells what further requests of this very run
    would change and nothing of another run, so that there is no significance.
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
    pairing: Pairing | None = None

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
    found = compare_answers(grouped(item_ids_a, correct_a), grouped(item_ids_b, correct_b))
    if not isinstance(found, np.ndarray):
        return found
    return by_items(found, sign_flip(found, seed, resamples))


def compare_answers(a: Grouped, b: Grouped) -> Comparison | NDArray[np.float64] | None:
    """As `compare_accuracy`, of values that are 0 or 1. Where it takes sign flips, the items' differences for
    `by_items`, so that many comparisons can be flipped at once."""
    in_a, in_b, items = shared(a, b)
    if not items:
        return None
    differences = paired(a, b)
    if any((side.counts if at is None else side.counts[at]).max() > 1 for side, at in ((a, in_a), (b, in_b))):
        if differences.any():
            return differences
        return Comparison(0.0, *tango(0, 0, items), 1.0, items, "sign-flip", "item", items)
    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    low, high = tango(gained, lost, items)
    p = mcnemar(gained, lost)
    return Comparison((gained - lost) / items, low, high, p, items, "mcnemar", "item", items)


def by_items(differences: NDArray[np.float64], flipped: Interval | None) -> Comparison:
    """Of items' mean differences and what `significance.sign_flip` makes of them."""
    items, difference = len(differences), float(differences.mean())
    if flipped is None:
        return Comparison(difference, None, None, None, items, "too few", "item", items)
    return Comparison(difference, flipped.low, flipped.high, flipped.p, items, "sign-flip", "item", items)


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
        everywhere = reduce(np.intersect1d, [run.items for side in per_run for run in side])
        if not len(everywhere):
            return None
        return compare_runs(
            *(
                [_statistic(run, run.items.searchsorted(everywhere), quantile) for run in side]
                for side in per_run
            ),
            items=len(everywhere),
        )
    a, b = grouped(item_ids_a, values_a), grouped(item_ids_b, values_b)
    return compare_grouped([(a, b)], quantile, seed, resamples)[0]


def compare_grouped(
    pairs: Sequence[tuple[Grouped, Grouped]], quantile: float | None, seed: int, resamples: int
) -> list[Comparison | None]:
    """`compare_values` of one run against one, of each of the pairs, which share the draws."""
    places = [shared(a, b) for a, b in pairs]
    ends = _percentiles(_draws(pairs, places, quantile, seed, resamples))
    found: list[Comparison | None] = []
    for i, ((a, b), (in_a, in_b, items)) in enumerate(zip(pairs, places, strict=True)):
        if not items:
            found.append(None)
            continue
        difference = _statistic(b, in_b, quantile) - _statistic(a, in_a, quantile)
        low = high = None
        if i in ends:
            low, high = ends[i]
        method: Method = "too few" if low is None else "bootstrap"
        found.append(Comparison(difference, low, high, None, items, method, "item", items, within_run=True))
    return found


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


def _by_run(item_ids: Sequence[str], values: Sequence[float], runs: Sequence[int] | None) -> list[Grouped]:
    """The values of each run by item. Without ``runs`` all are of one."""
    found: dict[int, tuple[list[str], list[float]]] = {}
    for run, item_id, value in zip(runs or [1] * len(values), item_ids, values, strict=True):
        items, of = found.setdefault(run, ([], []))
        items.append(item_id)
        of.append(float(value))
    return [grouped(*of) for of in found.values()]


def _statistic(group: Grouped, chosen: Indices | None, quantile: float | None) -> float:
    return group.mean(chosen) if quantile is None else group.quantile(chosen, quantile)


def _draws(
    pairs: Sequence[tuple[Grouped, Grouped]],
    places: Sequence[tuple[Indices | None, Indices | None, int]],
    quantile: float | None,
    seed: int,
    resamples: int,
) -> dict[int, NDArray[np.float64]]:
    """The difference in each resample, shape (resamples,), by the pair's place, of those that have
    `FEWEST_PAIRS` items."""
    able = [i for i, (_, _, items) in enumerate(places) if items >= FEWEST_PAIRS]
    if quantile is not None:
        return {
            i: pairs[i][1].drawn_quantiles(places[i][1], quantile, seed, resamples)
            - pairs[i][0].drawn_quantiles(places[i][0], quantile, seed, resamples)
            for i in able
        }
    alike: dict[int, list[int]] = {}
    for i in able:
        alike.setdefault(places[i][2], []).append(i)
    found: dict[int, NDArray[np.float64]] = {}
    for of in alike.values():
        for start in range(0, len(of), TOGETHER):
            some = of[start : start + TOGETHER]
            drawn = bootstrap_means([paired(*pairs[i]) for i in some], seed, resamples)
            found |= dict(zip(some, drawn, strict=True))
    return found


def _percentiles(drawn: Mapping[int, NDArray[np.float64]]) -> dict[int, tuple[float, float]]:
    """The ends of the 95 % interval of each, all at once."""
    if not drawn:
        return {}
    low, high = np.percentile(np.stack(list(drawn.values())), (2.5, 97.5), axis=1).tolist()
    return dict(zip(drawn, zip(low, high, strict=True), strict=True))
