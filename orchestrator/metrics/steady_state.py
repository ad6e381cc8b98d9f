"""The stretch of a cell in which it ran at its level, and the throughput there: no ramp, no tail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.stats import total
from orchestrator.metrics.window import Steps, Window
from orchestrator.records import Closed, Record

BATCHES = 100
FEWEST = 20
ENDED = 95  # per cent
MAX_RAMP = 1 / 3  # of the time until the last request is sent
MIN_PER_SLOT = 4  # requests of a closed load
COLUMNS = ("steady_start_s", "steady_window_s", "steady_output_token_per_s", "steady_request_per_s")

Floats = NDArray[np.float64]


def short(measurement: Measurement) -> bool:
    """Whether the load was too short for a steady rate, so that its rates are largely those of a server that
    fills up and runs empty. False where nothing was answered.

    Below 20 requests; where 95 % of the answers take as long as over a third of the time in which requests
    are sent (of the window, as `_asked_until` has it); and on a closed load with fewer than 4 requests for
    each that is in flight at a time: the first ones all begin together, and the last ones end one by one.
    """
    window, schedule = measurement.window, measurement.conditions.schedule
    requests = [*measurement.ok, *measurement.cut]
    if window is None or not requests:
        return False
    if isinstance(schedule, Closed) and len(requests) < MIN_PER_SLOT * schedule.concurrency:
        return True
    until_s, _ = _asked_until(measurement, window)
    return len(requests) < FEWEST or _ramp_s(requests) > MAX_RAMP * (until_s - window.start_s)


def steady_window(measurement: Measurement) -> Window | None:
    """The window without its ramp and its tail; None below 20 requests, where the ramp takes over a third of
    the time, and where less than half of it is left.

    The tail begins when the last request is sent: from then on less is asked of the server than before. (A
    load that sends all at once has no such moment: then the rule for the ramp, in reversed order, finds the
    tail.) The ramp ends where MSER puts it (`truncation`), looking at the output tokens, or without counts
    per chunk at the requests in flight; but not before 95 % of the answers would have ended that began with
    the load. MSER alone ends it too early in a noisy series, and requests of a closed load end at their rate
    only once the first ones have, though tokens flow at once. Neither looks for a high or a low level, so
    that the rates of a stationary load are unbiased.
    """
    window, requests = measurement.window, [*measurement.ok, *measurement.cut]
    if window is None or len(requests) < FEWEST:
        return None
    end_s, all_at_once = _asked_until(measurement, window)
    edges = np.linspace(window.start_s, end_s, BATCHES + 1)
    flow = _tokens(requests, edges)
    if flow is None:
        flow = _mean_in_flight(measurement.running, edges)
    if all_at_once and not measurement.cut:
        first, last = truncation(flow), BATCHES - truncation(flow[::-1])
        return Window(float(edges[first]), float(edges[last])) if last - first >= BATCHES / 2 else None
    ramp = _ramp_s(requests) / (end_s - window.start_s)
    if ramp > MAX_RAMP:
        return None
    first = max(truncation(flow), math.ceil(BATCHES * ramp))
    return Window(float(edges[first]), float(edges[-1]))


def truncation(batch_means: Floats) -> int:
    """How many batch means at the beginning belong to the ramp, at most half of them.

    MSER (White 1997, "An effective truncation heuristic for bias reduction in simulation output"): the d that
    makes the standard error of the mean of the rest smallest, Σ_{i>d} (x_i − mean)² / (n − d)².
    """
    n = len(batch_means)
    left = n - np.arange(n // 2 + 1)
    sums = np.cumsum(batch_means[::-1])[::-1][: len(left)]
    squares = np.cumsum(batch_means[::-1] ** 2)[::-1][: len(left)]
    return int(np.argmin((squares - sums**2 / left) / left.astype(np.float64) ** 2))


def steady_state(measurement: Measurement) -> dict[str, float | None]:
    """Throughput inside `steady_window`: output tokens of ok requests (and of those the window cut) that
    arrived in it, and ok requests that ended in it, per second. Tokens need per-chunk counts, else None."""
    window = steady_window(measurement)
    if window is None:
        return dict.fromkeys(COLUMNS)
    tokens = total(_tokens_inside(one, window) for one in [*measurement.ok, *measurement.cut])
    ended = sum(window.start_s < one.end_s <= window.end_s for one in measurement.ok)
    return {
        "steady_start_s": window.start_s,
        "steady_window_s": window.duration_s,
        "steady_output_token_per_s": None if tokens is None else tokens / window.duration_s,
        "steady_request_per_s": ended / window.duration_s,
    }


def _asked_until(measurement: Measurement, window: Window) -> tuple[float, bool]:
    """When the tail begins: with the last request sent, or not before the end of the window where all were
    sent in its first half (which is then told) or it cut some off."""
    last_sent = max(one.sent_s for one in measurement.records if one.sent_s is not None)
    all_at_once = last_sent - window.start_s < window.duration_s / 2
    return window.end_s if measurement.cut or all_at_once else last_sent, all_at_once


def _ramp_s(requests: Sequence[Record]) -> float:
    return float(np.percentile([_answering_s(one) for one in requests], ENDED))


def _answering_s(record: Record) -> float:
    """From the first token to the end; the wait before that is long where there is a queue."""
    return 0.0 if record.first_token_s is None else record.end_s - record.first_token_s


def _tokens(requests: Sequence[Record], edges: Floats) -> Floats | None:
    """Output tokens that came between each two edges; None without counts per chunk."""
    counts = [one.chunk_tokens for one in requests if one.chunk_tokens is not None]
    if len(counts) < len(requests):
        return None
    times_s, tokens = np.concatenate([one.chunk_s for one in requests]), np.concatenate(counts)
    return np.histogram(times_s, edges, weights=tokens)[0].astype(np.float64)


def _mean_in_flight(running: Steps, edges: Floats) -> Floats:
    means = [running.mean(start, end) for start, end in pairwise(edges)]
    return np.array([mean or 0.0 for mean in means])


def _tokens_inside(record: Record, window: Window) -> int | None:
    if record.chunk_tokens is None:
        return None
    inside = (record.chunk_s > window.start_s) & (record.chunk_s <= window.end_s)
    return int(record.chunk_tokens[inside].sum())
