"""The parts of benchmarks/h200: every cell of each can be planned for an H200."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.h200 import run, table
from benchmarks.h200.run import PARTS, command
from orchestrator.records import Sample
from orchestrator.store.write import commit
from tests.support.cli import ROOT, environment


@pytest.mark.parametrize("name", PARTS)
def test_no_cell_of_a_part_is_skipped_on_one_h200(name: str, tmp_path: Path) -> None:
    questions = tmp_path / "gsm8k.jsonl"
    questions.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    one_gpu = ("hardware=h200", "hardware.gpus_per_node=1", "dry_run=json")
    done = subprocess.run(
        command(name, tmp_path, "", False, one_gpu),
        cwd=ROOT,
        env=environment() | {"GSM8K_FILE": str(questions)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads(done.stdout)
    assert {cell["status"] for cell in plan["cells"]} == {"planned"}
    assert {deployment["gpus"] for deployment in plan["deployments"]} == {1}


def test_without_results_there_is_no_table(tmp_path: Path) -> None:
    assert table.markdown(tmp_path) == "no cell is stored\n"


@pytest.mark.parametrize("gpus", [1, 2])
def test_the_table_tells_how_busy_the_gpus_were(gpus: int, tmp_path: Path) -> None:
    samples = [Sample(t_s=float(t), gpu_util=(share,) * gpus) for t, share in enumerate((0.5, 0.7))]
    row = {"status": "done", "model": "m", "load": "closed", "concurrency": 1, "opt": ["none"]}
    row |= {"attempts": 1, "flags": [], "gpus": gpus, "provenance": "{}", "engine_args": "{}"}
    commit(tmp_path / "study", "a", row, [], None, samples)
    assert "| 60 % |" in table.markdown(tmp_path)


def test_the_first_part_without_a_good_cell_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "command", lambda *_: ["true"])
    assert not run.run(["a", "b"], tmp_path, {"vllm": "", "sglang": ""}, False, ())
    assert (tmp_path / "a.log").exists()
    assert not (tmp_path / "b.log").exists()
