"""The final table: what a sweep came to, one row per cell, or one for all runs of a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.metrics.runs import over_runs
from orchestrator.metrics.stats import mean, present
from orchestrator.metrics.validity import NOTES
from orchestrator.plan.plan import Plan, PlannedCell, overrides_of

Row = Mapping[str, Any]


def print_summary(
    plan: Plan, rows: Mapping[str, Row], console: Console, beside: Mapping[str, str] | None = None
) -> None:
    """Prints every cell of the plan with what is stored for it, simulated cells in a table of their own, then
    the failures' reasons and what has to be told of the others. ``beside``: why a cell was not measured
    again, whose earlier measurement stands."""
    shown = [planned for planned in plan.cells if planned.status != "skipped" or planned.cell.cell_id in rows]
    for simulated, title in ((False, ""), (True, ": SIMULATED, no measurement")):
        if cells := [planned for planned in shown if planned.cell.simulated == simulated]:
            console.print()
            console.print(_table(plan, cells, rows, f"Study '{plan.study}'{title}"))
    for planned in shown:
        stored = rows.get(planned.cell.cell_id)
        if why_not := (beside or {}).get(planned.cell.cell_id):
            first = next(iter(why_not.strip().splitlines()), why_not)
            label = plan.label(planned.cell)
            console.print(
                f"not measured again  {label}: {first}; the earlier measurement stands",
                markup=False,
                highlight=False,
            )
        if stored is None:
            console.print(f"not run  {plan.label(planned.cell)}", markup=False, highlight=False)
        elif stored["status"] != "done":
            why = stored["reason"] or ", ".join(stored["flags"] or ())
            console.print(
                f"{stored['status']}  {plan.label(planned.cell)}: {why}", markup=False, highlight=False
            )
        elif told := [_note(flag, stored) for flag in stored["flags"] or () if flag in NOTES]:
            console.print(
                f"note  {plan.label(planned.cell)}: {'; '.join(told)}", markup=False, highlight=False
            )
    console.print(f"results: {plan.study_dir}", markup=False, highlight=False)


def _note(flag: str, row: Row) -> str:
    hits = row.get("prefix_hit_rate") if flag == "cache_unknown" else None
    return NOTES[flag] + ("" if hits is None else f" ({100 * hits:.0f} % of the prompt tokens were in it)")


def _table(plan: Plan, cells: Sequence[PlannedCell], rows: Mapping[str, Row], title: str) -> Table:
    keys = plan.varied() or ["model.name"]
    runs: dict[str, list[PlannedCell]] = {}
    for planned in cells:
        runs.setdefault(planned.cell.run_of, []).append(planned)
    repeated = any(len(group) > 1 for group in runs.values())
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for key in keys:
        table.add_column(key.removesuffix(".name"), overflow="fold")
    for name in (
        "status",
        *(("runs",) if repeated else ()),
        "accuracy (95 %)",
        "cut",
        "TTFT p50/p99",
        "TTFVT p50",
        "TPOT p50",
        "E2E p50",
        "tokens/s",
    ):
        table.add_column(name, justify="left" if name == "status" else "right")
    for planned, *others in runs.values():
        stored = [rows.get(one.cell.cell_id, {}) for one in (planned, *others)]
        done = [row for row in stored if row.get("status") == "done"]
        own = overrides_of(planned.cell)
        first = (
            [own.get(key, "") for key in keys] if keys != ["model.name"] else [planned.cell.config.model.name]
        )
        counts = Counter(_status(row) for row in stored)
        statuses = [f"{count} {status}" if len(counts) > 1 else status for status, count in counts.items()]
        shown = [str(len(done)) if others else ""] if repeated else []
        numbers = _numbers(stored[0]) if not others else _over_runs(done)
        table.add_row(*first, ", ".join(statuses), *shown, *numbers)
    return table


def _status(row: Row) -> str:
    return str(row.get("status", "not run")) + (" (simulated)" if row.get("simulated") else "")


def _numbers(row: Row) -> list[str]:
    cut = row.get("truncated_rate")
    return [
        _share(row.get("accuracy"), row.get("accuracy_low"), row.get("accuracy_high")),
        "" if cut is None else f"{100 * cut:.0f} %",
        "/".join(_seconds(row.get(key)) for key in ("ttft_s_p50", "ttft_s_p99")).strip("/"),
        _seconds(row.get("ttfvt_s_p50")),
        _seconds(row.get("tpot_s_p50")),
        _seconds(row.get("e2e_s_p50")),
        "" if row.get("output_token_per_s") is None else f"{row['output_token_per_s']:,.1f}",
    ]


def _over_runs(rows: Sequence[Row]) -> list[str]:
    """As `_numbers`, of the runs that count: their means with the interval whose unit is the run. Accuracy's
    is over the items, which all runs share: the mean of theirs."""

    def mean_of(key: str) -> float | None:
        return mean(present(row.get(key) for row in rows))

    def seconds(key: str) -> str:
        found = over_runs(present(row.get(key) for row in rows))
        return "" if found is None else _seconds(found.mean, found.half)

    accuracy, low, high = (mean_of(f"accuracy{end}") for end in ("", "_low", "_high"))
    cut = mean_of("truncated_rate")
    rate = over_runs(present(row.get("output_token_per_s") for row in rows))
    return [
        _share(accuracy, low, high),
        "" if cut is None else f"{100 * cut:.0f} %",
        "/".join(seconds(key) for key in ("ttft_s_p50", "ttft_s_p99")).strip("/"),
        *(seconds(key) for key in ("ttfvt_s_p50", "tpot_s_p50", "e2e_s_p50")),
        "" if rate is None else _within(rate.mean, rate.half, ",.1f"),
    ]


def _within(mean: float, half: float | None, form: str) -> str:
    return f"{mean:{form}}" + ("" if half is None else f" ± {half:{form}}")


def _share(accuracy: float | None, low: float | None, high: float | None) -> str:
    if accuracy is None or low is None or high is None:
        return ""
    return f"{100 * accuracy:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _seconds(value: float | None, half: float | None = None) -> str:
    if value is None:
        return ""
    if value >= 1:
        return f"{_within(value, half, '.2f')} s"
    return f"{_within(1000 * value, half and 1000 * half, '.1f')} ms"
