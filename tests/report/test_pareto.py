"""A frontier without dominated points, per GPU, and without what was not measured."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from orchestrator.report.pareto import frontier, pareto_points
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
