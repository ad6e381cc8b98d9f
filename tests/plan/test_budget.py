from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.paths import conf_dir
from orchestrator.plan.plan import Job, Plan, make_plan
from tests.support.compose import config_of

BASE = ("hardware=h200", "engine=vllm")


def planned(tmp_path: Path, *jobs: str) -> Plan:
    where = (*BASE, f"results_dir={tmp_path}")
    return make_plan([Job(tuple(job.split()), config_of(*where, *job.split())) for job in jobs])


def test_the_pilot_study_is_whole_on_both_sides(tmp_path: Path) -> None:
    models, budgets = ("r1-7b", "qwen2.5-math-7b"), (2048, 8192)
    assert f"max_tokens: {','.join(map(str, budgets))}" in (conf_dir() / "study" / "pilot.yaml").read_text()
    jobs = [f"+study=pilot model={model} max_tokens={budget}" for model in models for budget in budgets]
    plan = planned(tmp_path, *jobs)
    assert [one.status for one in plan.cells] == ["planned"] * 4
    assert [one.cell.config.max_tokens for one in plan.cells] == [2048, 8192, 2048, 3072]
    said = "max_tokens=8192 is 3072 for model=qwen2.5-math-7b: its context of 4096 less 1024 for a prompt"
    assert said in plan.notes


def test_a_budget_is_lowered_only_where_it_is_asked_for(tmp_path: Path) -> None:
    plan = planned(tmp_path, "model=qwen2.5-math-7b max_tokens=8192")
    assert plan.cells[0].status == "skipped"
    assert "leaves no room for a prompt" in str(plan.cells[0].reason)


@pytest.mark.parametrize(
    ("more", "most"),
    [
        ("", 3072),
        ("dataset.shots=1 dataset=gsm8k", 2048),
        ("dataset=random dataset.prompt_tokens=2000", 2096),
    ],
)
def test_longer_prompts_leave_less(tmp_path: Path, more: str, most: int) -> None:
    plan = planned(tmp_path, f"model=qwen2.5-math-7b max_tokens=8192 max_tokens_fit=true {more}")
    assert plan.cells[0].cell.config.max_tokens == most


def test_what_a_cell_is_named_by_is_the_budget_that_follows(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "model=qwen2.5-math-7b max_tokens=3072",
        "model=qwen2.5-math-7b max_tokens=8192 max_tokens_fit=true",
    )
    assert len({one.cell.cell_id for one in plan.cells}) == 1
    assert plan.cells[1].status == "skipped"
