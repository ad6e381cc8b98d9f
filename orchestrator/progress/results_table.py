"""The final table: what a sweep came to, one row per cell, or one for all runs of a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.runs import over_runs
from orchestrator.metrics.stats import mean, present, without_nan
from orchestrator.plan.plan import Plan, PlannedCell, overrides_of
from orchestrator.progress.cell_notes import print_notes
from orchestrator.progress.line import Line, Row, runs_of

Show = Callable[[Sequence[Row]], str]
WIDE = 160
ID = "cell"  # the heading of the cells' ids, to be copied whole


@dataclass(frozen=True)
class Grid:
    """A table's cells as texts; the first ``left`` columns are aligned to the left."""

    title: str
    header: tuple[str, ...]
    left: int
    rows: tuple[tuple[str, ...], ...]


def wide_console(width: int = WIDE) -> Console:
    """The terminal as it is; a file or a pipe gets lines wide enough for every table. Nothing in a name is a
    style (``[fp8]``) or an emoji (``:100:``)."""
    console = Console()
    wide = None if console.is_terminal else max(console.width, width)
    return Console(width=wide, markup=False, emoji=False, highlight=False)


def print_summary(
    plan: Plan, rows: Mapping[str, Row], console: Console, beside: Mapping[str, str] | None = None
) -> None:
    """Prints every cell of the plan with what is stored for it, simulated cells in a table of their own, then
    the failures' reasons and what has to be told of the others. ``beside``: why a cell was not measured
    again, whose earlier measurement stands."""
    lines = [
        Line(
            planned.cell.cell_id,
            planned.cell.run_of,
            planned.cell.simulated,
            planned.cell.config.model.name,
            overrides_of(planned.cell),
            plan.label(planned.cell),
            None if (row := rows.get(planned.cell.cell_id)) is None else without_nan(row),
        )
        for planned in _once(plan.cells)
        if planned.status != "skipped" or planned.cell.cell_id in rows
    ]
    for table in grids(lines, plan.varied(), f"Study '{plan.study}'"):
        print_grid(table, console)
    print_notes(lines, console, beside)
    console.print(Text(f"results: {plan.study_dir}"))


def _once(cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Several jobs may be one cell (``opt=fp8,[fp8,fp8]``), which is measured once: the job that is run."""
    found: dict[str, PlannedCell] = {}
    for planned in sorted(cells, key=lambda one: one.status == "skipped"):
        found.setdefault(planned.cell.cell_id, planned)
    return [planned for planned in cells if found[planned.cell.cell_id] is planned]


def grids(lines: Sequence[Line], varied: Sequence[str], title: str, *, ids: bool = False) -> list[Grid]:
    """The table of ``lines``, and that of simulated cells; ``varied`` are the overrides that tell them apart,
    in their order. ``ids``: the cells' ids come first, of several runs the first one's."""
    made = []
    for simulated, suffix in ((False, ""), (True, ": SIMULATED, no measurement")):
        if cells := [line for line in lines if line.simulated == simulated]:
            made.append(_grid(cells, varied, title + suffix, ids))
    return made


def print_grid(grid: Grid, console: Console) -> None:
    """What comes from outside is shown as it is: brackets in it are no markup."""
    table = Table(title=Text(grid.title, "table.title"), title_justify="left", box=None, pad_edge=False)
    for number, name in enumerate(grid.header):
        if number < grid.left:
            table.add_column(Text(name), overflow="fold", no_wrap=name == ID)
        else:
            table.add_column(Text(name), justify="right")
    for row in grid.rows:
        table.add_row(*map(Text, row))
    console.print()
    console.print(table)


def _grid(lines: Sequence[Line], varied: Sequence[str], title: str, ids: bool) -> Grid:
    runs = runs_of(lines)
    repeated = any(len(group) > 1 for group in runs)
    columns = _columns([line.row or {} for line in lines])
    first = [
        *([ID] if ids else []),
        *(key.removesuffix(".name") for key in varied or ["model"]),
        "status",
    ]
    rows = []
    for line, *others in runs:
        stored = [one.row or {} for one in (line, *others)]
        done = [row for row in stored if row.get("status") == "done"]
        counts = Counter(_status(row) for row in stored)
        statuses = [f"{count} {status}" if len(counts) > 1 else status for status, count in counts.items()]
        rows.append(
            (
                *([line.cell_id] if ids else []),
                *([line.overrides.get(key, "") for key in varied] if varied else [line.model]),
                ", ".join(statuses),
                *([str(len(done)) if others else ""] if repeated else []),
                *(show(done if others else stored[:1]) for show in columns.values()),
            )
        )
    header = (*first, *(["runs"] if repeated else []), *columns)
    return Grid(title, header, len(first), tuple(rows))


def _status(row: Row) -> str:
    return str(row.get("status", "not run")) + (" (simulated)" if row.get("simulated") else "")


def _columns(rows: Sequence[Row]) -> dict[str, Show]:
    """Headings, and what each shows of the runs of a cell that count: those of every sweep, and those that
    this one asked for (a limit, an arrival rate, several sizes), has enough requests for, or that thinking
    alone has."""

    def told(key: str) -> bool:
        return any(row.get(key) is not None for row in rows)

    thinking = any(row.get("thinking_token_share") for row in rows)
    percentiles = [one for one in ("p50", "p95", "p99") if one == "p50" or told(f"ttft_s_{one}")]
    columns: dict[str, Show] = {
        "accuracy (95 %)": _accuracy,
        "cut": partial(_percent, "truncated_rate"),
        **({"cut thinking": partial(_percent, "truncated_thinking_rate")} if thinking else {}),
        f"TTFT {'/'.join(percentiles)}": partial(_seconds_of, [f"ttft_s_{one}" for one in percentiles]),
        "TTFVT p50": partial(_visible, "ttfvt_s_p50"),
        **({"thinking p50": _thinking} if thinking else {}),
        "TPOT p50": partial(_seconds_of, ["tpot_s_p50"]),
        "E2E p50": partial(_seconds_of, ["e2e_s_p50"]),
    }
    if any(told(f"slo_{limit.name}") for limit in fields(SloConfig)):
        columns |= {
            "within limits": partial(_percent, "slo_attainment"),
            "goodput/s": partial(_rate, "goodput_per_s"),
        }
    if told("offered_request_per_s"):
        columns |= {
            "offered/s": partial(_rate, "offered_request_per_s"),
            "served/s": partial(_rate, "served_request_per_s"),
        }
    columns["tokens/s"] = partial(_rate, "output_token_per_s")
    if len({row.get("gpus") for row in rows if row.get("gpus") is not None}) > 1:
        columns |= {
            "GPUs": lambda runs: str(runs[0].get("gpus") or "") if runs else "",
            "tokens/s/GPU": partial(_rate, "output_token_per_s_per_gpu"),
        }
    return columns


# Of several runs each of these shows the mean, with the interval whose unit is the run.


def _mean(key: str, runs: Sequence[Row]) -> float | None:
    return mean(present(row.get(key) for row in runs))


def _accuracy(runs: Sequence[Row]) -> str:
    """Its interval is over the items, which all runs share: the mean of theirs."""
    accuracy, low, high = (_mean(f"accuracy{end}", runs) for end in ("", "_low", "_high"))
    if accuracy is None or low is None or high is None:
        return ""
    return f"{100 * accuracy:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _percent(key: str, runs: Sequence[Row]) -> str:
    share = _mean(key, runs)
    return "" if share is None else f"{100 * share:.0f} %"


def _rate(key: str, runs: Sequence[Row]) -> str:
    found = over_runs(present(row.get(key) for row in runs))
    if found is None:
        return ""
    return _within(found.mean, found.half, ",.1f" if abs(found.mean) >= 10 else ",.2f")


def _seconds_of(keys: Sequence[str], runs: Sequence[Row]) -> str:
    found = [over_runs(present(row.get(key) for row in runs)) for key in keys]
    return "/".join("" if one is None else _seconds(one.mean, one.half) for one in found).strip("/")


def _visible(key: str, runs: Sequence[Row]) -> str:
    """A time that ends with the first visible token: a lower bound where half of the answers or more never
    showed one."""
    shown = _seconds_of([key], runs)
    bound = any((row.get("ttfvt_censored_share") or 0.0) >= 0.5 for row in runs)
    return f"≥ {shown}" if shown and bound else shown


def _thinking(runs: Sequence[Row]) -> str:
    """Blank where nothing was thought."""
    return _visible("thinking_s_p50", runs) if any(row.get("thinking_token_share") for row in runs) else ""


def _within(mean: float, half: float | None, form: str) -> str:
    return f"{mean:{form}}" + ("" if half is None else f" ± {half:{form}}")


def _seconds(value: float | None, half: float | None = None) -> str:
    if value is None:
        return ""
    if value >= 1:
        return f"{_within(value, half, '.2f')} s"
    return f"{_within(1000 * value, half and 1000 * half, '.1f')} ms"
