"""Throughput, cost or energy against speed for one user: points and their frontier, and what accuracy as a
third objective adds to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.metrics.compare import Comparison, by_items, compare_answers
from orchestrator.metrics.runs import OverRuns, over_runs
from orchestrator.report.accuracy import AccuracyRow
from orchestrator.report.variants import Variant
from orchestrator.report.waiting import Flips, settled

MILLION = 1e6
Kept = Literal["more accurate", "not decided"]


@dataclass(frozen=True, eq=False)
class Point:
    """``x``: tokens/s that one user sees; ``y``: tokens/s of one GPU, or of the machine where there is none,
    or what was asked for. ``on_frontier``: no other point of the same group is better in one and at least as
    good in the other. ``by_accuracy``: of a point that is not on it, but is more accurate by the means than
    all that are as good in both: whether tests show that (`kept_by_accuracy`)."""

    variant: Variant
    group: tuple[str, ...]
    x: OverRuns
    y: OverRuns
    on_frontier: bool
    accuracy: AccuracyRow | None = None
    by_accuracy: Kept | None = None


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of points (x, y) where more is better in both: which of them no other one dominates. Of equal points
    all stay."""
    best, on_it = float("-inf"), set[tuple[float, float]]()
    for x, y in sorted(points, key=lambda point: (-point[0], -point[1])):
        if y > best:
            on_it.add((x, y))
            best = y
    return [(x, y) in on_it for x, y in points]


def beaten_but_accurate(points: Sequence[tuple[float, float, float | None]]) -> dict[int, list[int]]:
    """Of points (x, y, accuracy) where more is better in all three: those that another one dominates in x and
    y and none in all three, each with the points that dominate it in x and y. One without an accuracy has
    none to be kept for, and dominates nothing in three."""
    found = {}
    for i, (x, y, accuracy) in enumerate(points):
        as_good = [j for j, (u, v, _) in enumerate(points) if u >= x and v >= y and j != i]
        better = [j for j in as_good if points[j][:2] != (x, y)]
        if accuracy is not None and better and not any(_reaches(points[j], points[i]) for j in as_good):
            found[i] = better
    return found


def _reaches(one: tuple[float, float, float | None], other: tuple[float, float, float | None]) -> bool:
    """Whether it dominates the other, given that it is as good in x and y."""
    if one[2] is None or other[2] is None:
        return False
    return one[2] > other[2] or (one[2] == other[2] and one[:2] != other[:2])


def kept_by_accuracy(points: Sequence[tuple[float, float, AccuracyRow | None]]) -> list[Kept | None]:
    """Of each of `beaten_but_accurate`: ``more accurate`` where it is so than each one that dominates it in x
    and y, by the test of the comparisons (p below 0.05 question by question; all of them have to hold, which
    needs no correction), or, without a question in common, where the 95 % intervals lie apart; else ``not
    decided``. None of the others."""
    values = [(x, y, None if row is None else row.value) for x, y, row in points]
    candidates = beaten_but_accurate(values)
    rows = [row for _, _, row in points]
    # The most accurate one decides most often, so that the others need no test.
    hardest = {i: max(better, key=lambda j: _value(rows[j])) for i, better in candidates.items()}
    first = _all_more(rows, {i: [j] for i, j in hardest.items()})
    rest = {i: [j for j in candidates[i] if j != hardest[i]] for i in first}
    kept = _all_more(rows, rest)
    found: dict[int, Kept] = {i: "more accurate" if i in kept else "not decided" for i in candidates}
    return [found.get(i) for i in range(len(points))]


def _value(row: AccuracyRow | None) -> float:
    """One that is not known may be any."""
    return float("inf") if row is None else row.value


def _all_more(rows: Sequence[AccuracyRow | None], against: Mapping[int, Sequence[int]]) -> set[int]:
    """Those that are shown to be more accurate than all that they are held against."""
    pairs = [(i, j) for i, others in against.items() for j in others]
    shown = settled([_more(rows[i], rows[j]) for i, j in pairs])
    failed = {i for (i, _), more in zip(pairs, shown, strict=True) if not more}
    return set(against) - failed


def _more(one: AccuracyRow | None, than: AccuracyRow | None) -> bool | Flips[bool]:
    """Whether it is shown to be more accurate."""
    if one is None or than is None:
        return False
    found = compare_answers(than.variant.by_item("correct"), one.variant.by_item("correct"))
    if found is None:
        return one.low is not None and than.high is not None and one.low > than.high
    if isinstance(found, Comparison):
        return _is_more(found)
    return Flips(found, lambda flipped: _is_more(by_items(found, flipped)))


def _is_more(found: Comparison) -> bool:
    return found.verdict() == "different" and found.difference > 0


def pareto_points(
    variants: Sequence[Variant],
    y_of: Callable[[Variant], list[float]] | None = None,
    less_is_better: bool = False,
    accuracies: Sequence[AccuracyRow] = (),
) -> list[Point]:
    """Of the variants that have both numbers; what is missing is no point. One frontier for each model, kind
    of GPU, dataset, budget and thinking budget: only those are choices for the same work. ``y_of``: one
    number a run, by default `per_gpu`; ``less_is_better`` of it; ``accuracies`` of the variants that were
    graded."""
    graded = {row.variant: row for row in accuracies}
    found: dict[tuple[str, ...], list[tuple[Variant, OverRuns, OverRuns]]] = {}
    for variant in variants:
        x, y = over_runs(_per_user(variant)), over_runs((y_of or per_gpu)(variant))
        if x is not None and y is not None:
            names = ("model", "weights", "gpu_type", "dataset", "max_tokens", "thinking_budget")
            found.setdefault(tuple(variant.facts[name] for name in names), []).append((variant, x, y))
    sign = -1 if less_is_better else 1
    points = []
    for group, members in found.items():
        on_it = frontier([(x.mean, sign * y.mean) for _, x, y in members])
        kept = kept_by_accuracy([(x.mean, sign * y.mean, graded.get(one)) for one, x, y in members])
        points += [
            Point(variant, group, x, y, on, graded.get(variant), by_accuracy)
            for (variant, x, y), on, by_accuracy in zip(members, on_it, kept, strict=True)
        ]
    return points


def per_gpu(variant: Variant) -> list[float]:
    """Output tokens per second of one GPU, one number a run: over all GPUs of the deployment."""
    return [value / max(1, variant.row.get("gpus") or 0) for value in variant.values("output_token_per_s")]


def cost_per_million(variant: Variant, gpu_hour: float) -> list[float]:
    """Of a million output tokens, in the currency of ``gpu_hour``, the price of one GPU for an hour: of all
    GPUs of the deployment, while the load lasted. One number a run; none without a GPU."""
    if not variant.row.get("gpus"):
        return []
    return [MILLION * gpu_hour / 3600 / rate for rate in per_gpu(variant) if rate > 0]


def joules_per_million(variant: Variant) -> list[float]:
    """Of a million output tokens, over all GPUs; one number a run whose energy is known."""
    return [MILLION * value for value in variant.values("joule_per_output_token") if value > 0]


def _per_user(variant: Variant) -> list[float]:
    """One over the time of an output token; what older versions did not store follows from TPOT."""
    stored = variant.values("token_per_s_per_user_mean")
    return stored or [1 / value for value in variant.values("tpot_s_mean") if value > 0]
