"""A load with a duration, from the sockets to the numbers."""

from __future__ import annotations

import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.load.driver import run
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.summary import summarize
from orchestrator.metrics.validity import flags
from orchestrator.records import Closed
from tests.load.scripted import job
from tests.support.scripted_server import serve


@pytest.mark.slow
@pytest.mark.parametrize("duration_s", [1.5, 3.0])
def test_the_rate_is_the_servers_whether_answers_fit_into_the_window_or_not(duration_s: float) -> None:
    """Eight at a time, a token each 20 ms: 400 a second. Answers of 0.5 s and of 5 s, so that three of eight
    places have a long one from the start."""
    scripts = [{"tokens": 250 if number < 3 else 25, "gap_s": 0.02} for number in range(100)]
    with serve() as port:
        result = run(job(port, scripts, Closed(8), duration_s=duration_s))
    conditions = RunConditions(Closed(8), ends_s=result.started_s + duration_s, expected=())
    measurement = Measurement(result.records, (), conditions)
    got = summarize(measurement, None, SloConfig(ttft_s=1.0))
    assert got["window_s"] == pytest.approx(duration_s, abs=0.1)
    assert got["output_token_per_s"] == pytest.approx(400.0, rel=0.05)
    assert (got["requests_cut"], got["requests_failed"], got["error_rate"]) == (8, 0, 0.0)
    assert (got["slo_undecided"], got["slo_attainment"]) == (8, 1.0)
    assert got["ttft_s_p50_all"] == got["ttft_s_p50"]
    assert "errors" not in flags(measurement)
