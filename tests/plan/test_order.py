"""How a plan orders and names its cells and deployments, and what stored cells teach its estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cell import Cell
from orchestrator.measure.row import cell_row
from orchestrator.plan.plan import Job, Plan, make_plan
from orchestrator.store.write import commit
from tests.support.compose import config_of


def plan_of(folder: Path, *jobs: str) -> Plan:
    """Each job is its overrides, separated by spaces, of a simulated engine on an H200."""
    common = ("engine=simulated", "hardware=h200", f"results_dir={folder}", "tracker=none")
    return make_plan([Job(tuple(job.split()), config_of(*common, *job.split())) for job in jobs])


def order(plan: Plan, *keys: str) -> list[tuple[str, ...]]:
    (deployment,) = plan.deployments
    pairs = [dict(one.split("=") for one in cell.overrides) for cell in deployment.cells]
    return [tuple(own[key] for key in keys) for own in pairs]


def store(folder: Path, cell: Cell, duration_s: float, start_s: float) -> None:
    row = cell_row(
        cell,
        study="default",
        status="done",
        attempts=1,
        duration_s=duration_s,
        deployment_start_s=start_s,
        engine_version="1",
        gpus=1,
        nodes=1,
        items=1,
    )
    commit(folder / "default", cell.cell_id, row, (), (), ())


def test_every_point_comes_once_the_cheapest_first_before_any_is_repeated(tmp_path: Path) -> None:
    jobs = [
        f"model=r1-7b limit=32 max_tokens={tokens} seed={seed}" for tokens in (512, 64) for seed in (0, 1, 2)
    ]
    assert order(plan_of(tmp_path, *jobs), "max_tokens", "seed") == [
        ("64", "0"),
        ("512", "0"),
        ("64", "1"),
        ("512", "1"),
        ("64", "2"),
        ("512", "2"),
    ]


def test_deployments_come_longest_first(tmp_path: Path) -> None:
    jobs = [f"model={model} limit=32 max_tokens=512" for model in ("r1-7b", "r1-32b")]
    plan = plan_of(tmp_path, *jobs)
    assert [one.config.model.name for one in plan.deployments] == ["r1-32b", "r1-7b"]


def test_estimates_are_corrected_by_what_stored_cells_of_the_study_took(tmp_path: Path) -> None:
    jobs = [f"model=r1-7b limit=32 max_tokens={tokens}" for tokens in (64, 128, 256, 512)]
    before = plan_of(tmp_path, *jobs)
    for planned in before.cells[:3]:
        assert planned.estimated_s is not None
        store(tmp_path, planned.cell, 4 * planned.estimated_s, start_s=20.0)
    (left,) = plan_of(tmp_path, *jobs).deployments
    last = before.cells[3].estimated_s
    assert last is not None
    assert left.estimated_s == pytest.approx(20.0 + 4 * last)


def test_deployments_that_look_alike_are_told_apart_in_the_users_words(tmp_path: Path) -> None:
    swept = [f"tensor_parallel_size={size} seed={seed}" for size in (1, 2) for seed in (1, 2)]
    labels = {one.label for one in plan_of(tmp_path, *swept, "opt=fp8 seed=1").deployments}
    assert labels == {
        "smollm2-135m/SIMULATED/none tensor_parallel_size=1",
        "smollm2-135m/SIMULATED/none tensor_parallel_size=2",
        "smollm2-135m/SIMULATED/fp8",
    }
