"""A sweeper that comes with one batch of jobs after another, as searches do (`orchestrator.launcher`)."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from orchestrator.store.read import read_cells
from tests.support import cli

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
PLUGINS = Path(__file__).parent / "support" / "search"
SEARCH = (
    *("-m", "hydra/sweeper=batches", "engine=simulated", "hardware=l40s", "tracker=none", "limit=4"),
    *("tensor_parallel_size=1", "engine.args.speed=100", "ray.dashboard=false"),
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """What the sweeper found, and what the callback was told."""
    given = cli.environment()["PYTHONPATH"]
    monkeypatch.setattr(
        cli, "environment", lambda own=cli.environment: own() | {"PYTHONPATH": f"{given}:{PLUGINS}"}
    )
    monkeypatch.setenv("FOUND", str(tmp_path / "found"))
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    return tmp_path / "found", tmp_path / "told"


def search(results: Path, *arguments: str) -> CompletedProcess[str]:
    return cli.sweep(*SEARCH, *arguments, f"results_dir={results}")


def test_a_search_goes_on_with_its_ray_its_engine_and_without_a_value(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    """The second job does not fit; the third is served by the engine of the first."""
    found, told = files
    done = search(
        tmp_path, "model=r1-7b", "max_tokens=16,300000,32", "+hydra.callbacks.told._target_=told.Told"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, none, third = json.loads(found.read_text())
    assert first > 0
    assert third > 0
    assert none is None
    assert done.stdout.count("starting the engine") == 1
    assert done.stdout.count("goes on with the engine that serves already") == 1
    rows = {row["max_tokens"]: row for row in read_cells(tmp_path / "default").to_pylist()}
    assert {tokens: row["status"] for tokens, row in rows.items()} == {16: "done", 32: "done"}
    (held,) = map(json.loads, (tmp_path / "default" / "reservations.jsonl").read_text().splitlines())
    assert held["deployments"] == [rows[16]["deployment_id"]]
    assert told.read_text().splitlines() == [
        "multirun start",
        "job 0 start max_tokens=16",
        "job 0 end COMPLETED a number",
        "job 1 start max_tokens=300000",
        "job 1 end COMPLETED none",
        "job 2 start max_tokens=32",
        "job 2 end COMPLETED a number",
        "multirun end",
    ]


def test_a_search_is_given_the_mean_of_a_jobs_runs(tmp_path: Path, files: tuple[Path, Path]) -> None:
    done = search(tmp_path, "model=r1-7b", "max_tokens=16,32", "runs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    rates: dict[int, list[float]] = {}
    for row in read_cells(tmp_path / "default").to_pylist():
        rates.setdefault(row["max_tokens"], []).append(row["output_token_per_s"])
    assert {len(own) for own in rates.values()} == {2}
    found = json.loads(files[0].read_text())
    assert found == pytest.approx([sum(rates[tokens]) / 2 for tokens in (16, 32)])


def test_another_deployment_takes_the_place_of_an_engine_that_was_kept(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    done = search(tmp_path, "model=r1-7b,r1-1.5b,r1-7b", "max_tokens=16", "rerun=all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("starting the engine") == 3
    assert {row["status"] for row in read_cells(tmp_path / "default").to_pylist()} == {"done"}
    (held,) = map(json.loads, (tmp_path / "default" / "reservations.jsonl").read_text().splitlines())
    assert len(held["deployments"]) == 3


def test_a_search_in_which_nothing_has_a_value_ends_in_one_line(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    done = search(tmp_path, "model=r1-70b", "max_tokens=16,32")
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert "the search ended without a result (ValueError: No trials are completed yet.)" in line
