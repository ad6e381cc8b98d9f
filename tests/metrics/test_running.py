"""Stragglers and steady state on loads whose number of running requests is known at every moment."""

from __future__ import annotations

import pytest

from orchestrator.metrics.engine import batch_limit
from orchestrator.metrics.steady_state import steady_state, steady_window
from orchestrator.metrics.stragglers import stragglers
from orchestrator.metrics.window import Window, in_flight, measured_window
from orchestrator.records import Record, Sample
from tests.support.timelines import record


def span(start_s: float, end_s: float) -> Record:
    return record(start_s, [(end_s, 1, 0)])


def test_twenty_requests_at_once_whose_last_takes_twice_as_long() -> None:
    records = [span(0.0, 10.0)] * 19 + [span(0.0, 20.0)]
    got = stragglers(records, measured_window(records), in_flight(records))
    assert got == {
        "straggler_time_s": 10.0,
        "straggler_share": 0.5,
        "straggler_gpu_idle_share": pytest.approx(1 - 1 / 20),
    }


def test_queued_requests_do_not_count_as_running() -> None:
    """Nineteen end one second after another, the engine runs four at a time, the last ends at 38."""
    records = [span(0.0, float(second)) for second in range(1, 20)] + [span(0.0, 38.0)]
    samples = [Sample(0.5, running=4.0, waiting=16.0), Sample(30.0, running=1.0, waiting=0.0)]
    got = stragglers(records, measured_window(records), in_flight(records, limit=batch_limit(samples)))
    before = (16 * 4 + 4 + 3 + 2) / 19  # 20 in flight to 1 s, 19 to 2 s, … 4 to 17 s, 3 to 18 s, 2 to 19 s
    assert got["straggler_gpu_idle_share"] == pytest.approx(1 - 1 / before)


def test_an_engine_that_kept_nothing_waiting_ran_all_in_flight() -> None:
    assert batch_limit([Sample(0.0, running=4.0, waiting=0.0), Sample(1.0, running=2.0)]) is None


def test_a_ramp_and_a_tail_are_outside_the_steady_state() -> None:
    """Ten start over ten seconds, all run to 30, then they end one a second."""
    records = [span(float(i), 31.0 + i) for i in range(10)]
    assert steady_window(in_flight(records)) == Window(8.0, 32.0)


def test_the_pause_of_a_closed_load_between_two_requests_does_not_end_the_steady_state() -> None:
    """Two in flight; each next one is sent 10 ms after an end."""
    records = [span(0.0, 3.0), span(0.0, 5.0), span(3.01, 7.0), span(5.01, 7.0)]
    assert steady_window(in_flight(records)) == Window(0.0, 7.0)


def test_a_longer_pause_does() -> None:
    records = [span(0.0, 3.0), span(0.0, 8.0), span(3.5, 8.0)]
    assert steady_window(in_flight(records)) == Window(3.5, 8.0)


def test_a_server_idle_most_of_the_time_has_no_steady_state() -> None:
    assert steady_window(in_flight([span(0.0, 1.0), span(9.0, 10.0)])) is None
    assert steady_window(in_flight([])) is None


def test_the_steady_rate_counts_what_arrived_in_it() -> None:
    """Two run all along with two tokens a second, a third sends eight at once and is gone."""
    steady = [record(0.0, [(float(second), 2, 0) for second in range(1, 11)])] * 2
    short = record(0.0, [(0.5, 8, 0)])
    got = steady_state([*steady, short], in_flight([*steady, short]))
    assert got["steady_window_s"] == 10.0
    assert got["steady_output_token_per_s"] == pytest.approx((20 + 20 + 8) / 10)
    assert got["steady_request_per_s"] == pytest.approx(3 / 10)


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
