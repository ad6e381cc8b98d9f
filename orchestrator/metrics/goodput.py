"""Requests that were served well enough."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from orchestrator.config.schema import SloConfig
from orchestrator.metrics import requests
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.stats import ratio
from orchestrator.records import Record

Verdict = Literal["met", "missed", "undecided", "unknown"]


def verdict(record: Record, slo: SloConfig) -> Verdict:
    """Whether the request is ok and within every limit that is set: TTFT, TTFVT, TPOT, E2E, and each single
    ITL.

    A request without a visible token misses any TTFVT limit; one with fewer than 2 tokens has no TPOT and no
    ITL to miss. A request that the end of the window cut has missed what it had missed by then, and is
    undecided otherwise; its TPOT, which could still fall, is undecided always. Unknown: a limit is set on
    what the server did not count.
    """
    if record.outcome != "ok" and not requests.cut(record):
        return "missed"
    found = {
        _first(requests.ttft_s(record), record, slo.ttft_s),
        _first(None if record.first_visible_s is None else requests.ttfvt_s(record), record, slo.ttfvt_s),
        _tpot(record, slo.tpot_s),
        _e2e(record, slo.e2e_s),
        _itl(record, slo.itl_s),
        "undecided" if requests.cut(record) else "met",
    }
    order: tuple[Verdict, ...] = ("missed", "unknown", "undecided", "met")
    return next(one for one in order if one in found)


def goodput(measurement: Measurement, slo: SloConfig) -> dict[str, float | int | None]:
    """goodput_per_s = requests that met the limits / window, None when none is ok or was cut;
    slo_undecided = those that the end of the window cut before it was decided; slo_attainment = met /
    (attempted − undecided). Without any limit each ok request meets them all."""
    records, window = measurement.records, measurement.window
    counted = Counter(verdict(record, slo) for record in records)
    met = None if counted["unknown"] else counted["met"]
    measured = window is not None and bool(measurement.ok or measurement.cut)
    attempted = sum(requests.attempted(record) for record in records)
    return {
        "goodput_per_s": ratio(met, window.duration_s) if window and measured else None,
        "slo_attainment": ratio(met, attempted - counted["undecided"]),
        "slo_undecided": counted["undecided"] if records else None,
    }


def _first(value: float | None, record: Record, limit: float | None) -> Verdict:
    """On the arrival of something that a request waits for: a cut one misses it once it has waited longer."""
    if limit is None:
        return "met"
    if value is None and requests.cut(record):
        return "missed" if (requests.lasted_s(record) or 0.0) > limit else "undecided"
    return _within(value, limit)


def _e2e(record: Record, limit: float | None) -> Verdict:
    return _first(None if requests.cut(record) else requests.e2e_s(record), record, limit)


def _tpot(record: Record, limit: float | None) -> Verdict:
    if limit is None or requests.cut(record):
        return "met"
    if record.output_tokens is None:
        return "unknown"
    return "met" if record.output_tokens < 2 else _within(requests.tpot_s(record), limit)


def _itl(record: Record, limit: float | None) -> Verdict:
    if limit is None or not len(record.chunk_s):
        return "met"
    itl_s = requests.itl_s(record)
    if itl_s is None:
        return "unknown"
    return _within(float(itl_s.max(initial=0.0)), limit)


def _within(value: float | None, limit: float) -> Verdict:
    return "met" if value is not None and value <= limit else "missed"
