"""A plan run on a Ray of its own, with services out of reach."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cluster.kept import Kept
from orchestrator.cluster.run import run_plan
from orchestrator.plan.plan import Job, make_plan
from orchestrator.store.read import read_cells
from tests.support.compose import config_of

NOBODY = "http://127.0.0.1:9"


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_hub_and_weights_and_biases_out_of_reach_cost_what_needs_them_and_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "WANDB_BASE_URL": NOBODY,
        "WANDB_API_KEY": "0" * 40,
        "HF_HUB_OFFLINE": "1",  # as a hub that nothing answers for, without its half minute of retries
        "HF_HOME": str(tmp_path / "hf"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("orchestrator.track.wandb_run.INIT_S", 1.0)
    fixed = ("engine=simulated", "hardware=h200", "limit=4", "max_tokens=16", "++engine.args.speed=100")
    where = ("tracker=wandb", "tracker.mode=online", "ray.dashboard=false", f"results_dir={tmp_path}")
    swept = [(f"dataset={name}",) for name in ("gsm8k", "arithmetic")]
    plan = make_plan([Job(one, config_of(*fixed, *where, *one)) for one in swept])
    plan.study_dir.mkdir()
    said = io.StringIO()
    with closing(Kept()) as kept:
        run_plan(plan, Console(file=said, width=400), kept)
    found = {row["dataset"]: row for row in read_cells(plan.study_dir).to_pylist()}
    assert {name: row["status"] for name, row in found.items()} == {"gsm8k": "failed", "arithmetic": "done"}
    assert "the hub cannot be reached" in found["gsm8k"]["reason"]
    assert "Weights & Biases: 2 cells not logged" in said.getvalue()
