"""Dry runs: the plan that the command prints, as JSON and for people, and what it takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import sweep

pytestmark = pytest.mark.slow


def plan_of(*arguments: str, results: Path) -> dict[str, Any]:
    done = sweep("-m", "dry_run=json", f"results_dir={results}", *arguments)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    plan: dict[str, Any] = json.loads(line)
    return plan


def cpu_s() -> float:
    """Of the processes that this one has waited for: what else the machine does is not in it."""
    times = os.times()
    return times.children_user + times.children_system


def test_the_plan_shares_an_engine_between_cells_that_differ_only_in_the_request(tmp_path: Path) -> None:
    plan = plan_of("hardware=cpu", "opt=none,prefix-cache", "max_tokens=64,128", results=tmp_path)
    assert plan["totals"]["cells"] == 4
    assert plan["totals"]["deployments"] == 2
    assert len({cell["cell_id"] for cell in plan["cells"]}) == 4
    assert {one["opt"][0] for one in plan["deployments"]} == {"none", "prefix-cache"}
    assert all(one["cells"] == 2 and one["gpus"] == 0 for one in plan["deployments"])
    assert all(cell["status"] == "planned" for cell in plan["cells"])


@pytest.mark.alone
def test_a_dry_run_of_a_small_sweep_takes_under_2_seconds_of_cpu_and_writes_nothing(tmp_path: Path) -> None:
    plan_of(
        "opt=none,prefix-cache", "max_tokens=64,128", results=tmp_path
    )  # compiles what Python has not yet
    began_s = cpu_s()
    plan_of("opt=none,prefix-cache", "max_tokens=64,128", results=tmp_path)
    assert cpu_s() - began_s < 2.0
    assert list(tmp_path.iterdir()) == []


def test_a_plan_for_a_cluster_needs_no_gpu_here(tmp_path: Path) -> None:
    plan = plan_of(
        "model=r1-7b,r1-70b", "opt=fp8,awq", "hardware=h200", "load.concurrency=64", results=tmp_path
    )
    assert plan["totals"]["cells"] == 4
    sizes = {(one["model"], *one["opt"]): one["tensor_parallel_size"] for one in plan["deployments"]}
    assert sizes["r1-7b", "fp8"] == 1
    assert sizes["r1-70b", "fp8"] == 1
    weights = {(one["model"], *one["opt"]): one["weights_gib"] for one in plan["deployments"]}
    assert 60 < weights["r1-70b", "fp8"] < 80
    assert 30 < weights["r1-70b", "awq"] < 50
    for one in plan["deployments"]:
        assert "--tensor-parallel-size" in one["command"]


def test_a_pair_that_cannot_work_is_skipped_with_its_reason(tmp_path: Path) -> None:
    plan = plan_of("opt=none,[fp8,awq]", "hardware=h200", "model=r1-7b", results=tmp_path)
    skipped = [cell for cell in plan["cells"] if cell["status"] == "skipped"]
    assert len(skipped) == 1
    assert "excludes" in skipped[0]["reason"]


def test_both_spellings_of_a_single_optimization_are_the_same_cell(tmp_path: Path) -> None:
    plan = plan_of("opt=prefix-cache,[prefix-cache]", results=tmp_path)
    assert [cell["status"] for cell in plan["cells"]] == ["planned", "skipped"]
    assert "the same measurement" in plan["cells"][1]["reason"]


def test_the_users_own_engine_flags_are_part_of_the_deployment(tmp_path: Path) -> None:
    plan = plan_of("engine.args.max-num-seqs=4,8", results=tmp_path)
    assert plan["totals"]["deployments"] == 2
    assert {
        " ".join(one["command"]).partition("--max-num-seqs ")[2].split()[0] for one in plan["deployments"]
    } == {
        "4",
        "8",
    }


def test_a_person_reads_the_same_plan(tmp_path: Path) -> None:
    done = sweep("-m", "dry_run=true", f"results_dir={tmp_path}", "opt=none,prefix-cache")
    assert done.returncode == 0
    assert "2 cells to run on 2 deployments" in done.stdout


@pytest.mark.alone
def test_a_thousand_cells_are_planned_in_seconds(tmp_path: Path) -> None:
    began_s = cpu_s()
    plan = plan_of(
        "model=r1-1.5b,r1-7b,r1-14b,r1-32b,r1-70b",
        "opt=none,fp8,[fp8,kv-fp8],prefix-cache",
        "dataset=gsm8k,math500",
        "load.concurrency=1,4,16,64,256",
        "max_tokens=512,1024,2048,3072,3500",
        "hardware=h200",
        results=tmp_path,
    )
    assert plan["totals"]["cells"] == 1000
    assert plan["totals"]["deployments"] >= 20
    assert cpu_s() - began_s < 30.0  # of CPU; Hydra alone composes them in some 150


@pytest.mark.parametrize("study", ["demo", "pilot", "budget"])
def test_what_is_stored_of_a_studys_cell_plans_that_cell_again(study: str, tmp_path: Path) -> None:
    scale = ["scale=tiny"] if study == "budget" else []
    asked = ("hardware=h200", "engine.version=0.32.0")
    planned = plan_of(f"+study={study}", *scale, *asked, results=tmp_path)["cells"]
    first = planned[0]
    again = sweep("dry_run=json", f"results_dir={tmp_path}", *first["overrides"])
    assert again.returncode == 0, again.stderr
    (cell,) = {one["cell_id"] for one in json.loads(again.stdout)["cells"]}
    assert cell == first["cell_id"]


def test_a_study_of_thinking_budgets_is_one_engines_at_either_scale(tmp_path: Path) -> None:
    asked = ("+study=budget", "engine.version=0.32.0")
    tiny = plan_of(*asked, "scale=tiny", "hardware=cpu", results=tmp_path)
    full = plan_of(*asked, "hardware=h200", results=tmp_path)
    for plan, model in ((tiny, "smollm2-135m-think"), (full, "r1-7b")):
        assert [one["model"] for one in plan["deployments"]] == [model]
        assert {cell["status"] for cell in plan["cells"]} == {"planned"}
        found = [dict(one.split("=", 1) for one in cell["overrides"]) for cell in plan["cells"]]
        budgets = {(one["max_tokens"], one["thinking_budget"]) for one in found}
        largest = max(int(tokens) for tokens, _ in budgets)
        assert len({thinking for tokens, thinking in budgets if int(tokens) == largest}) >= 4
        assert len({tokens for tokens, thinking in budgets if thinking == "off"}) >= 2
        assert len(budgets) == plan["totals"]["cells"] <= 12


def test_what_is_typed_goes_before_what_a_study_sweeps_over(tmp_path: Path) -> None:
    asked = ("+study=budget", "scale=tiny", "hardware=cpu", "engine.version=0.32.0")
    plan = plan_of(*asked, "thinking_budget=off,16", "max_tokens=64", results=tmp_path)
    assert plan["totals"]["cells"] == 2
