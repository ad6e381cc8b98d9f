"""What a cell's rates and percentiles leave open within its run: 95 % intervals.

They tell what other requests, drawn as these were, would have changed in this run, and nothing of another
run, which `orchestrator.metrics.runs` and `compare` take from several. Requests of a run are not independent
of their neighbours, so neither is counted as if they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.goodput import verdict
from orchestrator.metrics.latency import PER_REQUEST
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.runs import t_quantile
from orchestrator.metrics.stats import mean, present
from orchestrator.metrics.window import Window
from orchestrator.records import Record

RATES = ("request_per_s", "output_token_per_s", "goodput_per_s")
PERCENTILES = (50, 99)
MOST_PARTS, FEWEST_PARTS = 10, 5

Metrics = Mapping[str, float | int | None]
Bounds = tuple[float | None, float | None]
_NONE: Bounds = (None, None)
_TAIL = 0.025


def intervals(
    measurement: Measurement,
    slo: SloConfig,
    metrics: Mapping[str, float | int | None],
) -> dict[str, float | None]:
    """``NAME_low`` and ``NAME_high`` of `RATES` and of the percentiles 50 and 99 of each latency per request,
    around the values that ``metrics`` has. Those of percentiles are None where the end of the window cut
    requests, whose values are not known."""
    result = rate_intervals(measurement, slo, metrics)
    ok = sorted(measurement.ok, key=lambda one: (one.sent_s or 0.0, one.request_id))
    for name, quantity in PER_REQUEST.items():
        values = np.array([] if measurement.cut else present(quantity.of(record) for record in ok))
        for percentile in PERCENTILES:
            column = f"{name}_p{percentile}"
            result |= _around(column, metrics.get(column), percentile_bounds(values, percentile / 100))
    return result


def rate_intervals(
    measurement: Measurement,
    slo: SloConfig,
    metrics: Mapping[str, float | int | None],
) -> dict[str, float | None]:
    """Those of `RATES`: batch means (Law and Kelton 2000, section 9.5.3). The window is cut into equal parts,
    each as long as an answer takes on average so that neighbours share little, at most `MOST_PARTS`; the
    rate's half-width is Student's for the mean of theirs. None where there are not `FEWEST_PARTS` parts. A
    ramp and a tail are part of the window and widen it.
    """
    window, ok = measurement.window, measurement.ok
    answering = [*ok, *measurement.cut]
    answer_s = mean([record.end_s - record.sent_s for record in answering if record.sent_s is not None])
    parts = 0
    if window is not None and answer_s:
        parts = min(MOST_PARTS, int(window.duration_s / answer_s))
    ends = np.array([record.end_s for record in ok])
    met = np.array([verdict(record, slo) == "met" for record in ok], np.float64)
    events = {
        "request_per_s": (ends, np.ones(len(ends))),
        "output_token_per_s": _tokens(answering),
        "goodput_per_s": (ends, met),
    }
    result: dict[str, float | None] = {}
    for name in RATES:
        value, bounds = metrics.get(name), _NONE
        if window is not None and value is not None and parts >= FEWEST_PARTS:
            half = _half_width(*events[name], window, parts)
            bounds = max(0.0, value - half), value + half
        result |= _around(name, value, bounds)
    return result


def percentile_bounds(values: NDArray[np.float64], quantile: float) -> Bounds:
    """The order statistics between which a ``quantile`` lies, by the binomial distribution of how many of n
    values are below it; no distribution of the values is assumed.

    ``values`` are in the order in which they were sent. n is the effective number n (1 − r) / (1 + r), where
    r >= 0 is the lag-1 autocorrelation of being below the quantile. (None, None) where even the smallest or
    the largest value may lie on the wrong side with more than 2.5 %: below 6 values for the median, 368 for
    the 99th percentile.
    """
    below = values < np.quantile(values, quantile) if len(values) else np.empty(0, bool)
    size = int(len(values) * (1 - (r := _autocorrelation(below))) / (1 + r))
    if size < 1 or max(quantile, 1 - quantile) ** size > _TAIL:
        return _NONE
    from scipy.special import bdtr  # here: what only plans needs none of it

    spread = 10 + 8 * math.sqrt(size * quantile * (1 - quantile))
    counts = np.arange(max(0, int(size * quantile - spread)), min(size, int(size * quantile + spread) + 1))
    share = bdtr(counts.astype(np.float64), size, quantile)  # P(at most so many are below)
    lower, upper = counts[share <= _TAIL], counts[share >= 1 - _TAIL]
    if not len(lower) or not len(upper):
        return _NONE
    ordered, scale = np.sort(values), len(values) / size
    return float(ordered[int(lower[-1] * scale)]), float(ordered[math.ceil((upper[0] + 1) * scale) - 1])


def _autocorrelation(below: NDArray[np.bool_]) -> float:
    """Between neighbours; 0 where it is negative, below 3 values and where all are the same."""
    if len(below) < 3 or below.all() or not below.any():
        return 0.0
    centred = below - below.mean()
    return min(0.99, max(0.0, float((centred[1:] * centred[:-1]).sum() / (centred**2).sum())))


def _tokens(records: Sequence[Record]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When tokens arrived, and how many; of a request without counts per chunk all at its end."""
    times: list[NDArray[np.float64]] = [np.empty(0)]
    counts: list[NDArray[np.float64]] = [np.empty(0)]
    for record in records:
        known = record.chunk_tokens is not None and len(record.chunk_tokens) == len(record.chunk_s)
        times.append(record.chunk_s if known else np.array([record.end_s]))
        counts.append(np.asarray(record.chunk_tokens if known else [record.output_tokens or 0], np.float64))
    return np.concatenate(times), np.concatenate(counts)


def _half_width(
    times_s: NDArray[np.float64], amounts: NDArray[np.float64], window: Window, parts: int
) -> float:
    edges = np.linspace(window.start_s, window.end_s, parts + 1)
    sums, _ = np.histogram(times_s, edges, weights=amounts)
    rates = sums / (window.duration_s / parts)
    return t_quantile(parts - 1) * float(np.std(rates, ddof=1)) / math.sqrt(parts)


def _around(name: str, value: float | int | None, bounds: Bounds) -> dict[str, float | None]:
    """The two columns; the value itself is never outside."""
    low, high = bounds if value is not None else _NONE
    return {
        f"{name}_low": None if low is None or value is None else min(low, value),
        f"{name}_high": None if high is None or value is None else max(high, value),
    }


def prepare() -> None:
    """Does once what a process's first interval would wait for: 0.1 s, more on a busy machine."""
    import_module("scipy.special")
