"""Latency statistics of a cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics import requests
from orchestrator.metrics.stats import describe, describe_all, mean, present
from orchestrator.records import Record

PER_REQUEST: dict[str, Callable[[Record], float | None]] = {
    "ttft_s": requests.ttft_s,
    "ttfvt_s": requests.ttfvt_s,
    "tpot_s": requests.tpot_s,
    "e2e_s": requests.e2e_s,
}
PER_PHASE: dict[str, Callable[[Record], float | None]] = {
    "thinking_s": requests.thinking_s,
    "tpot_thinking_s": requests.tpot_thinking_s,
    "tpot_visible_s": requests.tpot_visible_s,
}


def latencies(records: Sequence[Record]) -> dict[str, float | None]:
    """Mean and percentiles over requests with outcome ok, seconds.

    ``itl_s`` and ``chunk_gap_s`` pool all tokens or chunks of all requests, so long answers weigh more.
    The ``_all`` percentiles count every attempted request that is not ok as infinitely late, so that a
    server cannot look faster by failing. ``ttfvt_censored_share`` is the share of the ok requests that
    never showed a visible token. ``send_lag_s_p99`` is over everything that was sent.
    """
    ok = [record for record in records if record.outcome == "ok"]
    failures = sum(requests.attempted(record) for record in records) - len(ok)
    result: dict[str, float | None] = {}
    for name, of in PER_REQUEST.items():
        values = present(of(record) for record in ok)
        result |= describe(name, values) | describe_all(name, values, failures)
    for name, of in PER_PHASE.items():
        result |= describe(name, present(of(record) for record in ok))
    result |= describe("itl_s", _pool([requests.itl_s(record) for record in ok]))
    result |= describe("chunk_gap_s", _pool([requests.chunk_gaps_s(record) for record in ok]))
    result["ttfvt_censored_share"] = mean(present(requests.ttfvt_censored(record) for record in ok))
    result["send_lag_s_p99"] = send_lag_s_p99(records)
    return result


def send_lag_s_p99(records: Sequence[Record]) -> float | None:
    """99th percentile of sent − scheduled over everything that was sent."""
    lags = present(requests.send_lag_s(record) for record in records)
    return float(np.percentile(lags, 99)) if lags else None


def _pool(arrays: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """All values as one array; empty when one request lacks them, since the rest would be a biased part."""
    known = [array for array in arrays if array is not None]
    return np.concatenate(known) if known and len(known) == len(arrays) else np.empty(0)
