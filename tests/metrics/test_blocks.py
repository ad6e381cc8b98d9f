"""Runs paired by block: the rule against SciPy and by simulation, and what it makes of drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import permutation_test, ttest_rel

from orchestrator.metrics.blocks import Placed, compare_blocks
from orchestrator.metrics.compare import Comparison, compare_runs
from orchestrator.metrics.significance import LEVEL, between_blocks
from tests.metrics.test_significance import DRAWS, at_most_5_percent
from tests.support.drift import Machine, Sides

Floats = NDArray[np.float64]
SEEDS, BLOCKS, EFFECT = 200, 8, 0.03


Runs = Sequence[Placed]


def runs(**values: float) -> list[Placed]:
    """One in each block, at no known place."""
    return [Placed(value, block) for block, value in values.items()]


def paired(a: Runs, b: Runs) -> Comparison:
    found = compare_blocks(a, b)
    assert found is not None
    assert found.unit == "block"
    return found


def unpaired(a: Runs, b: Runs) -> Comparison:
    found = compare_runs([run.value for run in a], [run.value for run in b])
    assert found is not None
    return found


def claims(compare: Callable[[Runs, Runs], Comparison], of: list[Sides], sign: int = 0) -> float:
    """The share of comparisons that find a difference, of that sign if it is not 0."""
    found = [compare(*sides) for sides in of]
    different = [one.verdict() == "different" and one.difference * sign >= 0 for one in found]
    return sum(different) / len(different)


@pytest.mark.parametrize("blocks", [3, 5, 8, 16, 17, 25])
def test_students_test_is_scipys(blocks: int) -> None:
    random = np.random.default_rng(blocks)
    a, b = random.normal(10, 1, blocks), random.normal(12, 1, blocks)
    expected = ttest_rel(b, a)
    interval = expected.confidence_interval(0.95)
    found, method = between_blocks(list(a), list(b))
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, expected.pvalue))
    assert method == "student"


def signs_p(differences: Floats) -> float:
    return float(
        permutation_test(
            (differences,),
            lambda of, axis: np.abs(np.mean(of, axis=axis)),
            permutation_type="samples",
            n_resamples=2**17,
            alternative="greater",
            vectorized=True,
        ).pvalue
    )


@pytest.mark.parametrize("blocks", [6, 9, 16])
def test_from_six_blocks_on_nothing_is_significant_that_the_signs_do_not_call_so(blocks: int) -> None:
    """The first two differences of which Student's p is below 5 %, once with that of the signs above it, once
    below. To five blocks and from 17 on only Student's counts."""
    random = np.random.default_rng(blocks)
    seen: set[bool] = set()
    while len(seen) < 2:
        differences = random.integers(-2, 5, blocks).astype(np.float64)
        normal = ttest_rel(differences, np.zeros(blocks)).pvalue
        if not 0 < normal < LEVEL:
            continue
        exact = signs_p(differences)
        seen.add(exact < LEVEL)
        found, method = between_blocks([0.0] * blocks, list(differences))
        assert found.p == pytest.approx(normal if exact < LEVEL else exact)
        assert method == ("student" if exact < LEVEL else "sign-flip")


def test_two_blocks_are_too_few_and_one_tells_no_spread() -> None:
    found = between_blocks([1.0, 1.1], [5.0, 5.2])
    assert (found[0].p, found[1]) == (None, "too few")
    assert found[0].low < 4.05 < found[0].high
    whole = paired(runs(x=1.0, y=1.1), runs(x=5.0, y=5.2))
    assert (whole.units, whole.verdict()) == (2, "too few")


@pytest.mark.parametrize(("blocks", "p"), [(3, 0.25), (5, 2 / 2**5), (7, 2 / 2**7)])
def test_blocks_without_any_spread_prove_no_more_than_their_number(blocks: int, p: float) -> None:
    levels = [0.1 * block for block in range(1, blocks + 1)]
    found = between_blocks(levels, [level + 0.3 for level in levels])
    assert found[0].p == pytest.approx(p)
    assert found[0].low == pytest.approx(found[0].high)
    same = between_blocks(levels, levels)
    assert same[0].p == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("blocks", [2, 3, 4, 5, 6, 8, 17])
def test_equal_cells_are_told_apart_by_their_blocks_in_at_most_5_percent(blocks: int, name: str) -> None:
    random, trials, wrong = np.random.default_rng(blocks), 2000, 0
    for _ in range(trials):
        level = random.normal(0, 5, blocks)
        found = between_blocks(
            list(level + DRAWS[name](random, blocks)), list(level + DRAWS[name](random, blocks))
        )
        wrong += found[0].p is not None and found[0].p < LEVEL
    assert at_most_5_percent(wrong, trials)
    assert blocks > 2 or not wrong


def test_drift_fools_runs_that_follow_one_another_and_not_those_in_blocks() -> None:
    """The machine loses 20 %, seven times the effect. In blocks the same runs, compared without pairing, are
    not fooled but see nothing."""
    equal = [Machine().one_after_the_other(0.0, BLOCKS, seed) for seed in range(SEEDS)]
    assert claims(unpaired, equal) > 0.9, "an effect where none is"
    higher = [Machine().one_after_the_other(EFFECT, BLOCKS, seed) for seed in range(SEEDS)]
    assert claims(unpaired, higher, -1) > 0.9, "the wrong sign"

    inside = [Machine().in_blocks(EFFECT, BLOCKS, seed) for seed in range(SEEDS)]
    assert claims(unpaired, inside) < 0.05
    assert claims(paired, inside, +1) > 0.95
    found = [paired(*sides) for sides in inside]
    assert np.mean([one.difference for one in found]) == pytest.approx(EFFECT, abs=0.002)
    covered = [one.low <= EFFECT <= one.high for one in found if one.low is not None and one.high is not None]
    assert sum(covered) >= 0.92 * SEEDS


@pytest.mark.parametrize("blocks", [3, 5, 6, BLOCKS])
@pytest.mark.parametrize("drift", [-0.2, 0.5, 3.0])
def test_of_200_comparisons_of_equal_cells_under_drift_at_most_5_percent_claim_anything(
    blocks: int, drift: float
) -> None:
    """Also where it is so steep that one place in a block is another level than the next."""
    equal = [Machine(drift).in_blocks(0.0, blocks, seed) for seed in range(SEEDS)]
    assert claims(paired, equal) <= LEVEL


def test_runs_without_a_partner_do_not_bring_the_drift_back() -> None:
    """A lacks its last blocks, B its first, as where runs were invalid: all of B came later."""
    equal = [Machine().in_blocks(0.0, 14, seed) for seed in range(SEEDS)]
    uneven = [(a[:10], b[4:]) for a, b in equal]
    assert claims(unpaired, uneven) > 0.5
    assert claims(paired, uneven) <= LEVEL
    one = paired(*uneven[0])
    assert one.pairing is not None
    assert (one.pairing.paired, one.pairing.runs, one.units) == ((6, 6), (10, 10), 6)


def test_without_drift_pairing_costs_little_and_with_it_it_gains_much() -> None:
    widths = {}
    for drift in (0.0, -0.2):
        found = [paired(*Machine(drift).in_blocks(EFFECT, BLOCKS, seed)).pairing for seed in range(SEEDS)]
        widths[drift] = median(one.width for one in found if one is not None and one.width is not None)
    assert 1.0 < widths[0.0] < 1.2  # the quantile of Student's t: 7 degrees of freedom for 14
    assert widths[-0.2] < 0.35
    quiet = [Machine(0.0).in_blocks(EFFECT, BLOCKS, seed) for seed in range(SEEDS)]
    assert claims(paired, quiet, +1) > claims(unpaired, quiet, +1) - 0.05


def test_with_fewer_than_two_shared_blocks_the_comparison_is_that_of_runs() -> None:
    a = [*runs(x=1.0, y=1.1), Placed(1.2)]
    for b in ([*runs(x=2.0, z=2.1), Placed(2.2)], [Placed(2.0), Placed(2.1), Placed(2.3)], runs(u=2, v=2.1)):
        assert compare_blocks(a, b) == unpaired(a, b)
    assert compare_blocks([], a) is None


def test_several_runs_of_a_cell_in_a_block_count_once() -> None:
    """As of two seeds of it."""
    found = paired([*runs(x=1.0, y=4.0, z=0.0), Placed(3.0, "x")], runs(y=5.0, z=0.5, x=2.5))
    assert found.difference == pytest.approx((0.5 + 1.0 + 0.5) / 3)
    assert found.units == 3
    assert found.pairing is not None
    assert (found.pairing.paired, found.pairing.runs) == ((4, 3), (4, 3))


@pytest.mark.parametrize(("blocks", "p"), [(3, None), (5, None), (6, 2 / 2**6), (18, 2 / 2**18)])
def test_blocks_in_one_order_prove_no_more_than_the_chance_of_it(blocks: int, p: float | None) -> None:
    a, b = ([Placed(at + 0.1 * i * (1 + at), str(i), 1 + at) for i in range(blocks)] for at in (0, 9))
    assert paired(a, b).p == (p if p is None else pytest.approx(p))
    turned = [replace(run, position=11 - (run.position or 0)) for run in (a[0], b[0])]
    unknown = [replace(run, position=None) for run in a]
    for one in (paired([turned[0], *a[1:]], [turned[1], *b[1:]]), paired(unknown, b)):
        assert one.p is not None
        assert one.p < (p or LEVEL)


def test_the_width_is_that_of_the_interval_over_the_unpaired_one_of_the_same_runs() -> None:
    a, b = runs(x=1.0, y=2.0, z=3.5), runs(x=1.2, y=2.1, z=3.9)
    found, other = paired([*a, Placed(90.0, "alone")], b), unpaired(a, b)
    assert found.pairing is not None
    assert found.pairing.width == pytest.approx(length(found) / length(other))
    assert found.pairing.runs == (4, 3)


def length(of: Comparison) -> float:
    assert of.low is not None
    assert of.high is not None
    return of.high - of.low


VALUES = st.floats(0.01, 100)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=2, max_size=9))
def test_a_common_factor_of_a_block_changes_nothing(
    blocks: list[tuple[float, float, float]],
) -> None:
    def logs(side: int, scaled: bool) -> list[Placed]:
        factors = [of[2] if scaled else 1.0 for of in blocks]
        return [
            Placed(math.log(of[side] * factor), str(i))
            for i, (of, factor) in enumerate(zip(blocks, factors, strict=True))
        ]

    plain, scaled = (paired(logs(0, one), logs(1, one)) for one in (False, True))
    assert scaled.difference == pytest.approx(plain.difference, abs=1e-9)
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high), abs=1e-6)
    assert scaled.p == (None if plain.p is None else pytest.approx(plain.p, abs=1e-6))
    backwards = paired(logs(0, False)[::-1], logs(1, False))
    assert backwards.p == (None if plain.p is None else pytest.approx(plain.p, abs=1e-9))
