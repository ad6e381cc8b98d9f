"""The parts of benchmarks/h200: every cell of each can be planned for an H200."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.h200 import run, switches, table
from benchmarks.h200.run import PARTS, command
from orchestrator.records import Sample
from orchestrator.store.ledger import Reservation, record
from orchestrator.store.write import commit
from tests.support import timelines
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


def store(study: Path, opt: str, began: datetime, *, last_token_s: float, ready_s: float) -> None:
    """One cell of deployment ``opt``, whose engine was ready ``ready_s`` before it began."""
    ready = (began - timedelta(seconds=ready_s)).isoformat()
    about = {"engine_ready_at": ready, "prepared": opt == "b", "warmup_window_s": [0.25, 1.0]}
    row: dict[str, Any] = {
        "study": "s",
        "status": "done",
        "model": "m",
        "engine": "vllm",
        "opt": [opt],
        "attempts": 1,
    }
    row |= {"flags": [], "gpus": 1, "provenance": json.dumps(about), "engine_args": "{}"}
    row |= {"deployment_id": opt, "started_at": began}
    records = [timelines.record(0.0, [(last_token_s - number, 1, 0)]) for number in range(2)]
    commit(study, f"{opt}-{began:%S}", row, records, None, [])


def test_a_switch_is_what_lay_between_two_deployments(tmp_path: Path) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for opt, at_s, ready_s in (("a", 0, 0.0), ("a", 20, 20.0), ("b", 50, 0.5), ("c", 58, 0.5)):
        store(tmp_path / "s", opt, noon + timedelta(seconds=at_s), last_token_s=5.0, ready_s=ready_s)
    held = Reservation(noon, 70.0, 1.0, 1.0, ("node",), ("a", "b", "c"), False)
    record(tmp_path / "s", held)
    first, second = switches.switches(tmp_path / "s")
    assert (first.before, first.after, first.prepared) == ("m vllm a", "m vllm b", True)
    assert (first.ready_s, first.request_s) == pytest.approx((24.5, 25.25))
    assert (second.ready_s, second.request_s) == pytest.approx((2.5, 3.25))
    assert not second.prepared
    assert switches.markdown(tmp_path).splitlines()[2] == "| s | m vllm a | m vllm b | yes | 24.5 | 25.2 |"

    record(tmp_path / "s", replace(held, deployments=("b",)))  # a second engine helped the second one
    assert not list(switches.switches(tmp_path / "s"))
