"""Every pair, measure by measure: difference, interval, p after Holm over the whole report, verdict.

Times and rates are compared run by run on their logarithms, so that a difference is a share of the baseline,
and block by block where the runs of both sides went in blocks; accuracy and lengths of answers item by item.
One run on a side gives no significance. See docs/report.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.blocks import Placed, compare_blocks, pairs_of
from orchestrator.metrics.compare import Comparison, Verdict, by_items, compare_answers
from orchestrator.metrics.grouped import paired
from orchestrator.metrics.stats import mean
from orchestrator.report.options import Options
from orchestrator.report.pairs import Pair
from orchestrator.report.variants import Variant
from orchestrator.report.waiting import Flips, Resamples, settled

Kind = Literal["rate", "time", "tokens", "accuracy"]
TOGETHER = 512  # pairs whose draws are shared; what waits for them is held at once


@dataclass(frozen=True)
class Measure:
    """``column`` of ``cells`` holds one number a run; ``of_request`` is the same of each request, where it
    has one. ``unit`` is for people."""

    key: str
    title: str
    kind: Kind
    column: str
    unit: str
    of_request: str | None = None
    reasoning_only: bool = False
    per_gpu: bool = False


MEASURES = (
    Measure("throughput", "Throughput", "rate", "output_token_per_s", "tokens/s"),
    Measure("goodput", "Goodput within the limits", "rate", "goodput_per_s", "requests/s"),
    Measure("e2e", "Whole answer (E2E, mean)", "time", "e2e_s_mean", "s", "e2e_s"),
    Measure("ttft", "First token (TTFT, median)", "time", "ttft_s_p50", "s", "ttft_s"),
    Measure("ttfvt", "First visible token (TTFVT, median)", "time", "ttfvt_s_p50", "s", "ttfvt_s", True),
    Measure("tpot", "Time per token (TPOT, mean)", "time", "tpot_s_mean", "s", "tpot_s"),
    Measure("tokens", "Tokens of an answer (mean)", "tokens", "output_tokens", "tokens", "output_tokens"),
    Measure("accuracy", "Accuracy", "accuracy", "accuracy", "share"),
)


@dataclass(frozen=True, eq=False)
class Line:
    """One measure of one pair. ``a`` and ``b``: baseline and variant, means over the runs that are compared
    (those in blocks that both sides have, where these are paired). ``difference`` and
    its interval are shares of the baseline; of accuracy, differences of shares (0.01 is a point).
    ``adjusted_p`` and by how many ``tests`` it is corrected at most: `multiplicity`. ``why_not``: why nothing
    could be compared."""

    pair: Pair
    measure: Measure
    a: float | None
    b: float | None
    comparison: Comparison | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    adjusted_p: float | None = None
    tests: int = 1
    verdict: Verdict | None = None
    spread: tuple[float, float] = (math.nan, math.nan)
    """Standard deviations of a unit, of the baseline's and the variant's; of pairs 0 and that of their
    differences."""
    why_not: str | None = None

    @property
    def p(self) -> float | None:
        """Before the correction."""
        return None if self.comparison is None else self.comparison.p

    @property
    def better(self) -> bool | None:
        """Whether the difference is for the better; None where there is none."""
        if self.difference is None or self.difference == 0:
            return None
        return (self.difference > 0) == (self.measure.kind in ("rate", "accuracy"))


Found = Line | Flips[Line] | Resamples[Line]


def compare(pairs: Sequence[Pair], done: Callable[[int, int], None] = lambda done, of: None) -> list[Line]:
    """Lines of all pairs, in their order, before any correction and without verdicts. ``done`` is told how
    many pairs are compared, of how many."""
    lines: list[Line] = []
    for start in range(0, len(pairs), TOGETHER):
        done(start, len(pairs))
        lines += settled([line for pair in pairs[start : start + TOGETHER] for line in _lines(pair)])
    return lines


def with_verdicts(lines: Sequence[Line], options: Options) -> list[Line]:
    """By their ``adjusted_p`` and the margins."""
    return [replace(line, verdict=_verdict(line, options)) for line in lines]


def margin_of(line: Line, options: Options) -> float:
    """What counts as no difference, in the unit of ``difference``."""
    return options.accuracy_margin if line.measure.kind == "accuracy" else options.time_margin


def _verdict(line: Line, options: Options) -> Verdict | None:
    if line.comparison is None:
        return None
    on_scale = replace(line.comparison, difference=line.difference or 0.0, low=line.low, high=line.high)
    return on_scale.verdict(margin_of(line, options), line.adjusted_p)


def _lines(pair: Pair) -> list[Found]:
    return [line for measure in MEASURES if (line := _line(pair, _per_gpu(measure, pair))) is not None]


def _per_gpu(measure: Measure, pair: Pair) -> Measure:
    """Deployments of different sizes are compared by what one GPU gives."""
    if measure.kind != "rate" or pair.baseline.row.get("gpus") == pair.variant.row.get("gpus"):
        return measure
    return replace(measure, title=f"{measure.title}, per GPU", unit=f"{measure.unit}/GPU", per_gpu=True)


def _line(pair: Pair, measure: Measure) -> Found | None:
    """None where neither side has the measure."""
    sides = pair.baseline, pair.variant
    a, b = (mean(values_of(side, measure)) for side in sides)
    if a is None and b is None:
        return None
    line = Line(pair, measure, a, b)
    if measure.key == "goodput" and not all(has_limits(side) for side in sides):
        return None
    if measure.reasoning_only and not any(side.row.get("model_kind") == "reasoning" for side in sides):
        return None
    if measure.kind == "tokens" and all(side.row.get("weights") == "dummy" for side in sides):
        return None  # lengths that were asked for tell nothing
    if a is None or b is None:
        return replace(line, why_not=f"not measured on {'the baseline' if a is None else 'this side'}")
    if measure.key == "ttfvt" and any((side.mean("ttfvt_censored_share") or 0) > 0.5 for side in sides):
        return replace(line, why_not="most requests never showed a visible token")
    if measure.kind == "accuracy":
        return _accuracy(line)
    return _tokens(line) if measure.kind == "tokens" else _by_runs(line)


def values_of(variant: Variant, measure: Measure) -> list[float]:
    """One number a run, of the runs that have it; of answers' lengths, tokens of a request."""
    if measure.kind == "tokens":
        return [
            run.row["output_tokens"] / run.row["requests_ok"]
            for run in variant.runs
            if run.row.get("output_tokens") is not None and run.row.get("requests_ok")
        ]
    return [run.value for run in placed(variant, measure)]


def placed(variant: Variant, measure: Measure) -> list[Placed]:
    """One number a run, of the runs that have it, and its place in a block."""
    share = (variant.row.get("gpus") or 1) if measure.per_gpu else 1
    return [
        Placed(float(value) / share, run.row.get("block"), run.row.get("block_position"))
        for run in variant.runs
        if (value := run.row.get(measure.column)) is not None
    ]


def has_limits(variant: Variant) -> bool:
    """Whether any limit of `SloConfig` is set."""
    return any(variant.row.get(f"slo_{one.name}") is not None for one in fields(SloConfig))


def _by_runs(line: Line) -> Found:
    a, b = (placed(side, line.measure) for side in (line.pair.baseline, line.pair.variant))
    if min(run.value for run in (*a, *b)) <= 0:
        return replace(line, why_not="a run has the value 0, of which there is no share")
    if min(len(a), len(b)) < 2:
        return _within_run(line)
    logs = logs_of(a), logs_of(b)
    found = compare_blocks(*logs)
    if found is None:
        return line
    low, high = (None if end is None else math.expm1(end) for end in (found.low, found.high))
    line = replace(line, comparison=found, difference=math.expm1(found.difference), low=low, high=high)
    if (pairs := pairs_of(*logs)) is None:
        spread = tuple(_spread(np.array([run.value for run in side])) for side in logs)
        return replace(line, spread=(spread[0], spread[1]))
    means = [mean([side[i].value for i in of]) for side, of in zip((a, b), pairs.kept, strict=True)]
    return replace(line, a=means[0], b=means[1], spread=(0.0, _spread(np.subtract(pairs.b, pairs.a))))


def logs_of(side: Sequence[Placed]) -> list[Placed]:
    """The same runs with the logarithms of their numbers."""
    return [replace(run, value=math.log(run.value)) for run in side]


def _within_run(line: Line) -> Found:
    """One run on a side: an interval of requests where they are stored, and in no case significance."""
    if line.measure.of_request is not None:
        a, b = (side.by_item(line.measure.of_request) for side in (line.pair.baseline, line.pair.variant))
        quantile = 0.5 if line.measure.column.endswith("_p50") else None
        if len(a.items) and len(b.items):
            return Resamples((a, b), quantile, lambda found: _single(line, found))
    return _single(line, None)


def _single(line: Line, found: Comparison | None) -> Line:
    assert line.a is not None
    assert line.b is not None
    if found is None or not found.within_run:
        difference = (line.b - line.a) / line.a
        none = Comparison(difference, None, None, None, 0, "too few", "run", _runs(line), within_run=True)
        return replace(line, comparison=none, difference=difference)
    low, high = (None if end is None else end / line.a for end in (found.low, found.high))
    return replace(line, comparison=found, difference=found.difference / line.a, low=low, high=high)


def _runs(line: Line) -> int:
    return len(line.pair.baseline.runs) + len(line.pair.variant.runs)


def _accuracy(line: Line) -> Found:
    a, b = (side.by_item("correct") for side in (line.pair.baseline, line.pair.variant))
    found = compare_answers(a, b)
    if found is None:
        return replace(line, why_not="no question in common whose answers are stored")
    line = replace(line, spread=(0.0, _spread(paired(a, b))))
    if isinstance(found, Comparison):
        return _compared(line, found)
    return Flips(found, lambda flipped: _compared(line, by_items(found, flipped)))


def _tokens(line: Line) -> Found:
    a, b = (side.by_item("output_tokens") for side in (line.pair.baseline, line.pair.variant))
    if not len(a.items) or not len(b.items):
        return _within_run(line)
    differences = paired(a, b)
    if not len(differences):
        return replace(line, why_not="no question in common whose answers are stored")
    base = float(np.mean(a.values))
    if base <= 0:
        return replace(line, why_not="the baseline's answers are empty")
    differences = differences / base
    line = replace(line, spread=(0.0, _spread(differences)))
    return Flips(differences, lambda flipped: _compared(line, by_items(differences, flipped)))


def _compared(line: Line, found: Comparison) -> Line:
    return replace(line, comparison=found, difference=found.difference, low=found.low, high=found.high)


def _spread(values: NDArray[np.float64]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
