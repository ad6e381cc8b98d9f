"""The stretch of a cell in which it ran at its level, and the throughput there: no ramp, no tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.stats import total
from orchestrator.metrics.window import Steps, Window
from orchestrator.records import Record

LEVEL = 0.9
# A closed load is one request short between an end and the next send; that is no change of level.
BRIDGED_DIP_S = 0.02


def steady_window(running: Steps) -> Window | None:
    """The longest stretch with at least 90 % of the time-weighted median of the running requests.

    Dips of at most 20 ms do not end a stretch. None when nothing ran for half of the time.
    """
    spent = np.diff(running.times_s)
    counts = running.counts[:-1]
    if not len(spent):
        return None
    median = _weighted_median(counts, spent)
    if median <= 0:
        return None
    best, start, end = Window(0.0, 0.0), -np.inf, -np.inf
    for index in np.flatnonzero(counts >= LEVEL * median):
        begins, ends = running.times_s[index], running.times_s[index + 1]
        start = start if begins - end <= BRIDGED_DIP_S else begins
        end = ends
        if end - start > best.duration_s:
            best = Window(float(start), float(end))
    return best


def steady_state(records: Sequence[Record], running: Steps) -> dict[str, float | None]:
    """Throughput inside `steady_window`: output tokens of ok requests that arrived in it, and ok requests
    that ended in it, per second. Tokens need per-chunk counts, else None."""
    window = steady_window(running)
    ok = [record for record in records if record.outcome == "ok"]
    if window is None or not ok:
        return dict.fromkeys(
            ("steady_start_s", "steady_window_s", "steady_output_token_per_s", "steady_request_per_s")
        )
    tokens = total(_tokens_inside(record, window) for record in ok)
    ended = sum(window.start_s < record.end_s <= window.end_s for record in ok)
    return {
        "steady_start_s": window.start_s,
        "steady_window_s": window.duration_s,
        "steady_output_token_per_s": None if tokens is None else tokens / window.duration_s,
        "steady_request_per_s": ended / window.duration_s,
    }


def _tokens_inside(record: Record, window: Window) -> int | None:
    if record.chunk_tokens is None:
        return None
    inside = (record.chunk_s > window.start_s) & (record.chunk_s <= window.end_s)
    return int(record.chunk_tokens[inside].sum())


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The smallest value at or below which at least half of the weight lies."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
