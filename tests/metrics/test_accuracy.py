"""Accuracy, its interval, and the k-sample scores, against closed forms and by simulation."""

from __future__ import annotations

import itertools
import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.metrics.accuracy import accuracy, avg_at_k, maj_at_k, pass_at_k, wilson


@st.composite
def graded(draw: st.DrawFn) -> tuple[list[str], list[bool]]:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=30))
    ids = [str(item) for item, size in enumerate(sizes) for _ in range(size)]
    return ids, draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))


def test_one_repeat_gives_wilsons_interval() -> None:
    """Newcombe 1998, table I, the case 81 of 263: 0.2553 to 0.3662."""
    result = accuracy([str(i) for i in range(263)], [i < 81 for i in range(263)])
    assert result is not None
    assert (round(result.low, 4), round(result.high, 4)) == (0.2553, 0.3662)
    assert (result.items, result.samples) == (263, 263)


def test_repeating_the_same_answers_does_not_narrow_the_interval() -> None:
    ids, correct = [str(i) for i in range(40)], [i % 3 == 0 for i in range(40)]
    once, thrice = accuracy(ids, correct), accuracy(ids * 3, correct * 3)
    assert once is not None
    assert thrice is not None
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert (thrice.items, thrice.samples) == (40, 120)


def test_repeats_that_vary_within_items_narrow_it() -> None:
    ids = [str(i) for i in range(40)]
    once = accuracy(ids, [i % 2 == 0 for i in range(40)])
    twice = accuracy(ids * 2, [i % 2 == 0 for i in range(40)] + [i % 2 == 1 for i in range(40)])
    assert once is not None
    assert twice is not None
    assert twice.high - twice.low < once.high - once.low


@given(answers=graded())
def test_the_interval_holds_the_mean_and_lies_in_0_to_1(answers: tuple[list[str], list[bool]]) -> None:
    result = accuracy(*answers)
    assert result is not None
    assert 0 <= result.low <= result.mean <= result.high <= 1
    assert result.low < result.high


@given(answers=graded(), seed=st.integers(0, 100))
def test_the_order_of_answers_does_not_matter(answers: tuple[list[str], list[bool]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(answers[0]))
    one, other = accuracy(*answers), accuracy([answers[0][i] for i in order], [answers[1][i] for i in order])
    assert one is not None
    assert other is not None
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))


def test_items_weigh_alike_however_often_they_were_asked() -> None:
    result = accuracy(["a", "b", "b", "b"], [True, False, False, False])
    assert result is not None
    assert result.mean == 0.5


def test_the_interval_covers_the_truth_when_items_differ_in_difficulty() -> None:
    generator = np.random.default_rng(0)
    ids = [str(item) for item in range(50) for _ in range(4)]
    covered = 0
    for _ in range(600):
        chances = generator.beta(0.5, 0.5, 50)
        result = accuracy(ids, list(generator.random(200) < np.repeat(chances, 4)))
        assert result is not None
        covered += result.low <= 0.5 <= result.high
    assert 0.92 <= covered / 600 <= 0.98


def test_no_answers_have_no_accuracy() -> None:
    assert accuracy([], []) is None
    assert pass_at_k([], [], 1) is None


@given(answers=graded())
def test_pass_at_1_is_the_accuracy(answers: tuple[list[str], list[bool]]) -> None:
    result = accuracy(*answers)
    assert result is not None
    assert pass_at_k(*answers, 1) == pytest.approx(result.mean)


@given(correct=st.lists(st.booleans(), min_size=1, max_size=8), k=st.integers(1, 8))
def test_pass_at_k_is_the_mean_over_all_draws_of_k(correct: list[bool], k: int) -> None:
    ids = ["item"] * len(correct)
    if k > len(correct):
        assert pass_at_k(ids, correct, k) is None
        return
    draws = [any(draw) for draw in itertools.combinations(correct, k)]
    assert pass_at_k(ids, correct, k) == pytest.approx(sum(draws) / len(draws))


def test_avg_at_k_uses_the_first_k() -> None:
    assert avg_at_k(["a", "a", "a", "b", "b", "b"], [True, False, True, True, True, False], 2) == 0.75


def test_fewer_answers_than_k_give_none() -> None:
    ids, correct = ["a", "a", "b"], [True, True, True]
    assert avg_at_k(ids, correct, 2) is None
    assert maj_at_k(ids, ["1", "1", "1"], correct, 2) is None


def test_k_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="k=0"):
        pass_at_k(["a"], [True], 0)


@pytest.mark.parametrize(
    ("predicted", "correct", "k", "expected"),
    [
        (["5", "5", "7"], [True, True, False], 3, 1.0),
        (["5", "7", "7"], [True, False, False], 3, 0.0),
        (["1/2", "0.5", "7"], [True, True, False], 3, 1.0),  # written differently, both right
        (["5", "7"], [True, False], 2, 0.5),
        (["5", "7", "9"], [True, False, False], 3, 1 / 3),
        ([None, None, "5"], [False, False, True], 3, 1.0),
        ([None, None, None], [False, False, False], 3, 0.0),
        (["5", "5", "7", "7"], [True, True, False, False], 2, 0.5),  # two groups of two
        (["5", "5", "1/2", "0.5", "\\frac{1}{2}"], [True, True, False, False, False], 5, 0.0),  # all one half
        (["5", "5", "7", "0.5", "0.25"], [True, True, False, False, False], 5, 1.0),
        (["5", "5", "1/2", "0.5", None], [True, True, False, False, False], 5, 0.5),
    ],
)
def test_maj_at_k(predicted: list[str | None], correct: list[bool], k: int, expected: float) -> None:
    result = maj_at_k(["a"] * len(correct), predicted, correct, k)
    assert result is not None
    assert math.isclose(result, expected)


def test_who_knows_which_answers_are_equal_says_so() -> None:
    votes, correct = ["5", "5", "1/2", "1/2", "1/2"], [True, True, False, False, False]
    assert maj_at_k(["a"] * 5, votes, correct, 5, same=operator.eq) == 0.0
    assert maj_at_k(["a"] * 5, ["5", "5", "x", "y", "z"], correct, 5, same=lambda a, b: True) == 0.0


def test_the_effective_size_lies_between_items_and_answers() -> None:
    """Four items have the means 1, 1, 1/2, 0: p (1 − p) / Var(mean) = (15/64) / (11/256) = 60/11."""
    found = accuracy(list("aabbccdd"), [True] * 4 + [True, False] + [False] * 2)
    assert found is not None
    assert (found.mean, found.items, found.samples) == (0.625, 4, 8)
    assert (found.low, found.high) == pytest.approx(wilson(0.625, 60 / 11))
    alike = accuracy(
        list("aabb"), [True, True, False, False]
    )  # 1/4 / (1/8) = 2, all repeats of an item alike
    assert alike is not None
    assert (alike.low, alike.high) == pytest.approx(wilson(0.5, 2))
    level = accuracy(
        list("aabb"), [True, False] * 2
    )  # no variance between items: as many as there are answers
    assert level is not None
    assert (level.low, level.high) == pytest.approx(wilson(0.5, 4))
    every = accuracy(list("aabb"), [True] * 4)
    assert every is not None
    assert (every.low, every.high) == pytest.approx(wilson(1.0, 2))


def test_wilsons_interval_is_the_published_one() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for right, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(right / of, of) == pytest.approx((low, high), abs=5e-5)
