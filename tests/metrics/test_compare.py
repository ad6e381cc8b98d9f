"""Paired comparisons, against SciPy, published values, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from orchestrator.metrics.compare import compare_accuracy, compare_values, holm, mcnemar, tango


def ids(count: int) -> list[str]:
    return [str(i) for i in range(count)]


@given(gained=st.integers(0, 200), lost=st.integers(0, 200))
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected)


def test_tango_without_change() -> None:
    """Closed form: z² / (n + z²) on either side."""
    z2 = 1.959963984540054**2
    assert tango(0, 0, 50) == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)))


@given(gained=st.integers(0, 40), lost=st.integers(0, 40), same=st.integers(0, 100))
def test_tango_is_symmetric_and_holds_the_difference(gained: int, lost: int, same: int) -> None:
    items = gained + lost + same
    if not items:
        return
    low, high = tango(gained, lost, items)
    assert -1 <= low <= (gained - lost) / items <= high <= 1
    assert tango(lost, gained, items) == pytest.approx((-high, -low))


def test_tango_covers_the_true_difference() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        gained, lost, _ = generator.multinomial(60, (0.2, 0.1, 0.7))
        low, high = tango(int(gained), int(lost), 60)
        covered += low <= 0.1 <= high
    assert 0.93 <= covered / 1000 <= 0.975


def test_accuracy_is_compared_on_shared_items_only() -> None:
    result = compare_accuracy(["a", "b", "c", "x"], [True, False, False, True], ["c", "b", "a"], [True] * 3)
    assert result is not None
    assert (result.method, result.items) == ("mcnemar", 3)
    assert result.difference == pytest.approx(2 / 3)
    assert result.p == 0.5


def test_without_shared_items_there_is_no_comparison() -> None:
    assert compare_accuracy(["a"], [True], ["b"], [True]) is None
    assert compare_values(["a"], [1.0], ["b"], [1.0]) is None


def test_repeats_are_compared_by_a_bootstrap_of_item_means() -> None:
    a = [i % 2 == 0 for i in range(60)]
    result = compare_accuracy(ids(60) * 2, a * 2, ids(60) * 2, a + [True] * 60)
    assert result is not None
    assert (result.method, result.items) == ("bootstrap", 60)
    assert result.difference == pytest.approx(0.25)
    assert result.low < 0.25 < result.high
    assert result.p < 0.001


def test_repeating_the_same_answers_does_not_narrow_the_comparison() -> None:
    generator = np.random.default_rng(2)
    a, b = list(generator.random(80) < 0.5), list(generator.random(80) < 0.6)
    twice = compare_accuracy(ids(80) * 2, a * 2, ids(80) * 2, b * 2)
    many = compare_accuracy(ids(80) * 8, a * 8, ids(80) * 8, b * 8)
    assert twice is not None
    assert many is not None
    assert (twice.low, twice.high, twice.p) == pytest.approx((many.low, many.high, many.p))


def test_pairing_cancels_what_the_items_share() -> None:
    generator = np.random.default_rng(3)
    lengths = generator.gamma(1.0, 10.0, 200)
    a, b = lengths + generator.normal(0, 0.1, 200), lengths + 0.2 + generator.normal(0, 0.1, 200)
    result = compare_values(ids(200), list(a), ids(200), list(b))
    assert result is not None
    assert result.low < 0.2 < result.high
    assert result.high - result.low < 0.1  # unpaired it would be about 4


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_the_observed_quantile_difference_is_numpys(quantile: float) -> None:
    generator = np.random.default_rng(4)
    a, b = generator.gamma(2.0, 1.0, 300), generator.gamma(2.0, 1.3, 300)
    names = ids(150) * 2
    result = compare_values(names, list(a), names, list(b), quantile=quantile, resamples=200)
    assert result is not None
    assert result.difference == pytest.approx(np.quantile(b, quantile) - np.quantile(a, quantile))
    assert result.low <= result.difference <= result.high


def test_a_resample_of_quantiles_is_numpys_on_the_drawn_values() -> None:
    """With one item every resample is the sample itself, so the interval has no width."""
    result = compare_values(["a"] * 5, [1, 2, 3, 4, 9], ["a"] * 4, [2, 4, 6, 20], quantile=0.9, resamples=20)
    assert result is not None
    expected = np.quantile([2, 4, 6, 20], 0.9) - np.quantile([1, 2, 3, 4, 9], 0.9)
    assert (result.low, result.high) == pytest.approx((expected, expected))


def test_equal_cells_are_not_told_apart() -> None:
    generator = np.random.default_rng(5)
    values = [list(generator.normal(10, 1, 100)) for _ in range(80)]
    p = [
        result.p
        for a, b in zip(values[::2], values[1::2], strict=True)
        if (result := compare_values(ids(100), a, ids(100), b, resamples=1000)) is not None
    ]
    assert len(p) == 40
    assert sum(value < 0.05 for value in p) <= 6


def test_identical_cells_differ_by_nothing() -> None:
    result = compare_values(ids(20), [1.0] * 20, ids(20), [1.0] * 20)
    assert result is not None
    assert (result.difference, result.low, result.high, result.p) == (0, 0, 0, 1)


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_the_same_seed_gives_the_same_comparison(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = list(generator.random(10)), list(generator.random(10))
    one = compare_values(ids(10), a, ids(10), b, resamples=100, seed=seed)
    assert one == compare_values(ids(10), a, ids(10), b, resamples=100, seed=seed)


def test_holm_multiplies_by_the_tests_left_and_never_falls() -> None:
    assert holm([0.010, 0.020, 0.022, 0.09, 0.12]) == pytest.approx([0.05, 0.08, 0.08, 0.18, 0.18])


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=20))
def test_holm_never_lowers_p_keeps_order_and_leaves_absent_ones_absent(p: list[float | None]) -> None:
    adjusted = holm(p)
    pairs = [(a, b) for a, b in zip(p, adjusted, strict=True) if a is not None and b is not None]
    assert [a is None for a in p] == [b is None for b in adjusted]
    assert all(a <= b <= 1 for a, b in pairs)
    assert [b for _, b in sorted(pairs)] == sorted(b for _, b in pairs)
