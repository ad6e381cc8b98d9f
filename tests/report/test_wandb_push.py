"""A push of the Report of Weights & Biases: what a stand-in of the service is sent, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import wandb

from orchestrator.report.__main__ import main
from orchestrator.report.wandb_push import SPEC
from tests.report.studies import TRACKED, store
from tests.support.wandb_service import ENTITY, REPORT_ID, Service, served

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
