"""``engine=simulated``: a whole sweep without a GPU, and no way to take it for a measurement."""

from __future__ import annotations

import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from orchestrator.measure.row import cell_row
from orchestrator.metrics.validity import status
from orchestrator.plan.plan import Job, make_plan
from orchestrator.progress.results_table import print_summary
from orchestrator.store.read import read_cells
from orchestrator.store.schema import cell_table
from orchestrator.store.write import commit
from orchestrator.study import _objectives
from tests.support.cli import sweep
from tests.support.compose import config_of
from tests.support.timelines import record

FOLDERS = ("cells", "requests", "telemetry")


def rows(results: Path, folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted((results / "default" / folder).glob("*.parquet")):
        found += pq.ParquetFile(path).read().to_pylist()
    return found


SWEEP = (
    *("-m", "engine=simulated", "model=r1-7b", "opt=none,prefix-cache", "limit=16", "repeats=2"),
    *("max_tokens=3000", "load.concurrency=8", "sampling.seeded=true", "engine.args.speed=50"),
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two deployments of one cell each; the results and what was said."""
    folder = tmp_path_factory.mktemp("results")
    done = sweep(*SWEEP, "tracker=wandb", "report=true", f"results_dir={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.mark.ray
@pytest.mark.timeout(180)
class TestASweepOnAMachineWithoutGpus:
    def test_every_cell_is_done_on_gpus_that_are_only_declared(self, swept: tuple[Path, str]) -> None:
        cells = rows(swept[0], "cells")
        assert [cell["status"] for cell in cells] == ["done", "done"]
        assert {(cell["gpus"], cell["gpu_type"]) for cell in cells} == {(1, "h200")}
        assert {cell["requests_ok"] for cell in cells} == {32}
        assert not any("gpu" in flag for cell in cells for flag in cell["flags"])

    def test_every_row_says_that_it_is_simulated_and_how_fast(self, swept: tuple[Path, str]) -> None:
        for folder in FOLDERS:
            found = rows(swept[0], folder)
            assert found
            assert {row["simulated"] for row in found} == {True}, folder
        assert {json.loads(cell["provenance"])["speed"] for cell in rows(swept[0], "cells")} == {50}

    def test_nothing_is_said_of_gpus_that_are_not_there(self, swept: tuple[Path, str]) -> None:
        samples = rows(swept[0], "telemetry")
        columns = [name for name in samples[0] if name.startswith("gpu_")]
        assert len(columns) == 4
        assert {row[name] for row in samples for name in columns} == {None}
        assert {cell["energy_j"] for cell in rows(swept[0], "cells")} == {None}

    def test_times_are_the_walls_and_start_is_as_fast_as_the_clock(self, swept: tuple[Path, str]) -> None:
        for cell in rows(swept[0], "cells"):
            assert 2.0 < cell["deployment_start_s"] < 20  # 102 s on its clock
            assert cell["tpot_s_p50"] < 0.002
            assert cell["accuracy"] > 0.4
            assert cell["thinking_token_share"] > 0.9

    def test_a_row_says_when_its_engine_was_ready_and_when_it_was_warmed_up(
        self, swept: tuple[Path, str]
    ) -> None:
        requests = rows(swept[0], "requests")
        for cell in rows(swept[0], "cells"):
            said = json.loads(cell["provenance"])
            assert datetime.fromisoformat(said["engine_ready_at"]) <= cell["started_at"]
            sent_s, ended_s = said["warmup_window_s"]
            first_s = min(row["sent_s"] for row in requests if row["cell_id"] == cell["cell_id"])
            assert 0 < sent_s < ended_s < first_s

    def test_answers_depend_on_the_seed_alone(self, swept: tuple[Path, str]) -> None:
        answers: dict[str, dict[tuple[str, int], str]] = {}
        for row in rows(swept[0], "requests"):
            key = (row["item_id"], row["repeat"])
            answers.setdefault(row["cell_id"], {})[key] = row["reasoning_text"] + row["response_text"]
        first, second = answers.values()
        assert len(first) == 32
        assert first == second

    def test_only_the_cell_with_a_prefix_cache_hits_it(self, swept: tuple[Path, str]) -> None:
        rates = {tuple(cell["opt"]): cell["prefix_hit_rate"] for cell in rows(swept[0], "cells")}
        assert not rates["none",]
        assert rates["prefix-cache",] > 0.1

    def test_everything_that_is_printed_says_so(self, swept: tuple[Path, str]) -> None:
        lines = swept[1].splitlines()
        assert any("Plan of study" in line and "SIMULATED" in line for line in lines)
        assert any("Study 'default': SIMULATED, no measurement" in line for line in lines)
        told = [line for line in lines if "ready after" in line or "] done" in line or "starting" in line]
        assert len(told) >= 6
        assert all("SIMULATED" in line for line in told)

    def test_its_report_says_so_too(self, swept: tuple[Path, str]) -> None:
        path = swept[0] / "default" / "report" / "index.html"
        assert f"report: {path}" in swept[1]
        assert "All of this is SIMULATED" in path.read_text()

    def test_a_half_written_cell_is_run_again_and_no_other(self, swept: tuple[Path, str]) -> None:
        path = next((swept[0] / "default" / "cells").glob("*.parquet"))
        path.write_bytes(path.read_bytes()[:100])
        before = {other: other.stat().st_mtime_ns for other in path.parent.glob("*.parquet") if other != path}
        done = sweep(*SWEEP, "tracker=none", f"results_dir={swept[0]}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 cells to run on 1 deployments" in done.stdout
        assert [cell["status"] for cell in rows(swept[0], "cells")] == ["done", "done"]
        assert {other: other.stat().st_mtime_ns for other in before} == before

    def test_weights_and_biases_keeps_it_in_a_group_of_its_own(self, swept: tuple[Path, str]) -> None:
        runs = list((swept[0] / "default" / "wandb").glob("offline-run-*/run-*.wandb"))
        assert len(runs) == 2
        assert all(b"SIMULATED default" in run.read_bytes() for run in runs)


def stored(folder: Path, *overrides: str, objective: float, says: bool | None = None) -> Job:
    """A finished cell of that job, committed as a worker would."""
    job = Job(overrides, config_of(*overrides, f"results_dir={folder}", "limit=2"))
    (planned,) = make_plan([job]).cells
    row = cell_row(
        planned.cell,
        study="default",
        status="done",
        attempts=1,
        gpus=1,
        nodes=1,
        items=2,
        metrics={"output_token_per_s": objective},
    )
    if says is not None:
        row["simulated"] = says
    commit(folder / "default", planned.cell.cell_id, row, [record(0.0, [(1.0, 1, 0)])], None, ())
    return job


def test_a_mixed_study_is_two_tables_and_no_sweeper_sees_both(tmp_path: Path) -> None:
    simulated = stored(tmp_path, "engine=simulated", objective=111.0)
    alone = make_plan([simulated])
    found = {row["cell_id"]: row for row in read_cells(alone.study_dir).to_pylist()}
    assert _objectives(alone, found, "output_token_per_s") == (111.0,)

    real = stored(tmp_path, "engine=vllm", "hardware=h200", objective=222.0)
    plan = make_plan([simulated, real])
    found = {row["cell_id"]: row for row in read_cells(plan.study_dir).to_pylist()}
    assert _objectives(plan, found, "output_token_per_s") == (None, 222.0)
    said = io.StringIO()
    print_summary(plan, found, Console(file=said, width=200))
    above, below = said.getvalue().split("Study 'default': SIMULATED, no measurement")
    assert ("222.0" in above, "111.0" in above) == (True, False)
    assert ("222.0" in below, "111.0" in below) == (False, True)


def test_what_has_to_be_told_of_a_cell_that_counts_is_told_at_the_end(tmp_path: Path) -> None:
    plan = make_plan([stored(tmp_path, "engine=vllm", "hardware=h200", objective=222.0)])
    (row,) = read_cells(plan.study_dir).to_pylist()
    said = io.StringIO()
    print_summary(plan, {row["cell_id"]: row | {"flags": ["gpu_starved"]}}, Console(file=said, width=200))
    assert "the GPU idled while a process of the engine had a whole CPU" in said.getvalue()
    told: dict[str, Any] = {"flags": ["cache_unknown"], "prefix_hit_rate": 0.41}
    print_summary(plan, {row["cell_id"]: row | told}, Console(file=said, width=200))
    assert "could not be reset (41 % of the prompt tokens were in it)" in said.getvalue()


@pytest.mark.parametrize(("engine", "says"), [("simulated", False), ("vllm", True)])
def test_no_row_can_be_stored_that_says_otherwise_than_its_engine(
    tmp_path: Path, engine: str, says: bool
) -> None:
    with pytest.raises(ValueError, match="in one row"):
        stored(tmp_path, f"engine={engine}", "hardware=h200", objective=1.0, says=says)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("provenance", [{"quoted_from": "a paper"}, '{"quoted_from": "a paper"}'])
def test_a_row_whose_numbers_are_quoted_says_that_nothing_was_measured(provenance: object) -> None:
    row = {"cell_id": "a", "engine": "vllm", "provenance": provenance}
    assert cell_table(row | {"simulated": True})["simulated"].to_pylist() == [True]
    with pytest.raises(ValueError, match="in one row"):
        cell_table(row | {"simulated": False})


def test_being_late_on_a_laptop_invalidates_no_rehearsal_but_errors_do() -> None:
    records = [record(0.0, [(1.0, 1, 0)])]
    assert status(("client_lag", "telemetry_missing"), records) != ("done", None)
    assert status(("client_lag", "telemetry_missing"), records, simulated=True) == ("done", None)
    assert status(("errors",), records, simulated=True)[0] == "invalid"
    assert status(("token_mismatch",), records, simulated=True)[0] == "invalid"
