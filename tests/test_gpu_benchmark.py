"""The parts of benchmarks/gpu: every cell of each can be planned, and what they come to is counted right."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import gantt, logs, outcome, run, seen, switches, table, timeline
from benchmarks.gpu.parts import PARTS, SWEEP, command
from benchmarks.gpu.watch import Engine, wrong
from orchestrator.records import Sample
from orchestrator.store.ledger import Reservation, record
from orchestrator.store.read import read_cells
from orchestrator.store.write import commit
from tests.support import timelines
from tests.support.cli import ROOT, environment

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def plan_of(name: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    questions = tmp_path / "gsm8k.jsonl"
    questions.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    done = subprocess.run(
        command(name, tmp_path, "", "gpus", (*more, "dry_run=json")),
        cwd=ROOT,
        env=environment() | {"GSM8K_FILE": str(questions)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name, part in PARTS.items() if part.module == SWEEP and part.gpus == 1]
)
def test_no_cell_of_a_part_is_skipped_on_one_h200(name: str, tmp_path: Path) -> None:
    plan = plan_of(name, tmp_path, "hardware=h200", "hardware.gpus_per_node=1")
    assert {cell["status"] for cell in plan["cells"]} == {"planned"}
    assert {deployment["gpus"] for deployment in plan["deployments"]} == {1}


@pytest.mark.slow
def test_on_two_h100s_each_model_is_planned_on_what_holds_it(tmp_path: Path) -> None:
    plan = plan_of("m", tmp_path, "hardware=h100", "hardware.gpus_per_node=2")
    sizes: dict[tuple[str, str], set[int]] = {}
    for one in plan["deployments"]:
        sizes.setdefault((one["model"], one["opt"][0]), set()).add(one["gpus"])
    assert sizes == {
        ("r1-7b", "none"): {1, 2},
        ("r1-7b", "fp8"): {1, 2},
        ("r1-32b", "none"): {1, 2},
        ("r1-32b", "fp8"): {1, 2},
        ("r1-70b", "none"): {2},
        ("r1-70b", "fp8"): {2},
    }
    reasons = [cell["reason"] for cell in plan["cells"] if cell["status"] == "skipped"]
    assert "the same measurement as model=r1-7b opt=none tensor_parallel_size=auto" in reasons
    assert any("does not fit: weights 131.4 GiB" in reason for reason in reasons)
    one_gpu = plan_of("a", tmp_path, "hardware=h100", "hardware.gpus_per_node=2")
    shared = {one["cell_id"] for one in one_gpu["cells"]} & {one["cell_id"] for one in plan["cells"]}
    assert len(shared) == 2  # what part a has measured of a 7B model on one GPU


def test_without_results_there_is_no_table(tmp_path: Path) -> None:
    assert table.markdown(tmp_path) == "no cell is stored\n"


def test_the_table_tells_how_busy_gpus_and_engine_were(tmp_path: Path) -> None:
    row = {"status": "done", "model": "m", "load": "closed", "concurrency": 1, "opt": ["none"]}
    row |= {"attempts": 1, "flags": [], "gpus": 1, "provenance": "{}", "engine_args": "{}"}
    row |= {"gpu_util_mean": 0.6, "engine_cpu_busiest_mean": 0.97, "engine_cpus_mean": 2.25}
    commit(tmp_path / "study", "a", row, [], None, [])
    assert "| 60 % | 97 % | 2.2 |" in table.markdown(tmp_path)


def test_the_table_tells_what_a_row_did_not_yet_have_a_column_for(tmp_path: Path) -> None:
    about = json.dumps({"engine_cpu_s": {"server": 2.25, "core": 1.5, "tracker": 0.1}})
    row = {
        "status": "done",
        "model": "m",
        "load": "closed",
        "concurrency": 1,
        "opt": ["none"],
        "cell_id": "a",
    }
    row |= {"attempts": 1, "flags": [], "gpus": 2, "provenance": about, "engine_args": "{}", "window_s": 2.0}
    starved = Sample(1.0, running=1.0, engine_cpu_busiest=1.0, gpu_util=(0.0, 0.0))
    samples = [starved, replace(starved, t_s=2.0, gpu_util=(0.0, 1.0)), replace(starved, t_s=9.0)]
    commit(tmp_path / "study", "a", row, [timelines.record(0.5, [(2.5, 1, 0)])], None, samples)
    assert "| 50 % | core 1.5, server 2.2 |" in table.markdown(tmp_path)


def test_the_first_group_of_which_nothing_came_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = 'import os; print(os.environ["CUDA_VISIBLE_DEVICES"])'
    programs = {"a": said, "b": f"{said}; raise SystemExit(1)", "c": "raise SystemExit(1)", "f": said}
    monkeypatch.setattr(run, "command", lambda name, *_: [sys.executable, "-c", programs[name]])
    groups = [["a", "b"], ["c"], ["f"]]
    assert not run.run(groups, tmp_path, {"vllm": "", "sglang": ""}, "cpu")
    assert [(tmp_path / f"{name}.log").read_text() for name in "ab"] == ["0\n", "1\n"]
    assert (tmp_path / "c.log").exists()
    assert not (tmp_path / "f.log").exists()


def test_a_part_ends_as_by_ctrl_c_when_its_time_is_over_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = """import signal, time
signal.signal(signal.SIGINT, lambda *_: exit("interrupted"))
time.sleep(60)"""
    monkeypatch.setattr(run, "command", lambda *_: [sys.executable, "-c", patient])
    assert not run.run([["a", "b"]], tmp_path, {"vllm": "", "sglang": ""}, "cpu", most={"a": 1, "b": 1})
    assert [(tmp_path / f"{name}.log").read_text() for name in "ab"] == ["interrupted\n"] * 2


def engine(pid: int, *given: int) -> Engine:
    return Engine(pid, worker=1, label=f"engine {pid}", given=frozenset(given))


def test_two_engines_on_a_gpu_and_one_on_a_gpu_of_others_are_seen() -> None:
    assert wrong({0: [engine(7, 0)], 1: [engine(8, 1)]}) == []
    assert wrong({0: [engine(7, 0, 1)], 1: [engine(7, 0, 1)]}) == []
    assert wrong({0: [engine(7, 0), engine(8, 0)]}) == ["GPU 0 is shared: engine 7, engine 8"]
    assert wrong({0: [engine(7, 1)]}) == ["GPU 0 was not given to engine 7, which has [1]"]


def measured(
    study: Path, deployment: str, gpus: int, *, start_s: float, cells_s: float, rate: float, at_s: float
) -> None:
    """One cell, which began ``at_s`` after noon."""
    row: dict[str, Any] = {
        "study": "s",
        "status": "done",
        "model": "m",
        "opt": [deployment.split("-")[0]],
        "load": "closed",
        "concurrency": 8,
        "attempts": 1,
        "flags": [],
        "gpus": gpus,
        "tensor_parallel_size": gpus,
        "provenance": "{}",
        "engine_args": "{}",
    }
    row |= {"deployment_id": deployment, "deployment_start_s": start_s, "duration_s": cells_s}
    row |= {"started_at": NOON + timedelta(seconds=at_s)}
    row |= {"output_token_per_s": rate, "ttft_s_p50": 0.1, "tpot_s_p50": 0.01}
    commit(study, deployment, row, [], None, [])


def test_the_schedule_is_held_against_its_bound_and_each_size_against_one_gpu(tmp_path: Path) -> None:
    """Two deployments of one GPU side by side (40 and 20 s), then one of two (30 s): 60 GPU-seconds and twice
    30 over two GPUs are 60 s at least; it took 75. Cut off before its last reservation was written, it took
    until its last cell's end."""
    study = tmp_path / "s"
    measured(study, "a-1", 1, start_s=30.0, cells_s=10.0, rate=100.0, at_s=31.0)
    measured(study, "b-1", 1, start_s=15.0, cells_s=5.0, rate=10.0, at_s=15.0)
    measured(study, "a-2", 2, start_s=25.0, cells_s=5.0, rate=150.0, at_s=68.5)
    for at_s, took_s, gpus, served in ((0, 42, 1, "a-1"), (0, 21, 1, "b-1"), (43, 32, 2, "a-2")):
        if served == "a-2":
            cut_off = outcome.outcome(study)
            assert cut_off is not None
            assert (cut_off.makespan_s, cut_off.bound_s) == pytest.approx((73.5, 60.0))
        held = Reservation(NOON + timedelta(seconds=at_s), took_s, gpus, 1.0, ("node",), (served,), False)
        record(study, held)
    found = outcome.outcome(study)
    assert found is not None
    assert (found.gpus, found.deployments, found.again) == (2, 3, 0)
    assert (found.makespan_s, found.bound_s) == pytest.approx((75.0, 60.0))
    shares = [share for _, share in outcome.scaling(read_cells(study).to_pylist())]
    assert shares == pytest.approx([1.0, 0.75, 1.0])
    assert found.orders == {"longest first": 70.0, "best order": 70.0}, "40 beside 20, then 30 on both"
    assert "| s | 2 | 3 | 3 | 0 | 75 | 60 | 1.25 | 70 | 70 |" in outcome.markdown(tmp_path)


def test_memory_and_phases_of_a_start_are_read_from_the_engines_log(tmp_path: Path) -> None:
    study = tmp_path / "s"
    about = {"engine_ready_at": "2026-01-01T00:00:03+00:00", "prepared": False}
    for name, opt in (("a", "none"), ("b", "fp8")):
        row: dict[str, object] = {"cell_id": name, "deployment_id": name, "engine": "vllm", "model": "m"}
        row |= {
            "opt": [opt],
            "gpus": 2,
            "status": "done",
            "started_at": NOON,
            "deployment_start_s": 33.0,
            "provenance": about,
        }
        commit(study, name, row, [], None, [])
    said = {
        "a": """INFO 12-31 23:59:40 [x] Loading model from scratch...
INFO 12-31 23:59:42 [x] Model loading took 1.0 GiB
INFO 01-01 00:00:01 [x] Available KV cache memory: 10.5 GiB""",
        "b": "[TP0] KV Cache is allocated. dtype: bf16, #tokens: 9, K size: 1.50 GB, V size: 1.25 GB",
    }
    for name, log in said.items():
        (study / "logs" / name).mkdir(parents=True)
        (study / "logs" / name / "engine.log").write_text(log)
    assert logs.markdown(tmp_path).splitlines()[2:] == [
        "| vllm | m | fp8 | 2 | no | 5.50 |  |  |  |  |  |  |  | 33 |",
        "| vllm | m | none | 2 | no | 21.00 | 10 | 2 |  |  |  |  |  | 33 |",
    ]


@pytest.mark.parametrize(
    ("given", "beside", "own"), [("0,1", [2], 1), ("0,1", [1], 0), ("0", [2], 0), ("1,2", [], 0)]
)
def test_a_cell_whose_engine_is_not_on_just_its_own_gpus_or_not_alone_there_is_told(
    tmp_path: Path, given: str, beside: list[int], own: int
) -> None:
    at_s = NOON.timestamp()
    on: dict[str, list[list[Any]]] = {"0": [[7, "m 2", []]], "1": [[7, "m 2", []]]}
    for gpu in beside:
        on.setdefault(str(gpu), []).append([8, "m 1", []])
    lines = [{"at": at_s - 1, "on": on}, {"at": at_s + 9, "looks": 20}]
    (tmp_path / "watch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    provenance = json.dumps({"environment": {"CUDA_VISIBLE_DEVICES": given}})
    row = {"started_at": NOON, "model": "m", "provenance": provenance}
    assert seen.on_their_own([row], seen.engines(tmp_path / "watch.jsonl")[0]) == own
    assert seen.on_their_own([row | {"model": "n"}], seen.engines(tmp_path / "watch.jsonl")[0]) == 0


def test_the_picture_has_what_an_engine_did_and_what_became_of_a_killed_one(tmp_path: Path) -> None:
    on_0, again, on_1 = [7, "m 1", [0]], [9, "m 1", [0]], [8, "m 1 fp8", [1]]
    lines: list[dict[str, Any]] = [
        {"at": 1010.0, "on": {"0": [on_0], "1": [on_1]}},
        {"at": 1020.0, "killed_worker_of": "m 1", "gpus": [0]},
        {"at": 1035.0, "on": {"0": [on_0, again], "1": [on_1]}},
        {"at": 1040.0, "on": {"1": [on_1]}},
        {"at": 1070.0, "looks": 140},
    ]
    (tmp_path / "watch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, end_s = seen.engines(tmp_path / "watch.jsonl")
    assert [(one.pid, one.first_s, one.last_s, one.killed_s) for one in found] == [
        (7, 1010.0, 1040.0, 1020.0),
        (8, 1010.0, 1070.0, None),
        (9, 1035.0, 1040.0, None),
    ]
    at = datetime.fromtimestamp(1050, UTC)
    about = json.dumps({"engine_ready_at": at.isoformat()})
    cell = {"started_at": at, "duration_s": 15.0, "deployment_start_s": 45.0, "provenance": about}
    killed, served, second = (
        gantt.bars(one, end_s, [cell] * (one.pid == 8), [1001.0, 1022.0]) for one in found
    )
    assert killed == [gantt.Bar(gantt.STARTING, 1001.0, 1020.0), gantt.Bar(gantt.LEFT, 1020.0, 1040.0)]
    assert served == [gantt.Bar(gantt.STARTING, 1005.0, 1050.0), gantt.Bar(gantt.MEASURING, 1050.0, 1065.0)]
    assert second == [gantt.Bar(gantt.FAILED, 1022.0, 1040.0)]
    lost = replace(found[1], last_s=1070.0, killed_s=1068.0)
    assert gantt.bars(lost, end_s, [cell], [])[2:] == [
        gantt.Bar(gantt.LOST, 1065.0, 1068.0),
        gantt.Bar(gantt.LEFT, 1068.0, 1070.0),
    ]


def test_a_cell_s_telemetry_is_a_picture(tmp_path: Path) -> None:
    row = {"status": "done", "gpus": 1, "attempts": 1, "flags": [], "provenance": "{}", "engine_args": "{}"}
    samples = [
        Sample(at, engine_cpu_busiest=0.9, gpu_util=(at / 2,), gpu_power_w=(300.0,)) for at in range(3)
    ]
    commit(tmp_path / "study", "a", row, [timelines.record(0.5, [(1.5, 1, 0)])], None, samples)
    timeline.draw(tmp_path / "study", "a", tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert all(f">{words}<" in drawn for words in ("busy, %", "GPU power, W", "seconds"))


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
    for opt, at_s, ready_s in (("a", 0, 0.0), ("a", 20, 20.0), ("b", 50, 0.5), ("c", 58, 0.5)):
        store(tmp_path / "s", opt, NOON + timedelta(seconds=at_s), last_token_s=5.0, ready_s=ready_s)
    held = Reservation(NOON, 70.0, 1.0, 1.0, ("node",), ("a", "b", "c"), False)
    record(tmp_path / "s", held)
    first, second = switches.switches(tmp_path / "s")
    assert (first.before, first.after, first.prepared) == ("m vllm a", "m vllm b", True)
    assert (first.ready_s, first.request_s) == pytest.approx((24.5, 25.25))
    assert (second.ready_s, second.request_s) == pytest.approx((2.5, 3.25))
    assert not second.prepared
    assert switches.markdown(tmp_path).splitlines()[2] == "| s | m vllm a | m vllm b | yes | 24.5 | 25.2 |"

    record(tmp_path / "s", replace(held, deployments=("b",)))  # a second engine helped the second one
    assert not list(switches.switches(tmp_path / "s"))
