"""Throughput, cost or energy against speed for one user: points and their frontier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.metrics.runs import OverRuns, over_runs
from orchestrator.report.variants import Variant

MILLION = 1e6


@dataclass(frozen=True, eq=False)
class Point:
    """``x``: tokens/s that one user sees; ``y``: tokens/s of one GPU, or of the machine where there is none,
    or what was asked for. ``on_frontier``: no other point of the same group is better in one and at least as
    good in the other."""

    variant: Variant
    group: tuple[str, ...]
    x: OverRuns
    y: OverRuns
    on_frontier: bool


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of points (x, y) where more is better in both: which of them no other one dominates. Of equal points
    all stay."""
    best, on_it = float("-inf"), set[tuple[float, float]]()
    for x, y in sorted(points, key=lambda point: (-point[0], -point[1])):
        if y > best:
            on_it.add((x, y))
            best = y
    return [(x, y) in on_it for x, y in points]


def pareto_points(
    variants: Sequence[Variant],
    y_of: Callable[[Variant], list[float]] | None = None,
    less_is_better: bool = False,
) -> list[Point]:
    """Of the variants that have both numbers; what is missing is no point. One frontier for each model, kind
    of GPU, dataset and budget: only those are choices for the same work. ``y_of``: one number a run, by
    default `per_gpu`; ``less_is_better`` of it."""
    found: dict[tuple[str, ...], list[tuple[Variant, OverRuns, OverRuns]]] = {}
    for variant in variants:
        x, y = over_runs(_per_user(variant)), over_runs((y_of or per_gpu)(variant))
        if x is not None and y is not None:
            names = ("model", "weights", "gpu_type", "dataset", "max_tokens")
            found.setdefault(tuple(variant.facts[name] for name in names), []).append((variant, x, y))
    sign = -1 if less_is_better else 1
    return [
        Point(variant, group, x, y, kept)
        for group, members in found.items()
        for (variant, x, y), kept in zip(
            members, frontier([(x.mean, sign * y.mean) for _, x, y in members]), strict=True
        )
    ]


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
