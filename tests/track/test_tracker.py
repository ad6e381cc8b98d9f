from __future__ import annotations

import io
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
from tests.support.timelines import record


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
        "started_at": datetime.now(UTC),
        "accuracy": 0.5,
    }
    attempt_id = new_attempt_id()
    records, grades = [record(0.0, [(1.0, 1, 0)])], [Grade("1", True)]
    commit(study, cell_id, row, records, grades, [Sample(0.0, running=1.0)], attempt_id=attempt_id)
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
    assert track(tmp_path, TrackerConfig(name="wandb", mode="offline"), "c1", "c2") == ""
    assert len(list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))) == 2


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
