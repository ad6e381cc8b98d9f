"""The table at a sweep's end shows what was asked for, and says what makes a row look odd."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.metrics.validity import NOTES
from orchestrator.plan.plan import Job, make_plan
from orchestrator.progress.plan_table import show
from orchestrator.progress.results_table import print_summary
from tests.support.compose import config_of

ROW = {
    "status": "done",
    "flags": [],
    "output_token_per_s": 100.0,
    "ttft_s_p50": 0.2,
    "gpus": 1,
    "max_tokens": 64,
}


def summary(folder: Path, *rows: dict[str, Any]) -> list[str]:
    """The lines of a study of as many cells."""
    common = ("engine=simulated", "hardware=h200", "model=r1-7b", f"results_dir={folder}")
    jobs = [(f"max_tokens={64 + number}",) for number in range(len(rows))]
    plan = make_plan([Job(job, config_of(*common, *job)) for job in jobs])
    stored = {one.cell.cell_id: ROW | row for one, row in zip(plan.cells, rows, strict=True)}
    said = io.StringIO()
    print_summary(plan, stored, Console(file=said, width=250))
    return said.getvalue().splitlines()


def test_a_cell_that_several_jobs_ask_for_is_one_measurement(tmp_path: Path) -> None:
    common = ("engine=simulated", "hardware=h200", "model=r1-7b", f"results_dir={tmp_path}")
    jobs = [(f"opt={opt}",) for opt in ("fp8", "[fp8,fp8]", "[none,fp8]", "none")]
    plan = make_plan([Job(job, config_of(*common, *job)) for job in jobs])
    said = io.StringIO()
    print_summary(plan, {one.cell.cell_id: ROW for one in plan.cells}, Console(file=said, width=250))
    rows = [line for line in said.getvalue().splitlines() if " done " in line]
    assert len(rows) == 2
    assert "runs" not in said.getvalue()
    assert "±" not in said.getvalue()


def test_a_plain_sweep_shows_what_every_sweep_shows(tmp_path: Path) -> None:
    (header,) = [line for line in summary(tmp_path, {}, {}) if "tokens/s" in line]
    assert "TTFT p50 " in header
    assert not {"p95", "p99", "GPUs", "goodput/s", "within", "served/s", "thinking"} & set(
        header.replace("/", " ").split()
    )


@pytest.mark.parametrize(
    ("row", "heading", "value"),
    [
        ({"slo_ttft_s": 1.0, "slo_attainment": 0.75, "goodput_per_s": 1.5}, "within limits", "75 %"),
        ({"slo_itl_s": 0.1, "slo_attainment": 0.75, "goodput_per_s": 1.5}, "goodput/s", "1.50"),
        ({"offered_request_per_s": 12.0, "served_request_per_s": 8.7}, "offered/s", "12.0"),
        ({"offered_request_per_s": 12.0, "served_request_per_s": 8.7}, "served/s", "8.70"),
        ({"ttft_s_p95": 0.25}, "TTFT p50/p95", "200.0 ms/250.0 ms"),
        ({"ttft_s_p95": 0.25, "ttft_s_p99": 1.5}, "TTFT p50/p95/p99", "200.0 ms/250.0 ms/1.50 s"),
        ({"gpus": 2, "output_token_per_s_per_gpu": 50.0}, "tokens/s/GPU", "50.0"),
        ({"thinking_token_share": 0.9, "truncated_thinking_rate": 0.25}, "cut thinking", "25 %"),
        ({"thinking_token_share": 0.9, "thinking_s_p50": 1.5}, "thinking p50", "1.50 s"),
        (
            {"thinking_token_share": 0.9, "thinking_s_p50": 1.5, "ttfvt_censored_share": 0.5},
            "thinking p50",
            "≥ 1.50 s",
        ),
    ],
)
def test_what_was_asked_for_has_its_column(
    tmp_path: Path, row: dict[str, Any], heading: str, value: str
) -> None:
    lines = summary(tmp_path, {}, row)
    (header,) = [line for line in lines if "tokens/s" in line]
    (own,) = [line for line in lines if line.startswith("65 ")]
    end = header.index(heading) + len(heading)
    assert own[:end].endswith(value), "columns are aligned to the right"


def test_a_model_that_does_not_think_has_no_time_of_thinking(tmp_path: Path) -> None:
    """Beside one that does; the time is 0 in its row."""
    thinks = {"thinking_token_share": 0.9, "thinking_s_p50": 1.5}
    lines = summary(tmp_path, thinks, {"thinking_token_share": 0.0, "thinking_s_p50": 0.0})
    assert sum("1.50 s" in line for line in lines) == 1
    assert not any(" 0.0 ms" in line for line in lines)


def notes(lines: list[str]) -> list[str]:
    return [
        line.removeprefix("note  ").replace("SIMULATED ", "") for line in lines if line.startswith("note  ")
    ]


@pytest.mark.parametrize(
    ("least", "most", "said"),
    [
        (64.0, 64.0, "every answer was cut off at max_tokens=64"),
        (20.0, 64.0, "every answer was cut off, at max_tokens=64 or earlier by a limit of the server's own"),
        (
            20.0,
            20.0,
            "every answer was cut off by a limit of the server's own, after 20 tokens (max_tokens=64)",
        ),
        (20.0, 35.0, "every answer was cut off by a limit of the server's own, after 20 to 35 tokens"),
        (None, None, "every answer was cut off (max_tokens=64)"),
    ],
)
def test_answers_that_are_all_cut_say_by_which_limit(
    tmp_path: Path, least: float | None, most: float | None, said: str
) -> None:
    lengths = {"output_length_min": least, "output_length_max": most}
    (note,) = notes(
        summary(tmp_path, {"truncated_rate": 1.0, **lengths}, {"truncated_rate": 0.99, **lengths})
    )
    assert note.startswith(f"max_tokens=64: {said}")


def test_the_same_answers_twice_are_told(tmp_path: Path) -> None:
    lines = summary(tmp_path, {}, {"repeats": 2, "temperature": 0.0})
    assert notes(lines) == ["max_tokens=65: repeats=2 at temperature 0 asks for the same answers again"]


def test_a_cell_that_does_not_count_tells_its_notes_too(tmp_path: Path) -> None:
    invalid = {"status": "invalid", "reason": "why", "flags": ["client_lag", "behind"]}
    lines = summary(tmp_path, {}, invalid, {"status": "failed", "reason": "not one", "flags": ["behind"]})
    assert "invalid  SIMULATED max_tokens=65: why" in lines
    assert notes(lines) == [f"max_tokens=65: {NOTES['behind']}"]


def test_what_is_equal_for_several_cells_is_said_once(tmp_path: Path) -> None:
    """The shares as a range; which cells, where it is not all."""
    every = {"flags": ["cache_unknown", "telemetry_absent"]}
    failed = {"status": "failed", "reason": "HTTP 500"}
    some = [{**every, "prefix_hit_rate": share} for share in (0.01, 0.41)]
    lines = summary(tmp_path, *some, every | {"flags": [*every["flags"], "retried"]})
    assert notes(lines) == [
        f"3 cells: {NOTES['cache_unknown']} (1 to 41 % of the prompt tokens were in it); "
        f"{NOTES['telemetry_absent']}",
        f"max_tokens=66: {NOTES['retried']}",
    ]
    lines = summary(tmp_path, {}, *[failed] * 4)
    named = "; ".join(f"SIMULATED max_tokens={size}" for size in (65, 66, 67))
    assert f"failed  4 of 5 cells ({named}; …): HTTP 500" in lines


def test_a_time_of_answers_that_never_became_visible_is_a_lower_bound(tmp_path: Path) -> None:
    times = {"ttfvt_s_p50": 0.3}
    lines = summary(tmp_path, times | {"ttfvt_censored_share": 1.0}, times | {"ttfvt_censored_share": 0.4})
    cut, seen = (next(line for line in lines if line.startswith(f"{size} ")) for size in (64, 65))
    assert "≥ 300.0 ms" in cut
    assert "300.0 ms" in seen
    assert "≥" not in seen


def test_names_are_shown_as_they_were_typed(tmp_path: Path) -> None:
    """Neither a style, as ``[fp8]`` would be to Rich, nor an emoji, as ``:100:``."""
    common = ("engine=vllm", "hardware=h200", "model=r1-7b", f"results_dir={tmp_path}")
    typed = [("opt=[fp8,kv-fp8]", "model.name='[red]'"), ("opt=[none]", "model.name='[/b]:100:'")]
    jobs = [Job(job, config_of(*common, "study_name='[s]'", *job)) for job in typed]
    plan = make_plan(jobs)
    stored = {
        one.cell.cell_id: ROW | {"reason": f"[bold]why:100: {number}", "status": "failed"}
        for number, one in enumerate(plan.cells)
    }
    said = io.StringIO()
    console = Console(file=said, width=300)
    show(plan, console)
    assert "'[s]'" in said.getvalue()
    assert "[/b]:100:" in said.getvalue()
    shown = len(said.getvalue())
    print_summary(plan, stored, console)
    table, reasons = said.getvalue()[shown:].split("failed  opt=", 1)
    for name in ("'[s]'", "[fp8,kv-fp8]", "[none]", "[/b]:100:"):
        assert name in table
    assert reasons.count("[bold]why:100:") == 2
