"""What comparisons are made of, against SciPy, closed forms, and by simulation under the null."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import permutation_test, ttest_ind

from orchestrator.metrics.significance import (
    FEWEST_PAIRS,
    LEVEL,
    between_runs,
    permutation,
    sign_flip,
    welch,
)

UNITS = (3, 5, 8, 12, 19, 30)
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
DRAWS: dict[str, Draw] = {
    "normal": lambda random, n: random.normal(10, 1, n),
    "skewed": lambda random, n: random.lognormal(0, 1, n),
    "two peaks": lambda random, n: random.normal(0, 0.05, n) + (random.random(n) < 0.5),
    "few values": lambda random, n: random.integers(0, 3, n) / 2,
}


def at_most_5_percent(seen: int, of: int) -> bool:
    """But for what a simulation of this size misses it by once in a thousand."""
    return seen / of <= LEVEL + 3.1 * math.sqrt(LEVEL * (1 - LEVEL) / of)


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("pairs", UNITS)
def test_equal_items_are_told_apart_in_at_most_5_percent(pairs: int, name: str) -> None:
    random = np.random.default_rng(pairs)
    trials = {19: 40, 30: 200}.get(pairs, 500)
    found = [
        sign_flip(DRAWS[name](random, pairs) - DRAWS[name](random, pairs), 0, 2000) for _ in range(trials)
    ]
    assert all((one is None) == (pairs < FEWEST_PAIRS) for one in found)
    wrong = sum(one is not None and one.p is not None and one.p < LEVEL for one in found)
    assert at_most_5_percent(wrong, trials)


def p90(random: np.random.Generator, draw: Draw, runs: int) -> NDArray[np.float64]:
    """Of 50 requests each, which share what their run was like."""
    values = [draw(random, 50) * factor for factor in random.lognormal(0, 0.1, runs)]
    found: NDArray[np.float64] = np.quantile(values, 0.9, axis=1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["mean", "quantile"])
@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("runs", UNITS)
def test_equal_cells_are_told_apart_by_their_runs_in_at_most_5_percent(
    runs: int, name: str, statistic: str
) -> None:
    random = np.random.default_rng(runs)
    trials, wrong = 300, 0
    for _ in range(trials):
        if statistic == "mean":  # as bad as it gets: nothing was averaged
            a, b = DRAWS[name](random, runs), DRAWS[name](random, runs)
        else:
            a, b = p90(random, DRAWS[name], runs), p90(random, DRAWS[name], runs)
        found = between_runs(list(a), list(b))
        assert found is not None
        wrong += found[0].p is not None and found[0].p < LEVEL
    assert at_most_5_percent(wrong, trials)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=FEWEST_PAIRS, max_size=9))
def test_p_of_pairs_is_the_share_of_sign_choices_at_least_as_far_out(values: list[int]) -> None:
    found = sign_flip(np.array(values, np.float64), 0, 1)
    assert found is not None
    sums = [
        sum(s * v for s, v in zip(signs, values, strict=True))
        for signs in product((1, -1), repeat=len(values))
    ]
    seen = abs(sum(values))
    assert found.p == pytest.approx(sum(abs(one) >= seen for one in sums) / len(sums))
    assert found.low <= sum(values) / len(values) <= found.high


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-5, 20), min_size=FEWEST_PAIRS, max_size=9))
def test_the_interval_of_pairs_is_what_the_test_would_not_reject(values: list[int]) -> None:
    found = sign_flip(np.array(values, np.float64), 0, 1)
    assert found is not None
    for bound, outward in ((found.low, -1e-6), (found.high, 1e-6)):
        for shift, rejects in ((outward, True), (-outward, False)):
            moved = sign_flip(np.array(values) - (bound + shift), 0, 1)
            assert moved is not None
            assert moved.p is not None
            assert (moved.p <= LEVEL) == rejects or found.low == found.high


@pytest.mark.slow
def test_drawn_signs_come_close_to_all_of_them() -> None:
    """All 2^22 beside 40,000 drawn ones; p is twice the share on one side, as it is where all are tried."""
    random = np.random.default_rng(2)
    values = random.normal(0.35, 1, 22)
    drawn = sign_flip(values, 0, 40_000)
    assert drawn is not None
    flips = random.choice((-1.0, 1.0), (200_000, 22)) @ values
    expected = float((np.abs(flips) >= abs(values.sum())).mean())
    assert 0.02 < expected < 0.3, "else it would tell nothing"
    assert drawn.p == pytest.approx(expected, rel=0.1)


def test_an_effect_in_every_pair_has_the_smallest_p_there_is() -> None:
    for pairs in (6, 8, 12):
        found = sign_flip(np.linspace(1, 2, pairs), 0, 1)
        assert found is not None
        assert found.p == 2 / 2**pairs
    found = sign_flip(np.linspace(1, 2, 40), 0, 999)
    assert found is not None
    assert found.p == 2 / 1000


@pytest.mark.slow
def test_the_interval_of_pairs_covers_the_true_mean() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(600):
        found = sign_flip(random.normal(0.5, 1, 10), 0, 1)
        assert found is not None
        covered += found.low <= 0.5 <= found.high
    assert 0.93 <= covered / 600 <= 0.975


@pytest.mark.parametrize(("first", "second"), [(4, 4), (3, 5), (2, 7), (6, 5)])
def test_the_permutation_test_is_scipys(first: int, second: int) -> None:
    random = np.random.default_rng(first)
    a, b = random.gamma(2, 1, first), random.gamma(2, 2, second)
    expected = permutation_test(
        (a, b),
        lambda x, y: abs(np.mean(y) - np.mean(x)),
        vectorized=False,
        n_resamples=10**6,
        alternative="greater",
    ).pvalue
    assert permutation(a, b) == pytest.approx(expected)
    found = between_runs(list(a), list(b))
    assert found is not None
    assert found[0].p == pytest.approx(expected)
    assert found[1] == "permutation"


@pytest.mark.parametrize("runs", [3, 10, 25])
def test_welchs_test_is_scipys(runs: int) -> None:
    random = np.random.default_rng(runs)
    a, b = random.normal(10, 1, runs), random.normal(11, 3, runs)
    expected = ttest_ind(b, a, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert welch(a, b) == pytest.approx((interval.low, interval.high, expected.pvalue))
    found = between_runs(list(a), list(b))
    assert found is not None
    assert found[0].p == pytest.approx(expected.pvalue)
    assert found[1] == "welch"


def test_two_runs_against_two_are_too_few_and_one_tells_no_spread() -> None:
    found = between_runs([1.0, 1.1], [5.0, 5.1])
    assert found is not None
    assert (found[0].p, found[1]) == (None, "too few")
    assert found[0].low < 4.0 < found[0].high
    assert between_runs([1.0], [5.0, 5.1, 5.2]) is None


def test_runs_without_any_spread_prove_no_more_than_their_number() -> None:
    """Three equal numbers on either side may be rounded; the six could be split in 20 ways."""
    for second, p in ((2.0, 0.1), (1.0, 1.0)):
        found = between_runs([1.0] * 3, [second] * 3)
        assert found is not None
        assert found[0].p == pytest.approx(p)
