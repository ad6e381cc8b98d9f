from __future__ import annotations

import io
import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import wandb
from rich.console import Console

from orchestrator.config.schema import TrackerConfig
from orchestrator.records import Grade, Sample
from orchestrator.store.attempts import new_attempt_id
from orchestrator.store.write import commit
from orchestrator.track.tracker import Tracker
from orchestrator.track.wandb_run import GAUGES, run_name
from tests.support.timelines import record
from tests.support.wandb_file import records


def stored(study: Path, cell_id: str, status: str = "done") -> str:
    """The attempt's name."""
    row = {
        "status": status,
        "study": "s",
        "engine": "vllm",
        "model": "m",
        "overrides": ["max_tokens=8"],
        "opt": ["none"],
        "attempts": 1,
        "gpus": 0,
        "provenance": {"cpu": "x"},
        "engine_args": {"max-num-seqs": 8, "compilation": {"level": 3}},
        "started_at": datetime.now(UTC),
        "accuracy": 0.5,
    }
    attempt_id = new_attempt_id()
    requests, grades = [record(0.0, [(1.0, 1, 0)])], [Grade("1", True)]
    commit(study, cell_id, row, requests, grades, [Sample(0.0, running=1.0)], attempt_id=attempt_id)
    return attempt_id


def track(study: Path, config: TrackerConfig, *cell_ids: str) -> str:
    said = io.StringIO()
    with Tracker(study, config, Console(file=said, width=200)) as tracker:
        for cell_id in cell_ids:
            tracker.log(cell_id)
    return said.getvalue()


def test_every_cell_becomes_one_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    stored(tmp_path, "c1")
    stored(tmp_path, "c2")
    said = track(tmp_path, TrackerConfig(name="wandb", mode="offline"), "c1", "c2")
    assert said.count("\n") == 1
    assert said.startswith("Weights & Biases: 2 runs are on this machine alone")
    assert len(list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))) == 2
    (runs,) = map(Path, re.findall(r"wandb sync (\S+)", said))
    assert len(list(runs.parent.glob(runs.name))) == 2


def test_a_run_has_what_is_stored_and_no_idle_gauge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from what the library wrote, as ``wandb sync`` does."""
    monkeypatch.setattr(sys, "argv", ["sweep", "+engine.env.HF_TOKEN=canary"])
    for name, value in {"WANDB_MODE": "offline", "WANDB_PROJECT": "mine", "WANDB_ENTITY": "us"}.items():
        monkeypatch.setenv(name, value)
    stored(tmp_path, "c1")
    track(tmp_path, TrackerConfig(name="wandb"), "c1")
    (path,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"canary" not in path.read_bytes()
    written = list(records(path))
    run = next(one.run for one in written if one.HasField("run"))
    assert (run.project, run.entity) == ("mine", "us")
    assert (run.job_type, run.display_name) == ("measurement", "m vllm none")
    config = {one.key: json.loads(one.value_json) for one in run.config.update}
    assert config["engine_args"] == {"max-num-seqs": 8, "compilation": {"level": 3}}
    summary = {update.key: update.value_json for one in written for update in one.summary.update}
    assert summary["accuracy"] == "0.5"
    defined = {one.metric.name: one.metric for one in written if one.HasField("metric")}
    assert {gauge: defined[gauge].step_metric for gauge in GAUGES} == dict.fromkeys(GAUGES, "t_s")
    assert all(metric.summary.none for metric in defined.values())
    points = [{item.nested_key[0]: item.value_json for item in one.history.item} for one in written]
    assert [point["running"] for point in points if "running" in point] == ["1"]
    artifacts = {one.artifact.type: one.artifact for one in written if one.HasField("artifact")}
    files = {entry.path for entry in artifacts["measurement"].manifest.contents}
    assert files == {"cells.parquet", "requests.parquet", "telemetry.parquet"}
    (table,) = path.parent.glob("files/media/table/*.json")
    said = json.loads(table.read_text())
    (request,) = (dict(zip(said["columns"], row, strict=True)) for row in said["data"])
    assert (request["outcome"], request["correct"], request["output_tokens"]) == ("ok", True, 1)


def row(**others: Any) -> dict[str, Any]:
    own = {"cell_id": "abcdef0123456789", "model": "r1-7b", "engine": "vllm", "opt": ["fp8", "kv-fp8"]}
    return {**own, "simulated": False, "overrides": [], **others}


LONG = [f"engine.args.speculative-config.num_speculative_tokens={n}" for n in range(3)]


@pytest.mark.parametrize(
    ("overrides", "varied", "others", "name"),
    [
        ([], [], {}, "r1-7b vllm fp8+kv-fp8"),
        (
            ["model=r1-7b", "+load.concurrency=8", "seed=1"],
            ["model", "load.concurrency"],
            {},
            "r1-7b vllm fp8+kv-fp8 concurrency=8",
        ),
        (["seed=1"], ["seed"], {"run": 2}, "r1-7b vllm fp8+kv-fp8 seed=1 run=2"),
        (["seed=1"], ["seed"], {"simulated": True}, "r1-7b SIMULATED fp8+kv-fp8 seed=1"),
        (
            ["a.size=1", "b.size=2", "slo.ttft_s=1"],
            ["a.size", "b.size", "slo.ttft_s"],
            {"opt": ["none"]},
            "r1-7b vllm none a.size=1 b.size=2 ttft_s=1",
        ),
        (
            LONG,
            [one.split("=")[0] for one in LONG],
            {},
            "r1-7b vllm fp8+kv-fp8 engine.args.speculative-config.num… abcdef",
        ),
    ],
)
def test_a_runs_name_is_short_and_says_what_varies(
    overrides: list[str], varied: list[str], others: dict[str, Any], name: str
) -> None:
    found = run_name(row(overrides=overrides, **others), varied)
    assert found == name
    assert len(found) <= 64


def test_a_run_is_one_attempts_and_no_attempt_is_logged_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str] = []

    def noted(*, id: str, **_: Any) -> Any:
        ids.append(id)
        return MagicMock()

    monkeypatch.setattr(wandb, "init", noted)
    config = TrackerConfig(name="wandb", mode="offline")
    first = stored(tmp_path, "c1")
    tracker = Tracker(tmp_path, config, Console(file=io.StringIO()))
    tracker._log("c1")
    stored(tmp_path, "c1", "failed")  # the row stays
    tracker._log("c1")
    again = stored(tmp_path, "c1")
    tracker._log("c1")
    assert ids == [f"c1-{first}", f"c1-{again}"]


def test_a_broken_service_is_said_once_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> None:
        raise ConnectionError("no route to the service")

    monkeypatch.setattr(wandb, "init", broken)
    stored(tmp_path, "c1")
    stored(tmp_path, "c2")
    said = track(tmp_path, TrackerConfig(name="wandb", mode="online"), "c1", "c2")
    assert said.count("\n") == 1
    assert "2 cells not logged" in said
    assert "no route to the service" in said


def test_a_service_that_hangs_does_not_hold_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb, "init", lambda **_: time.sleep(30))
    monkeypatch.setattr("orchestrator.track.tracker.FINISH_S", 0.2)
    stored(tmp_path, "c1")
    began = time.monotonic()
    said = track(tmp_path, TrackerConfig(name="wandb", mode="online"), "c1")
    assert time.monotonic() - began < 5
    assert "still busy" in said


def test_none_logs_nothing(tmp_path: Path) -> None:
    stored(tmp_path, "c1")
    assert track(tmp_path, TrackerConfig(name="none"), "c1") == ""
    assert not (tmp_path / "wandb").exists()
