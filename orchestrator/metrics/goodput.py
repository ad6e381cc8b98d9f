"""Requests that were served well enough."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config.schema import SloConfig
from orchestrator.metrics import requests
from orchestrator.metrics.stats import ratio, total
from orchestrator.metrics.window import Window
from orchestrator.records import Record


def meets(record: Record, slo: SloConfig) -> bool | None:
    """Whether the request is ok and within every limit that is set.

    A request without a visible token misses any TTFVT limit; one with fewer than 2 tokens has no TPOT to
    miss. None when a TPOT limit is set and the server gave no token count.
    """
    if record.outcome != "ok":
        return False
    if slo.ttft_s is not None and not _within(requests.ttft_s(record), slo.ttft_s):
        return False
    if slo.ttfvt_s is not None and (
        requests.ttfvt_censored(record) or not _within(requests.ttfvt_s(record), slo.ttfvt_s)
    ):
        return False
    if slo.tpot_s is None:
        return True
    if record.output_tokens is None:
        return None
    return record.output_tokens < 2 or _within(requests.tpot_s(record), slo.tpot_s)


def goodput(records: Sequence[Record], window: Window | None, slo: SloConfig) -> dict[str, float | None]:
    """goodput_per_s = requests that `meets` / window, None when none is ok; slo_attainment = the same number
    / attempted requests. Without any limit each ok request meets them all."""
    met = total(meets(record, slo) for record in records)
    measured = window is not None and any(record.outcome == "ok" for record in records)
    return {
        "goodput_per_s": ratio(met, window.duration_s) if window and measured else None,
        "slo_attainment": ratio(met, sum(requests.attempted(record) for record in records)),
    }


def _within(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit
