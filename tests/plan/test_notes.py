"""Notes under the plan (`orchestrator.plan.notes`)."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from orchestrator.progress.plan_table import show
from tests.plan.test_identity import planned


def test_a_plan_says_once_how_a_trace_was_read(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n1700158546000,1,2\n1700158548500,1,2\nno,1,2\n"
    )
    typed = ("load=trace", f"load.path={trace}", "limit=2", "runs=2", "hardware=h100", "engine=simulated")
    told = [note for note in planned(tmp_path, *typed).notes if note.startswith("load.path")]
    assert told == [
        f"load.path={trace}: Azure's layout, times are ms since 1970: the first 2 arrivals in 2.5 s"
    ]


def test_a_plan_says_how_runs_without_another_cell_between_them_lie(tmp_path: Path) -> None:
    told = planned(tmp_path, "engine=simulated", "hardware=h100", "runs=3").notes
    assert [note for note in told if note.startswith("runs=3")] == [
        "runs=3: 1 measurement made 3 times, one at once after the other: its deployment has no other cell "
        "to put between them; a run is a cell of its own"
    ]


def test_nothing_of_this_machine_is_planned_for_a_server_of_others(tmp_path: Path) -> None:
    """However small the machine, whose memory its weights do not take."""
    theirs = ("engine=external", "engine.base_url=http://h:1", "model=r1-70b", "hardware=cpu")
    plan = planned(tmp_path, *theirs)
    assert plan.with_status("planned")
    (told,) = plan.to_json()["deployments"]
    assert (told["weights_gib"], told["kv_gib"], told["gpus"]) == (None, None, 0)
    said = io.StringIO()
    show(plan, Console(file=said, width=160))
    assert said.getvalue().splitlines()[2].split()[1:] == ["r1-70b", "external", "none", "1"]
