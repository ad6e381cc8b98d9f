"""A push of the Report of Weights & Biases: what a stand-in of the service is sent, and what is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
from rich.console import Console

from orchestrator.config.schema import TrackerConfig
from orchestrator.report.__main__ import main
from orchestrator.report.wandb_push import SPEC
from orchestrator.store.read import read_cells
from orchestrator.track.tracker import Tracker
from orchestrator.track.wandb_run import run_id
from tests.report.studies import TRACKED, store
from tests.support.wandb_service import ENTITY, REPORT_ID, Service, served

pytestmark = pytest.mark.slow

KEY = "0" * 40


@pytest.fixture
def logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """With a key that is none, and nothing of this machine's own settings."""
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    wandb.teardown()
    return monkeypatch


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A study that is reported in a second."""
    return store(tmp_path, [TRACKED.but(runs=1)])


def spec_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / SPEC).read_text())
    return found


def pushed(folder: Path, *arguments: str) -> int:
    return main([f"results_dir={folder}", "study=planted", f"out={folder / 'out'}", "wandb=push", *arguments])


def test_a_push_sends_the_spec_and_the_next_replaces_it(
    small: Path, logged_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in.setenv("WANDB_MODE", "offline")  # of sweeps, which does not keep a push from the service
    with served(Service()) as service:
        logged_in.setenv("WANDB_BASE_URL", service.url)
        assert pushed(small) == 0
        said = capsys.readouterr()
        first = spec_of(small)
        assert pushed(small, "wandb.entity=us") == 0
        assert pushed(small, "wandb.project=other") == 0
    sent, again, other = service.sent("upsertView")
    assert (sent["id"], again["id"], other["id"]) == (None, REPORT_ID, None)
    assert (sent["entityName"], sent["projectName"], sent["type"]) == (ENTITY, "bench", "runs")
    assert (other["entityName"], other["projectName"]) == (ENTITY, "other")
    assert sent["displayName"] == "Report: planted"
    assert json.loads(sent["spec"]) == first["spec"]
    assert [one["input"]["name"] for one in service.sent("CreateProject")] == ["bench", "other"]
    assert said.out.splitlines()[1:] == [f"Weights & Biases: {first['pushed']['url']}"]
    assert f"/{ENTITY}/bench/reports/" in first["pushed"]["url"]
    assert KEY not in said.out + said.err + json.dumps(first)


def test_synchronised_runs_are_those_of_the_report_and_hold_what_it_asks_for(
    small: Path, logged_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library's own ``wandb sync`` of a run of the tracker, to where the report is pushed."""
    (row,) = read_cells(small / "planted").to_pylist()
    said = io.StringIO()
    offline = TrackerConfig("wandb", "bench", mode="offline")
    with Tracker(small / "planted", offline, Console(file=said, width=500)) as tracker:
        tracker.log(row["cell_id"])
    with served(Service()) as service:
        logged_in.setenv("WANDB_BASE_URL", service.url)
        assert pushed(small) == 0
        command = capsys.readouterr().out.splitlines()[-1].partition("to upload: ")[2]
        assert command == said.getvalue().partition("to upload them: ")[2].strip()
        logged_in.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        subprocess.run(command, shell=True, check=True, capture_output=True, timeout=60, cwd=small)
        assert pushed(small) == 0
    assert "on this machine alone" not in capsys.readouterr().out
    run = service.sent("UpsertBucket")[0]
    assert (run["name"], run["project"]) == (run_id(row), service.sent("upsertView")[0]["projectName"])
    (grid,) = [one for one in spec_of(small)["spec"]["blocks"] if one["type"] == "panel-grid"]
    assert run["name"] in json.dumps(grid["metadata"]["runSets"])
    sent = {path.rpartition("/")[2]: body for path, body in service.files if "/files/" not in path}
    summary = json.loads(sent["wandb-summary.json"])
    history = b"".join(body for path, body in service.files if path.endswith("/file_stream"))
    panels = [panel["config"] for panel in grid["metadata"]["panelBankSectionConfig"]["panels"]]
    lines = [name for panel in panels if panel.get("xAxis") == "t_s" for name in panel["metrics"]]
    bars = [name for panel in panels if "vertical" in panel for name in panel["metrics"]]
    assert len(bars) > 4
    assert all(summary[name] == row[name] for name in bars)
    assert lines == ["kv_usage", "running", "waiting"]
    assert all(f'\\"{name}\\":'.encode() in history for name in (*lines, "t_s"))


@pytest.mark.parametrize(
    ("refuse", "url", "message"),
    [
        ({"upsertView": "permission\ndenied"}, None, "permission denied"),
        ({}, "http://127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_what_the_service_refuses_is_one_line_and_the_spec_stays(
    refuse: dict[str, str],
    url: str | None,
    message: str,
    small: Path,
    logged_in: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served(Service(projects=["bench"], refuse=refuse)) as service:
        logged_in.setenv("WANDB_BASE_URL", url or service.url)
        assert pushed(small) == 1
    said = capsys.readouterr()
    assert said.out == f"report: {small / 'out' / 'index.html'}\n"
    (line,) = [one for one in said.err.splitlines() if not one.startswith("report: ")]
    assert line.startswith("error: wandb=push: ")
    assert message in line
    assert line.endswith(f"the report's spec is {small / 'out' / SPEC}")
    assert spec_of(small)["pushed"] is None
    assert any(one["type"] == "panel-grid" for one in spec_of(small)["spec"]["blocks"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("wandb=pull", "wandb=pull: must be push"),
        ("wandb.project=a/b", "wandb.project=a/b: must be a name"),
        ("wandb.entity=", "wandb.entity=: must be a name"),
    ],
)
def test_bad_input_is_said_before_anything_starts(
    argument: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"results_dir={tmp_path}", "study=planted", f"out={tmp_path / 'out'}", argument]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()


def test_a_push_without_the_library_is_refused_and_a_report_is_not(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("orchestrator.report.wandb_push.find_spec", lambda name: None)
    assert pushed(small) == 2
    assert "wandb-workspaces" in capsys.readouterr().err
    assert not (small / "out").exists()
    assert main([f"results_dir={small}", "study=planted", f"out={small / 'out'}"]) == 0
    assert not (small / "out" / SPEC).exists()
