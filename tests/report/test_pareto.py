"""A frontier without dominated points, per GPU, and without what was not measured; and what accuracy adds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from orchestrator.report.accuracy import accuracy_rows
from orchestrator.report.pareto import Point, beaten_but_accurate, frontier, pareto_points
from orchestrator.report.variants import sort_out
from tests.report.studies import Planted, runs_of


@pytest.mark.parametrize("seed", range(100))
def test_the_frontier_is_what_nothing_dominates(seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, 10, (seed % 30, 2))  # few values: many ties
    points = [(float(x), float(y)) for x, y in drawn]
    kept = frontier(points)
    for point, on in zip(points, kept, strict=True):
        beaten = any(x >= point[0] and y >= point[1] and (x, y) != point for x, y in points)
        assert on == (not beaten)
    steps = sorted(point for point, on in zip(points, kept, strict=True) if on)
    assert all(a[1] >= b[1] for a, b in pairwise(steps))  # no zig-zag


def test_rates_are_those_of_one_gpu() -> None:
    variants, _ = sort_out(runs_of([Planted(gpus=8, noise=0.0)]))
    (point,) = pareto_points(variants)
    assert point.y.mean == 8 / 0.02 / 8  # eight users, 50 tokens/s each, on eight GPUs
    assert point.x.mean == 50.0


def test_without_a_gpu_it_is_the_machine() -> None:
    (point,) = pareto_points(sort_out(runs_of([Planted(gpus=0, noise=0.0)]))[0])
    assert point.y.mean == 400.0


def test_what_was_not_measured_is_no_point() -> None:
    for column in ("output_token_per_s", "tpot_s_mean"):
        variants, _ = sort_out(runs_of([Planted(), Planted(opt=("fp8",), changes=((column, None),))]))
        assert [point.variant.facts["opt"] for point in pareto_points(variants)] == ["none"]


def test_each_model_and_budget_has_a_frontier_of_its_own() -> None:
    variants, _ = sort_out(
        runs_of([Planted(), Planted(model="r1-70b", tpot_s=0.1), Planted(max_tokens=1024, tpot_s=0.1)])
    )
    assert [point.on_frontier for point in pareto_points(variants)] == [True, True, True]


@pytest.mark.parametrize("seed", range(60))
def test_accuracy_keeps_what_nothing_dominates_in_three(seed: int) -> None:
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, 5, (seed % 20, 3)).astype(float)  # few values: many ties
    points = [(x, y, None if generator.random() < 0.1 else z) for x, y, z in drawn.tolist()]
    kept = beaten_but_accurate(points)
    flat = frontier([(x, y) for x, y, _ in points])
    for i, (x, y, z) in enumerate(points):
        as_good = [j for j, one in enumerate(points) if one[0] >= x and one[1] >= y and j != i]
        worse = z is not None and all(
            (other := points[j][2]) is None or other < z or points[j] == points[i] for j in as_good
        )
        assert (i in kept) == (not flat[i] and worse)
        assert i not in kept or kept[i] == [j for j in as_good if points[j][:2] != (x, y)]


SLOW = Planted(opt=("none",), tpot_s=0.02, items=200, accuracy=0.95, runs=1, noise=0.0)
FAST = SLOW.but(opt=("fp8",), tpot_s=0.01, accuracy=0.5)


def by_opt(*planted: Planted) -> dict[str, Point]:
    variants, _ = sort_out(runs_of(planted))
    found = pareto_points(variants, accuracies=accuracy_rows(variants))
    return {point.variant.facts["opt"]: point for point in found}


def test_a_slower_configuration_stays_for_its_accuracy() -> None:
    found = by_opt(SLOW, FAST)
    assert [(found[opt].on_frontier, found[opt].by_accuracy) for opt in ("none", "fp8")] == [
        (False, "more accurate"),
        (True, None),
    ]


def test_it_has_to_be_more_accurate_than_each_that_beats_it() -> None:
    close = SLOW.but(opt=("awq",), tpot_s=0.015, accuracy=0.94)
    found = by_opt(SLOW.but(changes=(("accuracy", 0.95),)), FAST, close.but(changes=(("accuracy", 0.94),)))
    assert found["none"].by_accuracy == "not decided"
    assert found["awq"].by_accuracy == "more accurate"
    assert found["fp8"].by_accuracy is None


def test_a_less_accurate_one_that_is_beaten_is_gone_and_an_accuracy_that_is_absent_is_not_zero() -> None:
    assert by_opt(SLOW.but(accuracy=0.2), FAST)["none"].by_accuracy is None
    ungraded = FAST.but(changes=(("accuracy", None),))
    assert by_opt(SLOW, ungraded)["none"].by_accuracy == "not decided"
    assert by_opt(SLOW.but(changes=(("accuracy", None),)), FAST)["none"].by_accuracy is None


def test_another_models_accuracy_keeps_nothing() -> None:
    variants, _ = sort_out(runs_of([SLOW.but(model="r1-70b"), FAST]))
    found = pareto_points(variants, accuracies=accuracy_rows(variants))
    assert [(point.on_frontier, point.by_accuracy) for point in found] == [(True, None), (True, None)]
