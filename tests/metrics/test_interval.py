"""Intervals within a run, by simulation and at their ends."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.interval import intervals, percentile_bounds, rate_intervals
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.summary import summarize
from orchestrator.metrics.window import Window
from orchestrator.records import Record
from tests.support.timelines import record

SLO = SloConfig()


@pytest.mark.parametrize(("quantile", "truth"), [(0.5, np.log(2)), (0.99, np.log(100))])
def test_a_percentiles_interval_covers_the_true_one(quantile: float, truth: float) -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(500):
        low, high = percentile_bounds(random.exponential(1, 2000), quantile)
        assert low is not None
        assert high is not None
        covered += low <= truth <= high
    assert 0.93 <= covered / 500 <= 0.99


def test_neighbours_that_are_alike_count_for_less() -> None:
    """Waves of 10 requests that share their lateness: 40 independent values in 400."""
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        values = np.repeat(random.normal(0, 1, 40), 10) + random.normal(0, 0.1, 400)
        low, high = percentile_bounds(values, 0.5)
        assert low is not None
        assert high is not None
        covered += low <= 0 <= high
    assert covered / 400 >= 0.92, "as if independent it would be about 0.5"


@pytest.mark.parametrize(("quantile", "fewest"), [(0.5, 6), (0.99, 368)])
def test_a_percentile_needs_values_on_both_sides(quantile: float, fewest: int) -> None:
    random = np.random.default_rng(3)
    values = random.permutation(np.arange(fewest, dtype=np.float64))
    while percentile_bounds(values, quantile) == (None, None):  # the order must not look correlated
        values = random.permutation(values)
    assert percentile_bounds(values[: fewest - 1], quantile) == (None, None)
    assert percentile_bounds(np.empty(0), quantile) == (None, None)


def steady(random: np.random.Generator, rate: float) -> list[Record]:
    """100 s of Poisson arrivals whose answers take about 1 s and have 5 tokens."""
    sent = random.uniform(0, 99, random.poisson(99 * rate))
    late = random.uniform(0, 0.05, len(sent))
    return [
        record(float(at), [(float(at + extra + 0.2 * i), 1, 0) for i in range(1, 6)])
        for at, extra in zip(np.sort(sent), late, strict=True)
    ]


def test_a_rates_interval_covers_the_true_one() -> None:
    random = np.random.default_rng(4)
    covered, window = {"output_token_per_s": 0, "request_per_s": 0}, Window(0.0, 100.0)
    for _ in range(100):
        records = steady(random, 5.0)
        rates = {"output_token_per_s": 5 * len(records) / 100, "request_per_s": len(records) / 100}
        found = rate_intervals(records, window, SLO, rates)
        for name, truth in (("output_token_per_s", 24.75), ("request_per_s", 4.95)):
            low, high = found[f"{name}_low"], found[f"{name}_high"]
            assert low is not None
            assert high is not None
            covered[name] += low <= truth <= high
    assert all(0.88 <= count / 100 <= 0.99 for count in covered.values())


def test_a_load_of_one_wave_has_no_interval_of_its_rate() -> None:
    records = [record(0.0, [(1.0, 1, 0), (10.0, 9, 0)]) for _ in range(40)]
    found = summarize(Measurement(records), None, SLO)
    assert found["output_token_per_s"] == pytest.approx(40)
    assert (found["output_token_per_s_low"], found["output_token_per_s_high"]) == (None, None)


def test_a_part_is_as_long_as_an_answer() -> None:
    """Five waves of answers that take 1.9 s each: 9.9 s are five parts with 4, 4, 4, 8 and 4 tokens."""
    tokens = [4, 4, 4, 8, 4]
    waves = [(2.0 * i, [(2.0 * i + 0.5, n - 1, 0), (2.0 * i + 1.9, 1, 0)]) for i, n in enumerate(tokens)]
    found = summarize(Measurement([record(sent, chunks) for sent, chunks in waves]), None, SLO)
    low, value, high = (found[f"output_token_per_s{end}"] for end in ("_low", "", "_high"))
    half = 2.776445 * np.std([n / 1.98 for n in tokens], ddof=1) / 5**0.5
    assert (low, value, high) == pytest.approx((24 / 9.9 - half, 24 / 9.9, 24 / 9.9 + half), rel=1e-5)
    longer = [record(0.0, [(1.0, 1, 0), (9.9, 9, 0)]), *(record(sent, chunks) for sent, chunks in waves)]
    assert summarize(Measurement(longer), None, SLO)["output_token_per_s_high"] is None


def test_goodputs_interval_is_of_the_requests_within_the_limits() -> None:
    records = steady(np.random.default_rng(5), 5.0)
    none, every = (summarize(Measurement(records), None, SloConfig(ttft_s=limit)) for limit in (0.1, 0.3))
    assert [none[f"goodput_per_s{end}"] for end in ("_low", "", "_high")] == [0, 0, 0]
    for end in ("_low", "", "_high"):
        assert every[f"goodput_per_s{end}"] == every[f"request_per_s{end}"]
    assert (none["request_per_s_low"] or 0) > 3


def test_the_columns_are_there_and_hold_the_value() -> None:
    records = steady(np.random.default_rng(6), 5.0)
    found = summarize(Measurement(records), None, SLO)
    for name in ("output_token_per_s", "request_per_s", "goodput_per_s", "ttft_s_p50", "e2e_s_p50"):
        low, value, high = (found[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert low is not None
        assert value is not None
        assert high is not None
        assert low <= value <= high
    assert set(intervals([], None, SLO, {}).values()) == {None}
