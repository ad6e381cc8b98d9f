"""One tensor-parallel size per comparison, whatever the load of each of its cells would ask for alone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.plan.plan import Job, Plan, make_plan
from orchestrator.progress.plan_table import show
from tests.plan.test_order import store
from tests.support.compose import config_of

R1_32B = ("model=r1-32b", "hardware=h100", "engine=vllm")


def plan_of(folder: Path, *jobs: tuple[str, ...]) -> Plan:
    where = (f"results_dir={folder}", "tracker=none")
    return make_plan([Job(own, config_of(*own, *where)) for own in jobs])


def at(*overrides: str, concurrency: int = 8) -> tuple[str, ...]:
    return (*R1_32B, "load=closed", f"load.concurrency={concurrency}", *overrides)


def sizes(plan: Plan) -> list[int]:
    return [planned.cell.facts.tensor_parallel_size for planned in plan.cells]


def test_a_sweep_over_concurrency_compares_loads_and_not_machines(tmp_path: Path) -> None:
    swept = [at(concurrency=count) for count in (8, 32, 128, 512)]
    assert [sizes(plan_of(tmp_path, one)) for one in swept] == [[1], [1], [2], [4]], "each alone"
    plan = plan_of(tmp_path, *swept)
    assert sizes(plan) == [4, 4, 4, 4]
    (deployment,) = plan.deployments
    assert deployment.gpus == 4
    command = " ".join(deployment.command)
    assert "--tensor-parallel-size 4" in command
    assert "--distributed-executor-backend mp" in command
    assert deployment.fit.kv_gib == pytest.approx(217.5, abs=0.1)


def test_a_sweep_over_the_token_budget_does_too(tmp_path: Path) -> None:
    swept = [(*R1_32B, "load=batch", "load.batch_size=64", f"max_tokens={count}") for count in (2048, 8192)]
    assert [sizes(plan_of(tmp_path, one)) for one in swept] == [[2], [4]]
    assert sizes(plan_of(tmp_path, *swept)) == [4, 4]


def test_the_plan_says_so_to_a_person_and_in_json(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *(at(concurrency=count) for count in (8, 32, 128, 512)))
    (note,) = plan.to_json()["notes"]
    assert note == (
        "tensor_parallel_size=4 for all 4 cells of r1-32b/vllm/none on h100, the largest need of the study; "
        "alone, 2 would take 1, 1 would take 2, 1 would take 4 (tensor_parallel_size=N forces one)"
    )
    said = io.StringIO()
    show(plan, Console(file=said, width=240))
    assert f"note  {note}" in said.getvalue()
    assert plan_of(tmp_path, at(concurrency=8), at(concurrency=32)).notes == ()


def test_a_forced_size_stays_and_forces_no_other(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, at(concurrency=8), at("tensor_parallel_size=8"), at(concurrency=128))
    assert sizes(plan) == [2, 8, 2]
    forced = plan_of(tmp_path, at("tensor_parallel_size=1"), at(concurrency=512))
    assert sizes(forced) == [1, 4]


def test_each_model_engine_optimization_and_hardware_is_a_comparison_of_its_own(tmp_path: Path) -> None:
    small = at(concurrency=8)
    others = [
        ("model=r1-7b", *small[1:]),
        ("model=r1-32b", "hardware=h200", *small[2:]),
        at("opt=fp8"),
        ("model=r1-32b", "hardware=h100", "engine=simulated", *small[3:]),
    ]
    plan = plan_of(tmp_path, at(concurrency=512), small, *others)
    assert sizes(plan) == [4, 4, 1, 1, 1, 1]


def test_what_cannot_run_raises_nobodys_size(tmp_path: Path) -> None:
    """A cell without room for a prompt, and one that fits nowhere."""
    plan = plan_of(tmp_path, at(concurrency=8), at("max_tokens=40000", concurrency=128))
    assert [planned.status for planned in plan.cells] == ["planned", "skipped"]
    assert sizes(plan)[0] == 1
    assert plan.notes == ()


def test_a_server_that_runs_already_and_a_cpu_keep_theirs(tmp_path: Path) -> None:
    external = ("engine=external", "engine.base_url=http://127.0.0.1:1", "hardware=h100", "model=r1-32b")
    loads = [("load=closed", f"load.concurrency={count}") for count in (8, 512)]
    assert sizes(plan_of(tmp_path, *((*external, *load) for load in loads))) == [1, 1]
    cpu = ("engine=simulated", "hardware=cpu")
    assert sizes(plan_of(tmp_path, *((*cpu, *load) for load in loads))) == [1, 1]


def test_a_simulated_engine_is_told_of_the_size_that_it_runs_on(tmp_path: Path) -> None:
    simulated = ("model=r1-32b", "hardware=h100", "engine=simulated", "load=closed")
    jobs = [(*simulated, f"load.concurrency={count}") for count in (8, 512)]
    plan = plan_of(tmp_path, *jobs)
    (deployment,) = plan.deployments
    flags = dict(zip(deployment.command[:-1], deployment.command[1:], strict=True))
    assert flags["--tensor-parallel-size"] == "4"
    assert float(flags["--kv-gib"]) == pytest.approx(217.5, abs=0.1)


def test_cells_that_an_earlier_smaller_study_measured_with_another_size_are_named(tmp_path: Path) -> None:
    small = [at(concurrency=8), at(concurrency=32)]
    for planned in plan_of(tmp_path, *small).cells:
        store(tmp_path, planned.cell, duration_s=10.0, start_s=20.0)
    again = plan_of(tmp_path, *small)
    assert [planned.status for planned in again.cells] == ["done", "done"]
    assert again.notes == ()
    grown = plan_of(tmp_path, *small, at(concurrency=512))
    assert [planned.status for planned in grown.cells] == ["planned"] * 3
    assert sizes(grown) == [4, 4, 4]
    assert grown.notes[1:] == (
        "2 cells are done with tensor_parallel_size=1 from an earlier sweep of this study; "
        "with 4 they are measured anew",
    )
    kept = plan_of(tmp_path, *((*one, "tensor_parallel_size=1") for one in small), at(concurrency=512))
    assert [planned.status for planned in kept.cells] == ["done", "done", "planned"]


def test_a_study_that_shrinks_says_so_too(tmp_path: Path) -> None:
    whole = plan_of(tmp_path, at(concurrency=8), at(concurrency=512))
    for planned in whole.cells:
        store(tmp_path, planned.cell, duration_s=10.0, start_s=20.0)
    shrunk = plan_of(tmp_path, at(concurrency=8))
    assert sizes(shrunk) == [1]
    assert shrunk.notes == (
        "1 cell is done with tensor_parallel_size=4 from an earlier sweep of this study; "
        "with 1 it is measured anew",
    )
