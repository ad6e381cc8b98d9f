"""Tests and intervals at values that can be looked up or worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from orchestrator.metrics import resampling
from orchestrator.metrics.interval import percentile_bounds
from orchestrator.metrics.significance import holm, mcnemar, sign_flip, tango

Z2 = 3.841458820694124  # the 95 % quantile of chi-squared, one degree of freedom


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (0, 5, 2 / 32),
        (5, 0, 2 / 32),
        (1, 8, 20 / 512),
        (3, 3, 1.0),
        (2, 3, 1.0),
        (2, 10, 158 / 4096),
    ],
)
def test_mcnemars_p(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == p


def test_tangos_interval_where_all_items_changed_one_way() -> None:
    """Closed form: (n − z²) / (n + z²) to 1."""
    assert tango(30, 0, 30) == pytest.approx(((30 - Z2) / (30 + Z2), 1.0))
    assert tango(0, 30, 30) == pytest.approx((-1.0, -(30 - Z2) / (30 + Z2)))


@pytest.mark.parametrize(("gained", "lost", "items"), [(9, 3, 40), (3, 9, 40), (1, 0, 12), (20, 18, 100)])
def test_at_tangos_bounds_the_score_is_the_normal_quantile(gained: int, lost: int, items: int) -> None:
    """The variance under each bound is that of the likeliest proportions that differ by so much."""
    for delta in tango(gained, lost, items):

        def unlikely(p_lost: float, delta: float = delta) -> float:
            shares = np.array([p_lost + delta, p_lost, 1 - 2 * p_lost - delta])
            return -float(np.array([gained, lost, items - gained - lost]) @ np.log(np.maximum(shares, 1e-12)))

        span = (max(0.0, -delta), (1 - delta) / 2)
        p_lost = float(minimize_scalar(unlikely, bounds=span, method="bounded", options={"xatol": 1e-10}).x)
        variance = items * (2 * p_lost + delta - delta**2)
        assert (gained - lost - items * delta) ** 2 / variance == pytest.approx(Z2, rel=1e-3)


def test_the_interval_of_six_pairs_is_their_range_and_of_eight_the_sixth_of_all_subsets() -> None:
    """The means of the subsets of 1 … 8 begin 1, 3/2, 2, 2, 2, 7/3; 2.5 % of 256 are six."""
    six, eight = (sign_flip(np.arange(1.0, n + 1), 0, 1) for n in (6, 8))
    assert six is not None
    assert eight is not None
    assert (six.low, six.high, six.p) == (1.0, 6.0, 2 / 64)
    assert (eight.low, eight.high, eight.p) == pytest.approx((7 / 3, 9 - 7 / 3, 2 / 256))
    assert sign_flip(np.arange(1.0, 6.0), 0, 1) is None


@pytest.mark.parametrize("values", [[1, -1, 2, -2, 3, -3, 0], [0.1, 0.2, -0.3] * 2, [5, -1, 4, -1, 3, -2, 1]])
def test_p_counts_every_choice_of_signs_that_is_as_far_out(values: list[float]) -> None:
    found = sign_flip(np.array(values, np.float64), 0, 1)
    assert found is not None
    sums = [abs(float(np.dot(signs, values))) for signs in product((1, -1), repeat=len(values))]
    assert found.p == pytest.approx(sum(one >= abs(sum(values)) - 1e-9 for one in sums) / len(sums))


def test_from_twenty_pairs_on_signs_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(1.0, 2.0, 20)
    found = sign_flip(values, 3, 199)
    assert found is not None
    assert found.p == 2 / 200  # the sample's own choice counts with the drawn ones
    assert 1.3 < found.low < 1.5 < found.high < 1.7
    assert sign_flip(values, 4, 199) != found
    monkeypatch.setattr(resampling, "BLOCK", 100)
    monkeypatch.setattr(resampling, "KEPT", 0)
    assert sign_flip(values, 3, 199) == found, "in blocks that fit in memory"
    same = sign_flip(np.full(25, 2.0), 0, 99)
    assert same is not None
    assert (same.low, same.high, same.p) == (2.0, 2.0, 2 / 100)


def test_drawn_subsets_hold_each_value_half_of_the_time() -> None:
    """Half of the subsets have the one that is not 0, which alone decides the sign: p is near 1."""
    found = sign_flip(np.array([1.0] + [0.0] * 20), 0, 2000)
    assert found is not None
    assert found.p == 1.0
    assert found.low == 0.0
    assert found.high == pytest.approx(1 / 7, abs=0.04)


def test_holm_leaves_out_what_is_absent() -> None:
    assert holm([None, 0.04, None, 0.01]) == [None, 0.04, None, 0.02]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def ordered(count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """1 … n, the lower and the upper half in turns, so that neighbours are not alike."""
    half = -(-count // 2)
    values = np.empty(count)
    values[::2], values[1::2] = np.arange(1, half + 1), np.arange(half + 1, count + 1)
    return values


@pytest.mark.parametrize(
    ("count", "quantile", "bounds"),
    [
        (5, 0.5, (None, None)),
        (6, 0.5, (1, 6)),
        (10, 0.5, (2, 9)),
        (20, 0.5, (6, 15)),
        (50, 0.5, (18, 33)),
        (100, 0.9, (84, 96)),
        (367, 0.99, (None, None)),
        (1000, 0.99, (983, 997)),
    ],
)
def test_a_percentile_lies_between_the_order_statistics_of_the_binomial_tables(
    count: int, quantile: float, bounds: tuple[float | None, float | None]
) -> None:
    assert percentile_bounds(ordered(count), quantile) == bounds


def test_neighbours_that_are_alike_make_it_wider() -> None:
    """Two below the median, two above, and so on: a correlation of 1/20, so that 20 count as 18, whose bounds
    are the fifth and the fourteenth."""
    values = np.array([1, 2, 11, 12, 3, 4, 13, 14, 5, 6, 15, 16, 7, 8, 17, 18, 9, 10, 19, 20], np.float64)
    assert percentile_bounds(values, 0.5) == (5, 16)
    assert percentile_bounds(np.arange(40.0), 0.5) == (None, None), "as good as one value"
    assert percentile_bounds(np.full(40, 7.0), 0.5) == (7.0, 7.0)
