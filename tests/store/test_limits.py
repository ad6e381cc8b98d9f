"""Goodput under other limits, from stored requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.summary import summarize
from orchestrator.store.limits import stored_records, under
from orchestrator.store.read import read_cell
from orchestrator.store.write import commit
from tests.support.timelines import record

RECORDS = [
    record(float(i), [(i + 0.05 * i, 1, 0), (i + 0.05 * i + 0.02 * i, 2, 1)], request_id=f"r{i}")
    for i in range(1, 6)
] + [
    record(6.0, [(6.1, 1, 0)], outcome="error", request_id="e"),
    record(None, end_s=7.0, outcome="cancelled"),
]
LIMITS = [SloConfig(), SloConfig(ttft_s=0.2), SloConfig(tpot_s=0.01), SloConfig(ttft_s=1e-9)]


@pytest.mark.parametrize("slo", LIMITS)
def test_it_is_what_a_measurement_under_these_limits_would_have_stored(
    tmp_path: Path, slo: SloConfig
) -> None:
    records = RECORDS
    metrics = summarize(Measurement(records), None, SloConfig(ttft_s=0.1))
    row = {"cell_id": "c", "status": "done", "engine": "vllm", "slo_ttft_s": 0.1, **metrics}
    commit(tmp_path, "c", row, records, None, ())
    stored = read_cell(tmp_path, "c")
    assert stored is not None
    asked, wanted = under(stored, slo, tmp_path), summarize(Measurement(records), None, slo)
    for name in ("goodput_per_s", "slo_attainment"):
        assert asked[name] == pytest.approx(wanted[name])
    assert asked["slo_ttft_s"] == slo.ttft_s
    assert len(stored_records(tmp_path, "c")) == len(records)


@pytest.mark.parametrize("slo", [SloConfig(ttft_s=0.2), SloConfig(e2e_s=1.0), SloConfig(itl_s=0.5)])
def test_a_window_that_cut_requests_is_the_same_one_for_stored_ones(tmp_path: Path, slo: SloConfig) -> None:
    """Cut at 2.01 s, when the window of 2 s was over: one in the middle of its answer, one before it."""
    records = [
        record(0.0, [(0.1, 1, 0), (0.9, 1, 0)], request_id="a"),
        record(0.0, [(0.3, 1, 0), (0.5, 1, 0)], end_s=2.01, outcome="cancelled", cut_by_window=True),
        record(1.9, [], end_s=2.01, outcome="cancelled", cut_by_window=True),
    ]
    measurement = Measurement(records, (), RunConditions(ends_s=2.0))
    row = {"cell_id": "c", "status": "done", "engine": "vllm"} | summarize(measurement, None, SloConfig())
    commit(tmp_path, "c", row, records, None, ())
    stored = read_cell(tmp_path, "c")
    assert stored is not None
    assert stored["window_s"] == 2.0
    asked, wanted = under(stored, slo, tmp_path), summarize(measurement, None, slo)
    for name in ("goodput_per_s", "slo_attainment", "slo_undecided"):
        assert asked[name] == pytest.approx(wanted[name])
    assert (
        asked["slo_undecided"]
        == {"ttft_s": 1, "e2e_s": 1, "itl_s": 2}[
            next(name for name in ("ttft_s", "e2e_s", "itl_s") if getattr(slo, name) is not None)
        ]
    )
