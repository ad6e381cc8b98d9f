"""Paired comparisons, against SciPy, published values, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from orchestrator.metrics import resampling
from orchestrator.metrics.compare import (
    Comparison,
    compare_accuracy,
    compare_runs,
    compare_values,
    holm,
    mcnemar,
    tango,
)


def ids(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def interval(result: Comparison | None) -> tuple[float, float]:
    assert result is not None
    assert result.low is not None
    assert result.high is not None
    return result.low, result.high


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


def test_repeats_are_compared_by_their_items_means() -> None:
    a = [i % 2 == 0 for i in range(60)]
    result = compare_accuracy(ids(60) * 2, a * 2, ids(60) * 2, a + [True] * 60)
    assert result is not None
    assert (result.method, result.unit, result.units, result.items) == ("sign-flip", "item", 60, 60)
    assert result.difference == pytest.approx(0.25)
    assert result.low is not None
    assert result.high is not None
    assert result.p is not None
    assert result.low < 0.25 < result.high
    assert result.p < 0.001
    assert result.verdict() == "different"


def test_five_items_are_too_few_to_differ_however_often_they_were_asked() -> None:
    result = compare_accuracy(ids(5) * 4, [False] * 20, ids(5) * 4, [True] * 20)
    assert result is not None
    assert (result.difference, result.p, result.method, result.verdict(0.5)) == (
        1.0,
        None,
        "too few",
        "too few",
    )
    assert (result.unit, result.units, result.low, result.high) == ("item", 5, None, None)
    once = compare_accuracy(ids(5), [False] * 5, ids(5), [True] * 5)
    assert once is not None
    assert (once.p, once.verdict()) == (2 / 2**5, "too few")


def test_equal_answers_to_few_items_prove_no_equality() -> None:
    result = compare_accuracy(ids(10) * 2, [True] * 20, ids(10) * 2, [True] * 20)
    assert result is not None
    assert (result.low, result.high) == pytest.approx(tango(0, 0, 10))
    assert (result.p, result.verdict(0.02), result.verdict(0.5)) == (1.0, "undecided", "equivalent")


def test_repeats_in_one_cell_alone_are_repeats() -> None:
    """Each item was right half of the time in A and always in B."""
    result = compare_accuracy(ids(8) * 2, [True] * 8 + [False] * 8, ids(8), [True] * 8)
    assert result is not None
    assert (result.method, result.difference, result.p) == ("sign-flip", 0.5, 2 / 2**8)
    same = compare_accuracy(ids(8), [True] * 8, ids(8) * 2, [True] * 16)
    assert same is not None
    assert (same.method, same.unit, same.units, same.difference) == ("sign-flip", "item", 8, 0.0)


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
    low, high = interval(compare_values(ids(200), list(a), ids(200), list(b)))
    assert low < 0.2 < high
    assert high - low < 0.1  # unpaired it would be about 4


def test_one_run_has_an_interval_within_itself_and_no_significance() -> None:
    result = compare_values(ids(30), [1.0] * 30, ids(30), [2.0] * 30, runs_b=[1] * 15 + [2] * 15)
    assert result is not None
    assert (result.difference, result.p, result.method, result.unit) == (1.0, None, "bootstrap", "item")
    assert result.within_run
    assert (result.verdict(), result.verdict(5.0)) == ("within this run", "within this run")


def test_one_run_of_few_items_has_not_even_an_interval() -> None:
    result = compare_values(ids(5), [1.0] * 5, ids(5), [2.0] * 5, quantile=0.9)
    assert result is not None
    assert (result.difference, result.low, result.high, result.p) == (1.0, None, None, None)


def runs_of(generator: np.random.Generator, levels: list[float]) -> tuple[list[str], list[float], list[int]]:
    """40 requests a run, all of them shifted by what the run was like."""
    items, values, runs = [], [], []
    for number, level in enumerate(levels, 1):
        items += ids(40)
        values += list(generator.gamma(4, 0.25, 40) + level)
        runs += [number] * 40
    return items, values, runs


@pytest.mark.parametrize("quantile", [None, 0.5, 0.9])
def test_runs_are_the_unit_of_latency(quantile: float | None) -> None:
    generator = np.random.default_rng(6)
    a, b = runs_of(generator, [1.0, 1.4, 0.7, 1.2]), runs_of(generator, [3.0, 3.4, 2.7, 3.2])
    result = compare_values(a[0], a[1], b[0], b[1], runs_a=a[2], runs_b=b[2], quantile=quantile)
    assert result is not None
    assert (result.method, result.unit, result.units, result.items) == ("permutation", "run", 8, 40)
    assert result.p == pytest.approx(2 / 70)
    assert result.verdict() == "different"
    per_run = [
        [
            np.mean(part) if quantile is None else np.quantile(part, quantile)
            for part in np.split(np.array(side), 4)
        ]
        for side in (a[1], b[1])
    ]
    assert result.difference == pytest.approx(np.mean(per_run[1]) - np.mean(per_run[0]))


def test_many_requests_of_runs_that_differ_by_themselves_prove_nothing() -> None:
    """The same four levels on both sides, so that all between the cells is what runs do by themselves."""
    generator = np.random.default_rng(7)
    a, b = runs_of(generator, [1.0, 5.0, 2.0, 8.0]), runs_of(generator, [2.5, 8.5, 1.5, 5.5])
    result = compare_values(a[0], a[1], b[0], b[1], runs_a=a[2], runs_b=b[2])
    assert result is not None
    assert result.p is not None
    assert result.p > 0.5
    assert result.verdict() == "undecided"


def test_runs_are_compared_on_the_items_that_all_of_them_have() -> None:
    items, values, runs = ["a", "b"] * 3 + ["x"], [1.0, 3.0] * 3 + [99.0], [1, 1, 2, 2, 3, 3, 3]
    result = compare_values(
        items, values, ["b", "a"] * 3, [4.0, 2.0] * 3, runs_a=runs, runs_b=[1, 1, 2, 2, 3, 3]
    )
    assert result is not None
    assert result.difference == pytest.approx(1.0)
    assert result.items == 2
    assert (
        compare_values(["a", "b"], [1.0, 1.0], ["a", "b"], [1.0, 1.0], runs_a=[1, 2], runs_b=[1, 2]) is None
    )


def test_three_runs_can_differ_and_two_cannot() -> None:
    three = compare_runs([100.0, 101.0, 99.0], [120.0, 121.0, 119.5])
    two = compare_runs([100.0, 101.0], [120.0, 121.0])
    one = compare_runs([100.0], [120.0, 121.0])
    assert three is not None
    assert two is not None
    assert one is not None
    assert (three.method, three.units, three.verdict()) == ("welch", 6, "different")
    assert (two.method, two.p, two.verdict()) == ("too few", None, "too few")
    assert (one.low, one.p, one.verdict(100.0)) == (None, None, "too few")
    assert (one.difference, one.method, one.unit, one.units) == (20.5, "too few", "run", 3)
    assert compare_runs([], [1.0]) is None


@pytest.mark.parametrize(
    ("low", "high", "p", "margin", "verdict"),
    [
        (-0.5, 0.4, 0.9, 1.0, "equivalent"),
        (0.1, 0.4, 0.01, 1.0, "equivalent"),  # and not 0: too little to matter
        (-0.5, 1.0, 0.4, 1.0, "undecided"),  # it may just reach the margin
        (-0.5, 0.4, 0.9, None, "undecided"),
        (0.1, 2.0, 0.01, 1.0, "different"),
        (-2.0, -0.1, 0.049, None, "different"),
        (0.1, 2.0, 0.05, None, "undecided"),
        (-0.1, 2.0, 0.01, None, "undecided"),
        (0.1, 2.0, None, None, "too few"),
    ],
)
def test_a_verdict_knows_equivalence(
    low: float, high: float, p: float | None, margin: float | None, verdict: str
) -> None:
    one = Comparison((low + high) / 2, low, high, p, 40, "permutation", "run", 8)
    assert one.verdict(margin) == verdict


def test_a_verdict_by_the_whole_tables_p() -> None:
    one = Comparison(1.0, 0.1, 2.0, 0.01, 40, "permutation", "run", 8)
    assert (one.verdict(), one.verdict(adjusted_p=0.2)) == ("different", "undecided")
    with pytest.raises(ValueError, match="margin=0"):
        one.verdict(0)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_the_observed_quantile_difference_is_numpys(quantile: float) -> None:
    generator = np.random.default_rng(4)
    a, b = generator.gamma(2.0, 1.0, 300), generator.gamma(2.0, 1.3, 300)
    names = ids(150) * 2
    result = compare_values(names, list(a), names, list(b), quantile=quantile, resamples=200)
    assert result is not None
    assert result.difference == pytest.approx(np.quantile(b, quantile) - np.quantile(a, quantile))
    low, high = interval(result)
    assert low <= result.difference <= high


def test_a_resample_of_quantiles_is_numpys_on_the_drawn_values() -> None:
    """With items that are all alike every resample is the sample itself, so the interval has no width."""
    names = [name for name in ids(6) for _ in range(3)]
    for quantile in (0.9, 0.66):  # the second lies between two that differ
        result = compare_values(names, [1, 2, 9] * 6, names, [2, 4, 20] * 6, quantile=quantile, resamples=20)
        expected = np.quantile([2, 4, 20] * 6, quantile) - np.quantile([1, 2, 9] * 6, quantile)
        assert interval(result) == pytest.approx((expected, expected))


@pytest.mark.parametrize("quantile", [None, 0.9])
def test_resamples_are_drawn_in_blocks_that_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch, quantile: float | None
) -> None:
    values = np.random.default_rng(8).gamma(2.0, 1.0, (2, 12)).tolist()
    whole = compare_values(ids(12), values[0], ids(12), values[1], quantile=quantile, resamples=150)
    monkeypatch.setattr(resampling, "BLOCK", 240)
    monkeypatch.setattr(resampling, "KEPT", 0)
    assert compare_values(ids(12), values[0], ids(12), values[1], quantile=quantile, resamples=150) == whole


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1])
def test_a_quantile_lies_between_the_ends(quantile: float) -> None:
    with pytest.raises(ValueError, match=f"quantile={quantile}"):
        compare_values(["a"], [1.0], ["a"], [1.0], quantile=quantile)


def test_the_bootstrap_of_two_kinds_of_items_is_binomial() -> None:
    """Half of 40 items differ by 1, so that the mean of a resample is Bin(40, 1/2) / 40: 0.35 to 0.65."""
    result = compare_values(ids(40), [0.0] * 40, ids(40), [0.0, 1.0] * 20)
    assert interval(result) == pytest.approx((0.35, 0.65), abs=0.026)


def test_identical_cells_differ_by_nothing() -> None:
    result = compare_values(ids(20), [1.0] * 20, ids(20), [1.0] * 20)
    assert result is not None
    assert (result.difference, result.low, result.high, result.p) == (0, 0, 0, None)


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
