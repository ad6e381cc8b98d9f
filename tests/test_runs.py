"""``runs=N``: a cell measured N times, from the configuration to the summary and a search's objective."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from orchestrator.cell import Cell
from orchestrator.cluster.queues import DeploymentQueue
from orchestrator.cluster.run_context import RunContext
from orchestrator.cluster.runner import _measure
from orchestrator.cluster.slot import Slot
from orchestrator.measure.context import CellOutcome
from orchestrator.measure.row import cell_row
from orchestrator.plan.plan import Job, Plan, PlannedCell, make_plan
from orchestrator.progress.board import Board
from orchestrator.progress.plan_table import show
from orchestrator.progress.results_table import print_summary
from orchestrator.search.source import GridSource
from orchestrator.store.read import read_cells
from orchestrator.store.write import commit
from orchestrator.study import _objectives, run
from tests.cluster.plans import SilentBoard
from tests.support.cli import sweep
from tests.support.compose import config_of

COMMON = ("engine=simulated", "hardware=h200", "model=r1-7b", "limit=4", "tracker=none")


def plan_of(folder: Path, *jobs: str) -> Plan:
    """Each job is its overrides, separated by spaces."""
    common = (*COMMON, f"results_dir={folder}")
    return make_plan([Job(tuple(job.split()), config_of(*common, *job.split())) for job in jobs])


def store(folder: Path, planned: PlannedCell, status: str = "done", **metrics: float) -> None:
    row = cell_row(
        planned.cell, study="default", status=status, attempts=1, gpus=1, nodes=1, items=4, metrics=metrics
    )
    commit(folder / "default", planned.cell.cell_id, row, (), (), ())


def order(plan: Plan) -> list[tuple[str, int]]:
    (deployment,) = plan.deployments
    return [(" ".join(cell.overrides).replace("runs=", ""), cell.run) for cell in deployment.cells]


def test_a_job_becomes_as_many_cells_of_which_the_first_is_the_one_without_runs(tmp_path: Path) -> None:
    (alone,) = plan_of(tmp_path, "").cells
    plan = plan_of(tmp_path, "runs=3")
    cells = [one.cell for one in plan.cells]
    assert [cell.run for cell in cells] == [1, 2, 3]
    assert cells[0].cell_id == alone.cell.cell_id
    assert len({cell.cell_id for cell in cells}) == 3
    assert {cell.run_of for cell in cells} == {alone.cell.cell_id}
    assert len({cell.deployment_id for cell in cells}) == 1
    assert [plan.label(cell) for cell in cells] == [f"SIMULATED r1-7b run={run}" for run in (1, 2, 3)]
    assert plan_of(tmp_path, "").label(alone.cell) == "SIMULATED r1-7b"


def test_all_first_runs_come_before_any_second_one(tmp_path: Path) -> None:
    jobs = [f"runs=2 max_tokens={tokens} seed={seed}" for tokens in (512, 64) for seed in (0, 1)]
    (deployment,) = plan_of(tmp_path, *jobs).deployments
    found = [(one.run, one.config.seed, one.config.max_tokens) for one in deployment.cells]
    assert found == [(run, seed, tokens) for run in (1, 2) for seed in (0, 1) for tokens in (64, 512)]


def test_more_runs_measure_only_those_that_are_missing(tmp_path: Path) -> None:
    (first,) = plan_of(tmp_path, "").cells
    store(tmp_path, first, output_token_per_s=1.0)
    plan = plan_of(tmp_path, "runs=3")
    assert [one.status for one in plan.cells] == ["done", "planned", "planned"]
    assert [cell.run for cell in plan.deployments[0].cells] == [2, 3]
    assert [one.status for one in plan_of(tmp_path, "").cells] == ["done"], "and fewer need none"


def test_swept_numbers_of_runs_share_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "runs=1", "runs=2")
    assert [(one.status, one.job) for one in plan.cells] == [("planned", 0), ("skipped", 1), ("planned", 1)]


def test_what_cannot_work_is_said_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "runs=3 model=r1-70b max_tokens=300000")
    assert [one.status for one in plan.cells] == ["skipped"]


def test_the_plan_shows_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "runs=3 max_tokens=64", "runs=3 max_tokens=128")
    said = io.StringIO()
    show(plan, Console(file=said, width=160))
    assert "runs=3: 2 measurements, each made 3 times" in said.getvalue()
    assert "6 cells to run on 1 deployments" in said.getvalue()
    assert [one["run"] for one in plan.to_json()["cells"]] == [1, 2, 3] * 2
    assert not any("runs" in note for note in plan_of(tmp_path, "max_tokens=64").notes)


def test_an_objective_is_the_mean_of_the_runs_that_count(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "runs=3 max_tokens=64", "runs=3 max_tokens=128", "max_tokens=256")
    rates = [10.0, 20.0, 60.0, 5.0, 7.0, 1000.0]
    for number, (planned, rate) in enumerate(zip(plan.cells, rates, strict=False)):
        store(tmp_path, planned, "invalid" if number == 5 else "done", output_token_per_s=rate)
    rows = {row["cell_id"]: row for row in read_cells(plan.study_dir).to_pylist()}
    assert _objectives(plan, rows, "output_token_per_s") == (30.0, 6.0, None)


def test_a_dry_run_answers_a_sweeper_with_one_value_a_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.cluster.kept import Kept

    config = config_of(*COMMON, f"results_dir={tmp_path}", "runs=3", "dry_run=json")
    assert run([Job(("runs=3",), config)] * 1, Kept()).objectives == (None,)
    assert capsys.readouterr().out.count('"run"') == 3


def test_the_results_are_one_row_with_the_mean_and_its_interval(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "runs=3 max_tokens=64", "runs=3 max_tokens=128")
    rates = [90.0, 100.0, 110.0, 50.0, 52.0, 900.0]
    for number, (planned, rate) in enumerate(zip(plan.cells, rates, strict=True)):
        figures = {"output_token_per_s": rate, "accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75}
        store(tmp_path, planned, "invalid" if number == 5 else "done", ttft_s_p50=rate / 1000, **figures)
    rows = {row["cell_id"]: row for row in read_cells(plan.study_dir).to_pylist()}
    said = io.StringIO()
    print_summary(plan, rows, Console(file=said, width=250))
    lines = said.getvalue().splitlines()
    (one,) = [line for line in lines if line.startswith("64 ")]
    (other,) = [line for line in lines if line.startswith("128 ")]
    assert "100.0 ± 24.8" in one, "4.303 · 10 / √3"
    assert "100.0 ± 24.8 ms" in one
    assert "50.0 % [25.0, 75.0]" in one
    assert "51.0 ± 12.7" in other, "the invalid one does not count: 12.706 · √2 / √2"
    assert ("2 done" in other, "1 invalid" in other) == (True, True)
    assert [line for line in lines if line.startswith("invalid  ") and "run=3" in line]


def test_a_study_without_runs_has_no_column_for_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "max_tokens=64")
    store(tmp_path, plan.cells[0], output_token_per_s=5.0)
    rows = {row["cell_id"]: row for row in read_cells(plan.study_dir).to_pylist()}
    said = io.StringIO()
    print_summary(plan, rows, Console(file=said, width=250))
    (header,) = [line for line in said.getvalue().splitlines() if "tokens/s" in line]
    assert "runs" not in header
    assert "±" not in said.getvalue()
    assert rows[plan.cells[0].cell.cell_id]["run"] == 1


def test_several_engines_take_turns_with_the_runs_of_a_cell(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *(f"runs=2 max_tokens={tokens}" for tokens in (64, 128, 256, 512)))
    source = GridSource(plan.deployments[0].cells)
    engines = "first", "second"
    had: dict[str, list[str]] = {}
    # Both measure at one pace, in the same turn: without a choice each would have its own cells again.
    for turn in range(8):
        cell = source.next(engines[turn % 2])
        assert cell is not None
        had.setdefault(cell.run_of, []).append(engines[turn % 2])
    assert source.next("first") is None
    assert {tuple(sorted(one)) for one in had.values()} == {engines}


def test_engines_that_serve_at_once_take_turns_too(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *(f"runs=2 max_tokens={tokens}" for tokens in (64, 128, 256, 512)))
    work = DeploymentQueue(plan.deployments[0], GridSource(plan.deployments[0].cells))
    context = RunContext(plan, cast(Board, SilentBoard()), None)
    had: dict[str, set[str]] = {}

    class Engine:
        def __init__(self, name: str) -> None:
            self.name, self.serving, self.until_s = name, None, None

        async def call(self, method: str, cell: Cell, attempt: object, *, timeout_s: float) -> CellOutcome:
            had.setdefault(cell.run_of, set()).add(self.name)
            await asyncio.sleep(0)
            return CellOutcome(cell.cell_id, "done", None, (), 0, None, None, engine_alive=True)

    async def both() -> None:
        slots = [cast(Slot, Engine(name)) for name in ("first", "second")]
        await asyncio.gather(*(_measure(work, slot, context, lambda: None) for slot in slots))

    asyncio.run(both())
    assert list(had.values()) == [{"first", "second"}] * 4


def test_one_engine_takes_the_runs_in_the_plans_order(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *(f"runs=3 max_tokens={tokens}" for tokens in (64, 128)))
    source = GridSource(plan.deployments[0].cells)
    assert [source.next("only") for _ in range(7)] == [*plan.deployments[0].cells, None]


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_a_sweep_measures_each_run_and_goes_on_with_more(tmp_path: Path) -> None:
    arguments = (*COMMON, f"results_dir={tmp_path}", "engine.args.speed=100", "max_tokens=32")
    done = sweep(*arguments, "load=poisson", "load.rate=20", "runs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 cells to run on 1 deployments" in done.stdout
    more = sweep(*arguments, "load=poisson", "load.rate=20", "runs=3")
    assert more.returncode == 0, more.stdout + more.stderr
    assert "1 cells to run on 1 deployments, 2 already done" in more.stdout
    rows = read_cells(tmp_path / "default").to_pylist()
    assert sorted(row["run"] for row in rows) == [1, 2, 3]
    assert len({row["run_of"] for row in rows}) == 1
    assert "±" in more.stdout
