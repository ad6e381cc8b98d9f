"""The parts of benchmarks/h200: every cell of each can be planned for an H200."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.h200 import table
from benchmarks.h200.run import PARTS, command
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
