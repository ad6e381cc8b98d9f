from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.metrics.energy import energy_j
from orchestrator.metrics.engine import (
    counter_delta,
    engine_metrics,
    gauge_max,
    gauge_mean,
    gpu_starved_share,
    host_taken_share,
)
from orchestrator.metrics.window import Window
from orchestrator.records import Sample

WINDOW = Window(10.0, 20.0)


def usage(*points: tuple[float, float]) -> list[Sample]:
    return [Sample(t_s, kv_usage=value) for t_s, value in points]


def test_a_gauge_is_weighted_by_time_not_by_sample() -> None:
    crowded = usage((9.0, 1.0), (10.0, 1.0), (10.1, 1.0), (10.2, 1.0), (10.3, 1.0), (15.0, 0.0), (21.0, 0.0))
    assert gauge_mean(crowded, "kv_usage", WINDOW) == pytest.approx((0.3 + 4.7 / 2) / 10)


def test_a_gauge_outside_the_window_does_not_count() -> None:
    samples = usage((0.0, 0.9), (9.0, 0.9), (11.0, 0.1), (19.0, 0.1), (30.0, 0.9))
    assert gauge_max(samples, "kv_usage", WINDOW) == 0.1
    assert gauge_mean(usage((9.0, 0.9), (21.0, 0.9)), "kv_usage", WINDOW) is None
    assert gauge_max([], "kv_usage", WINDOW) is None


def test_failed_samples_are_passed_over() -> None:
    samples = [*usage((10.0, 0.5)), Sample(15.0), *usage((20.0, 0.5))]
    assert gauge_mean(samples, "kv_usage", WINDOW) == pytest.approx(0.5)


def test_a_counter_starts_from_the_last_sample_before_the_window_and_ends_with_the_last_of_all() -> None:
    samples = [
        Sample(t, preemptions_total=v) for t, v in [(2, 1.0), (9, 4.0), (15, 5.0), (20, 6.0), (21, 9.0)]
    ]
    assert counter_delta(samples, "preemptions_total", WINDOW) == 5.0


def test_a_counter_that_was_not_read_on_both_sides_has_no_growth() -> None:
    late = [Sample(11.0, preemptions_total=1.0), Sample(21.0, preemptions_total=2.0)]
    early = [Sample(9.0, preemptions_total=1.0), Sample(19.0, preemptions_total=2.0)]
    assert counter_delta(late, "preemptions_total", WINDOW) is None
    assert counter_delta(early, "preemptions_total", WINDOW) is None


def test_a_counter_that_fell_has_no_growth() -> None:
    samples = [Sample(t, preemptions_total=v) for t, v in [(9, 4.0), (15, 0.0), (21, 9.0)]]
    assert counter_delta(samples, "preemptions_total", WINDOW) is None


def test_counters_that_did_not_move_give_no_rate() -> None:
    still: dict[str, Any] = dict.fromkeys(
        ("prefix_queries_tokens_total", "prefix_hits_tokens_total", "spec_drafts_total"), 5.0
    )
    got = engine_metrics([Sample(9.0, **still), Sample(21.0, **still)], WINDOW)
    assert got["prefix_hit_rate"] is None
    assert got["spec_tokens_per_step"] is None


def report(t_s: float, rate: float, running: float, tokens: float = 0, drafts: float = 0) -> Sample:
    """A sample of SGLang, whose page has no counter of accepted drafts."""
    return Sample(
        t_s,
        running=running,
        spec_accept_rate=rate,
        spec_drafts_total=drafts,
        generation_tokens_total=tokens,
    )


SGLANG = [
    report(0, 0.9, 0),  # an earlier cell's, until its first report
    report(1, 0.9, 4),
    report(2, 0.2, 6),
    report(3, 0.4, 2),
    report(4, 0.4, 0, tokens=300, drafts=120),
]


def test_sglangs_acceptance_is_its_reports_on_the_cells_own_steps() -> None:
    found = engine_metrics(SGLANG, Window(0.5, 3.5))
    assert found["spec_acceptance_rate"] == pytest.approx((6 * 0.2 + 2 * 0.4) / 8)
    assert found["spec_tokens_per_step"] == pytest.approx(2.5)


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [report(0, 0.9, 4), report(1, 0.9, 4)],  # no report of this cell
        [report(0, 0.9, 0), report(1, 0.2, 0)],  # nothing ran
        [replace(one, running=None) for one in SGLANG],
        [replace(one, spec_accept_rate=None) for one in SGLANG],
    ],
)
def test_without_a_report_of_its_own_there_is_no_acceptance(samples: list[Sample]) -> None:
    assert engine_metrics(samples, Window(0.5, 3.5))["spec_acceptance_rate"] is None


def test_where_accepted_drafts_are_counted_the_counters_tell() -> None:
    """Without drafts they do not move, and no gauge stands in for them."""
    counted = [replace(one, spec_accepted_total=7.0, spec_drafted_total=9.0) for one in SGLANG]
    found = engine_metrics(counted, Window(0.5, 3.5))
    assert found["spec_acceptance_rate"] is None
    counted[-1] = replace(counted[-1], spec_accepted_total=37.0, spec_drafted_total=69.0)
    found = engine_metrics(counted, Window(0.5, 3.5))
    assert found["spec_acceptance_rate"] == pytest.approx(30 / 60)
    assert found["spec_tokens_per_step"] == pytest.approx(1 + 30 / 120)


def test_energy_is_that_of_the_window_over_all_gpus() -> None:
    samples = [Sample(5.0, gpu_energy_j=(0.0, 100.0)), Sample(25.0, gpu_energy_j=(2000.0, 4100.0))]
    assert energy_j(samples, WINDOW, gpus=2) == pytest.approx(1000.0 + 2000.0)


def test_samples_at_the_very_ends_of_the_window_bracket_it() -> None:
    samples = [Sample(10.0, gpu_energy_j=(50.0,)), Sample(20.0, gpu_energy_j=(75.0,))]
    assert energy_j(samples, WINDOW, gpus=1) == 25.0
    assert energy_j(samples[::-1], WINDOW, gpus=1) == 25.0
    assert energy_j(samples, Window(9.9, 20.0), gpus=1) is None
    assert energy_j(samples, Window(10.0, 20.1), gpus=1) is None
    counted = [Sample(10.0, preemptions_total=1.0), Sample(20.0, preemptions_total=4.0)]
    assert counter_delta(counted, "preemptions_total", WINDOW) == 3.0
    assert counter_delta(counted[::-1], "preemptions_total", WINDOW) == 3.0
    assert gauge_max(usage((10.0, 0.5), (20.0, 0.25)), "kv_usage", WINDOW) == 0.5
    assert gauge_max(usage((20.0, 0.25)), "kv_usage", WINDOW) == 0.25


def test_energy_needs_a_counter_on_both_sides_that_never_falls() -> None:
    assert energy_j([Sample(5.0), Sample(25.0)], WINDOW, gpus=1) is None
    assert (
        energy_j([Sample(5.0, gpu_energy_j=(1.0,)), Sample(15.0, gpu_energy_j=(2.0,))], WINDOW, gpus=1)
        is None
    )
    fell = [
        Sample(5.0, gpu_energy_j=(9.0,)),
        Sample(15.0, gpu_energy_j=(1.0,)),
        Sample(25.0, gpu_energy_j=(10.0,)),
    ]
    assert energy_j(fell, WINDOW, gpus=1) is None


def test_energy_of_a_part_of_the_gpus_is_not_that_of_the_deployment() -> None:
    samples = [Sample(5.0, gpu_energy_j=(0.0, 100.0)), Sample(25.0, gpu_energy_j=(2000.0, 4100.0))]
    assert energy_j(samples, WINDOW, gpus=4) is None


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1)), max_size=20))
def test_a_mean_lies_between_the_least_and_the_most_sampled(points: list[tuple[float, float]]) -> None:
    mean = gauge_mean(usage(*points), "kv_usage", WINDOW)
    inside = any(10.0 <= t_s <= 20.0 for t_s, _ in points)
    assert (mean is not None) == inside
    if mean is not None:
        values = [value for _, value in points]
        assert min(values) - 1e-9 <= mean <= max(values) + 1e-9


def crowd(t_s: float, others: float, waited: float | None = None) -> Sample:
    return Sample(t_s, engine_cpus=1.5, others_cpus=others, steal_cpus=0.1, engine_cpu_wait=waited)


def test_what_was_taken_is_what_others_used_as_far_as_the_engine_waited() -> None:
    samples = [crowd(9.0, 0.4), crowd(12.0, 0.4, 0.3), crowd(18.0, 0.4), crowd(21.0, 0.4, 0.3)]
    assert host_taken_share(samples, WINDOW) == pytest.approx(0.3 / 1.8)
    got = engine_metrics(samples, WINDOW)
    assert got["host_taken_share"] == pytest.approx(0.3 / 1.8)
    assert got["others_cpus_mean"] == pytest.approx(0.4)
    assert got["steal_cpus_mean"] == pytest.approx(0.1)
    assert got["engine_cpu_wait_mean"] == pytest.approx(0.3)
    assert host_taken_share([crowd(12.0, 0.4, 9.0)], WINDOW) == pytest.approx(0.5 / 2.0)
    assert host_taken_share([crowd(12.0, 0.4)], WINDOW) is None
    assert host_taken_share([crowd(12.0, 0.4, 0.3)], None) is None
    assert host_taken_share([crowd(12.0, 0.4, 0.3)], Window(11.5, 12.49)) is None, "too short to tell"
    assert host_taken_share([crowd(12.0, 0.4, 0.3)], Window(11.5, 12.5)) is not None
    assert engine_metrics([crowd(12.0, -0.02, 0.3)], WINDOW)["others_cpus_mean"] == 0.0
    still = Sample(12.0, engine_cpus=0.0, others_cpus=0.0, engine_cpu_wait=0.0)
    assert host_taken_share([still], WINDOW) == 0.0


STARVED = Sample(15.0, running=8.0, engine_cpu_busiest=0.98, gpu_util=(0.0, 0.0))


@pytest.mark.parametrize(
    "change",
    [
        {"running": 0.0},  # nothing to do
        {"engine_cpu_busiest": 0.5},  # no process is the limit
        {"gpu_util": (0.0, 1.0)},  # a GPU works
    ],
)
def test_a_gpu_starves_where_requests_run_and_a_process_of_the_engine_has_a_whole_cpu(
    change: dict[str, Any],
) -> None:
    assert gpu_starved_share([STARVED], WINDOW) == 1.0
    assert gpu_starved_share([STARVED, replace(STARVED, **change)], WINDOW) == 0.5


@pytest.mark.parametrize(
    ("change", "starved"),
    [
        ({"gpu_util": (0.049, 0.0)}, 1.0),
        ({"gpu_util": (0.05, 0.0)}, 0.0),
        ({"engine_cpu_busiest": 0.9}, 1.0),
        ({"engine_cpu_busiest": 0.89}, 0.0),
    ],
)
def test_idle_is_below_a_twentieth_and_busy_from_nine_tenths(change: dict[str, Any], starved: float) -> None:
    assert gpu_starved_share([replace(STARVED, **change)], WINDOW) == starved


@pytest.mark.parametrize("field", ["running", "engine_cpu_busiest", "gpu_util"])
def test_who_starves_is_unknown_without_one_of_the_three(field: str) -> None:
    unknown: dict[str, Any] = {field: None}
    assert gpu_starved_share([replace(STARVED, **unknown)], WINDOW) is None
    assert gpu_starved_share([replace(STARVED, t_s=9.0)], WINDOW) is None
    assert gpu_starved_share([replace(STARVED, t_s=10.0), replace(STARVED, t_s=20.0)], WINDOW) == 1.0
    assert gpu_starved_share([STARVED], None) is None
