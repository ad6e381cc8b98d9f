"""Stragglers and windows on loads whose number of running requests is known at every moment."""

from __future__ import annotations

import pytest

from orchestrator.metrics.engine import batch_limit
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.stragglers import stragglers
from orchestrator.metrics.window import Window, in_flight, measured_window
from orchestrator.records import Record, Sample
from tests.support.timelines import record


def span(start_s: float, end_s: float) -> Record:
    return record(start_s, [(end_s, 1, 0)])


def test_twenty_requests_at_once_whose_last_takes_twice_as_long() -> None:
    records = [span(0.0, 10.0)] * 19 + [span(0.0, 20.0)]
    assert stragglers(Measurement(records)) == {
        "straggler_time_s": 10.0,
        "straggler_share": 0.5,
        "straggler_gpu_idle_share": pytest.approx(1 - 1 / 20),
    }


def test_below_twenty_requests_there_are_no_last_five_per_cent() -> None:
    nineteen = stragglers(Measurement([span(0.0, 10.0)] * 18 + [span(0.0, 20.0)]))
    assert set(nineteen.values()) == {None}


def test_where_the_window_cut_requests_off_there_is_no_tail() -> None:
    cut = record(0.0, [(1.0, 1, 0)], end_s=20.0, outcome="cancelled", cut_by_window=True)
    got = stragglers(Measurement([span(0.0, 10.0)] * 19 + [cut], (), RunConditions(ends_s=20.0)))
    assert set(got.values()) == {None}


def test_queued_requests_do_not_count_as_running() -> None:
    """Nineteen end one second after another, the engine runs four at a time, the last ends at 38."""
    records = [span(0.0, float(second)) for second in range(1, 20)] + [span(0.0, 38.0)]
    samples = [Sample(0.5, running=4.0, waiting=16.0), Sample(30.0, running=1.0, waiting=0.0)]
    got = stragglers(Measurement(records, samples))
    before = (16 * 4 + 4 + 3 + 2) / 19  # 20 in flight to 1 s, 19 to 2 s, … 4 to 17 s, 3 to 18 s, 2 to 19 s
    assert got["straggler_gpu_idle_share"] == pytest.approx(1 - 1 / before)


def test_an_engine_that_kept_nothing_waiting_ran_all_in_flight() -> None:
    assert batch_limit([Sample(0.0, running=4.0, waiting=0.0), Sample(1.0, running=2.0)]) is None


def test_in_flight_integrates_to_the_sum_of_the_durations() -> None:
    records = [span(0.0, 4.0), span(1.0, 2.0), span(1.5, 9.0)]
    mean = in_flight(records).mean(0.0, 10.0)
    assert mean == pytest.approx((4.0 + 1.0 + 7.5) / 10)


def test_a_refused_connection_is_in_no_window_and_at_no_time_in_flight() -> None:
    refused = record(None, outcome="error", end_s=1.0)
    assert measured_window([refused]) is None
    assert in_flight([refused]).mean(0.0, 1.0) is None


def test_what_was_cancelled_unsent_does_not_lengthen_the_window() -> None:
    never = record(None, outcome="cancelled", end_s=99.0)
    refused = record(None, outcome="error", end_s=7.0)
    assert measured_window([span(1.0, 4.0), never, refused]) == Window(1.0, 7.0)


def test_a_duration_that_cut_something_off_is_the_window() -> None:
    cut = record(0.5, [(1.0, 1, 0)], end_s=5.003, outcome="cancelled", cut_by_window=True)
    unsent = record(None, outcome="cancelled", end_s=5.1, cut_by_window=True)
    assert measured_window([span(1.0, 4.0), cut], 5.0) == Window(0.5, 5.0)
    assert measured_window([span(1.0, 4.0), unsent], 5.0) == Window(1.0, 5.0)


def test_a_load_that_ended_before_its_duration_has_the_window_of_its_requests() -> None:
    assert measured_window([span(1.0, 4.0)], 60.0) == Window(1.0, 4.0)
