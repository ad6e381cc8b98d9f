"""Percentiles: how many values they need, and what values that are only bounded from below make of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import CensoredData, binom, ecdf

from orchestrator.metrics.stats import describe, describe_all, needed, product_limit

values = st.lists(st.integers(0, 30).map(float), min_size=1, max_size=30)


@pytest.mark.parametrize(("percentile", "n"), [(50, 1), (90, 64), (95, 130), (99, 662), (99.9, 6636)])
def test_a_percentile_needs_the_values_that_its_confidence_asks(percentile: float, n: int) -> None:
    assert needed(percentile) == n
    if percentile > 50:  # at most one of n is larger than the percentile: in one of a hundred runs
        above = 1 - percentile / 100
        assert binom.cdf(1, n, above) <= 0.01 < binom.cdf(1, n - 1, above)


def test_a_percentile_with_too_few_values_is_absent() -> None:
    assert describe("x", np.arange(661.0))["x_p99"] is None
    assert describe("x", np.arange(662.0))["x_p99"] == pytest.approx(0.99 * 661)
    assert describe_all("x", np.arange(660.0), 1)["x_p99_all"] is None
    assert describe_all("x", np.arange(658.0), 4)["x_p99_all"] == pytest.approx(0.99 * 661)


def test_a_failure_is_infinitely_late() -> None:
    assert describe_all("x", [1.0, 2.0], 0)["x_p50_all"] == 1.5
    assert describe_all("x", [1.0, 2.0], 1)["x_p50_all"] == 2.0
    assert describe_all("x", [1.0, 2.0], 2)["x_p50_all"] is None


def test_mean_spread_and_range() -> None:
    got = describe("x", [1.0, 2.0, 6.0])
    assert (got["x_mean"], got["x_min"], got["x_max"]) == (3.0, 1.0, 6.0)
    assert got["x_sd"] == pytest.approx(np.std([1.0, 2.0, 6.0], ddof=1))
    assert describe("x", [1.0])["x_sd"] is None
    assert set(describe("x", []).values()) == {None}


def test_the_product_limit_of_a_case_worked_out_by_hand() -> None:
    """Seen 1, 3, 4; larger than 2 and than 5: 4/5, then 4/5 · 2/3, then 4/5 · 2/3 · 1/2 are left."""
    ordered, mass = product_limit([4.0, 1.0, 3.0], [5.0, 2.0])
    assert ordered.tolist() == [1.0, 3.0, 4.0]
    assert mass == pytest.approx([1 / 5, 4 / 15, 4 / 15])
    got = describe("x", [4.0, 1.0, 3.0], [5.0, 2.0])
    assert (got["x_p50"], got["x_min"]) == (4.0, 1.0)  # 7/15 lie up to 3, 11/15 up to 4
    assert (got["x_mean"], got["x_sd"], got["x_max"]) == (
        None,
        None,
        None,
    )  # 4/15 lie beyond 4, where is unknown


def test_a_bound_below_the_largest_value_leaves_a_whole_distribution() -> None:
    """A value above 1 is 2 or 3 with equal chance: 1/2 each of what the two seen ones share."""
    got = describe("x", [2.0, 3.0], [1.0])
    assert (got["x_mean"], got["x_max"], got["x_p50"]) == (2.5, 3.0, 2.0)


@given(values, values)
def test_the_product_limit_is_scipys(seen: list[float], bounds: list[float]) -> None:
    ordered, mass = product_limit(seen, bounds)
    reference = ecdf(CensoredData(uncensored=seen, right=bounds)).cdf
    for point in {*seen, *bounds}:
        assert mass[ordered <= point].sum() == pytest.approx(float(reference.evaluate(point)), abs=1e-9)


@given(values, values, st.integers(0, 5))
def test_a_failure_more_never_lowers_the_median(
    seen: list[float], bounds: list[float], failures: int
) -> None:
    less = describe_all("x", seen, failures, bounds)["x_p50_all"]
    more = describe_all("x", seen, failures + 1, bounds)["x_p50_all"]
    assert more is None or (less is not None and more >= less)
