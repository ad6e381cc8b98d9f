"""Notes under the plan (`orchestrator.plan.notes`)."""

from __future__ import annotations

from pathlib import Path

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
