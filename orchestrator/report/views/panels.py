"""The engine over time, one small panel a configuration, with the same axes: KV cache, and requests."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.metrics.stats import mean
from orchestrator.report.names import Names
from orchestrator.report.read import telemetry
from orchestrator.report.theme import COLORS, INK, MOST_SETTINGS, Figure, data_of
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import PERCENT, Rows, below, first, heading, label, number

MOST_PANELS, MOST_POINTS, COLUMNS = 24, 100, 3
WIDTH, HEIGHT, LETTERS = 190, 90, 32  # of a panel, in pixels and in letters of its title
FULL, HALF_EMPTY, FILLED = 0.95, 0.5, 0.9  # of the KV cache
ABOVE = 1.1  # of the largest value, where an axis ends
QUEUED = 0.1  # of those running; fewer waiting are no queue
_LINES = {"kv_usage": "KV cache in use", "running": "running", "waiting": "waiting"}
_PREEMPTED = "preempted"


@dataclass(frozen=True, eq=False)
class Panel:
    """A variant with the telemetry of its first run."""

    variant: Variant
    of: Mapping[str, Any]
    samples: pa.Table


def over_time(variants: Sequence[Variant], names: Names, results_dir: Path) -> list[Figure]:
    """KV use with preemptions, and requests running and waiting, of the variants that have telemetry."""
    panels = _panels(variants, names, results_dir)
    drawn = f"The first run of at most {MOST_PANELS} configurations."
    rows = [row for panel in panels for row in _kv(panel)]
    queues = [row for panel in panels for row in _requests(panel)]
    found = []
    if rows:
        peak = max(row["value"] for row in rows if row["what"] == "kv_usage")
        top = PERCENT if peak > PERCENT / 2 else max(1.0, peak * ABOVE)
        found.append(
            Figure(
                "kv",
                "KV-cache use over time",
                "KV-cache use in per cent over time, one panel a configuration, with preemptions marked; the "
                "numbers are in the CSV file.",
                f"{drawn} Marks at the top: the engine preempted requests, which it computes again. The same "
                "axes within a setting.",
                _chart(rows, "KV cache in use, %", {"kv_usage": COLORS[0]}, [0, top]),
                rows,
                _kv_advice(panels, rows),
            )
        )
    if queues:
        most = max(1.0, *(row["value"] for row in queues))
        found.append(
            Figure(
                "running",
                "Requests over time",
                "Requests that run and that wait over time, one panel a configuration; the numbers are in "
                "the CSV file.",
                f"{drawn} As the engine counts them. Where running falls long before the end, the last "
                "answers are long ones. The same axes within a setting.",
                _chart(queues, "requests", {"running": COLORS[0], "waiting": COLORS[1]}, [0, ABOVE * most]),
                queues,
                _queue_advice(panels),
            )
        )
    return found


def _panels(variants: Sequence[Variant], names: Names, results_dir: Path) -> list[Panel]:
    """Of the first settings that have samples: those without take no place."""
    settings: dict[str, list[Variant]] = {}
    for variant in variants:
        settings.setdefault(names.setting(variant), []).append(variant)
    found: list[Panel] = []
    drawn = 0
    for of in settings.values():
        own = []
        for variant in first(of, lambda one: one.facts["opt"], MOST_PANELS - len(found)):
            run = variant.runs[0]
            cell_id = str(run.row["cell_id"])
            table = telemetry(results_dir / run.study, [cell_id]).get(cell_id)
            if table is not None and table.num_rows:
                own.append(Panel(variant, label(variant, names), table))
        found += own
        drawn += bool(own)
        if drawn == MOST_SETTINGS or len(found) == MOST_PANELS:
            break
    return found


def _series(panel: Panel, column: str) -> list[tuple[float, float]]:
    """Samples that have the value; the clock's zero is the cell's start."""
    if column not in panel.samples.column_names:
        return []
    pairs = zip(panel.samples["t_s"].to_pylist(), panel.samples[column].to_pylist(), strict=True)
    return [(t, value) for t, value in pairs if t is not None and value is not None and isfinite(value)]


def _thinned(series: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without those within a stretch of one value; at most `MOST_POINTS`: the largest
    and the smallest of equal parts of the samples, and both ends: neither a peak nor a drop is lost."""
    series = [
        one
        for i, one in enumerate(series)
        if not (0 < i < len(series) - 1 and series[i - 1][1] == one[1] == series[i + 1][1])
    ]
    if len(series) <= MOST_POINTS:
        return series
    parts = MOST_POINTS // 2 - 1
    ends = [round(i * len(series) / parts) for i in range(parts + 1)]
    kept = {series[0], series[-1]}
    for begin, end in pairwise(ends):
        part = series[begin:end]
        kept |= {min(part, key=lambda one: one[1]), max(part, key=lambda one: one[1])}
    return sorted(kept)


def _kv(panel: Panel) -> Rows:
    rows = [
        {**panel.of, "what": "kv_usage", "t_s": t, "value": PERCENT * value}
        for t, value in _thinned(_series(panel, "kv_usage"))
    ]
    counted = _series(panel, "preemptions_total")
    grown = [(t, after - before) for (_, before), (t, after) in pairwise(counted) if after > before]
    return rows + [{**panel.of, "what": _PREEMPTED, "t_s": t, "value": value} for t, value in grown if rows]


def _requests(panel: Panel) -> Rows:
    return [
        {**panel.of, "what": column, "t_s": t, "value": value}
        for column in ("running", "waiting")
        for t, value in _thinned(_series(panel, column))
    ]


def _chart(rows: Rows, y_title: str, lines: Mapping[str, str], y_domain: Sequence[float]) -> Any:
    import altair as alt

    scale = alt.Scale(domain=[_LINES[one] for one in lines], range=list(lines.values()))
    legend = alt.Legend(orient="bottom") if len(lines) > 1 else None
    settings = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        of = [row for row in rows if row["setting"] == setting]
        times = [row["t_s"] for row in of]
        names = list(dict.fromkeys(row["label"] for row in of))
        panels = []
        for place, name in enumerate(names):
            lowest, leftmost = place + COLUMNS >= len(names), place % COLUMNS == 0
            x = alt.X(
                "t:Q",
                title="s since the cell's start" if lowest else None,
                scale=alt.Scale(domain=[min(times), max(times)], nice=False),
                axis=alt.Axis(tickCount=4, grid=False, labels=lowest),
            )
            y = alt.Y(
                "value:Q",
                title=y_title if leftmost else None,
                scale=alt.Scale(domain=y_domain),
                axis=alt.Axis(tickCount=4, labels=leftmost, ticks=leftmost),
            )
            own = [row for row in of if row["label"] == name]
            drawn = [_short(row) for row in own if row["what"] in lines]
            base = alt.Chart(data_of(drawn), width=WIDTH, height=HEIGHT)
            chart = base.mark_line(interpolate="step-after", strokeWidth=1.5).encode(
                x=x, y=y, color=alt.Color("what:N", scale=scale, legend=legend), strokeDash=_dash(lines)
            )
            if marks := [{"t": row["t_s"]} for row in own if row["what"] == _PREEMPTED]:
                chart += (
                    alt.Chart(data_of(_apart(marks, max(times) - min(times))))
                    .mark_point(shape="triangle-down", filled=True, size=45, color=COLORS[1], opacity=1)
                    .encode(x=x, y=alt.value(4))
                )
            title = alt.Title(_wrapped(name), anchor="start", fontSize=11, color=INK, fontWeight="normal")
            panels.append(chart.properties(title=title))
        head = _wrapped(setting, LETTERS * min(COLUMNS, len(panels)))
        settings.append(alt.concat(*panels, columns=COLUMNS, spacing=12).properties(title=heading(head)))
    return below(settings)


def _dash(lines: Mapping[str, str]) -> Any:
    import altair as alt

    scale = alt.Scale(domain=[_LINES[one] for one in lines], range=[[1, 0], [4, 2]][: len(lines)])
    return alt.StrokeDash("what:N", scale=scale, legend=None)


def _wrapped(name: str, letters: int = LETTERS) -> list[str]:
    """In lines that break between the parts of the name."""
    parts = (part.replace(" ", "\u00a0") for part in name.split(" · "))
    return textwrap.wrap("\u00a0· ".join(parts), letters, break_on_hyphens=False)


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is drawn of a row, so that the figure stays light."""
    return {"t": round(row["t_s"], 2), "value": round(row["value"], 2), "what": _LINES[row["what"]]}


def _apart(marks: Sequence[Mapping[str, float]], span: float) -> list[Mapping[str, float]]:
    """Those that are told apart in a panel's width."""
    found: list[Mapping[str, float]] = []
    for mark in marks:
        if not found or mark["t"] - found[-1]["t"] > span / WIDTH * 3:
            found.append(mark)
    return found


def _kv_advice(panels: Sequence[Panel], rows: Rows) -> str:
    peaks: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["what"] == "kv_usage":
            key = row["setting"], row["label"]
            peaks[key] = max(peaks.get(key, 0.0), row["value"] / PERCENT)
    preempting = [panel for panel in panels if panel.variant.mean("preemptions")]
    if preempting:
        worst = max(preempting, key=lambda one: one.variant.mean("preemptions") or 0.0)
        peak = peaks.get(_key(worst))
        most = "" if peak is None else f" at up to {number(PERCENT * peak)} % of the KV cache"
        return (
            f"{_named(worst)} preempted {number(worst.variant.mean('preemptions') or 0.0)} times a run"
            f"{most}: {_room(worst)}."
        )
    fullest = max((panel for panel in panels if _key(panel) in peaks), key=lambda panel: peaks[_key(panel)])
    peak = peaks[_key(fullest)]
    said = f"{_named(fullest)} used most, {number(PERCENT * peak)} % of the KV cache"
    known = all(panel.variant.mean("preemptions") is not None for panel in panels)
    nobody = ", and nothing was preempted" if known else ""
    if peak >= FULL:
        return f"{said}{nobody}: {_room(fullest)}."
    if peak <= 0:
        return f"{said}: too little to say how many requests would fit."
    if peak < HALF_EMPTY:
        return (
            f"{said}{nobody}: as far as it goes, about {FILLED / peak:.1f} times as "
            "many requests at once would fit."
        )
    return f"{said}{nobody}: it fits this load, and would not fit twice as many requests at once."


def _room(panel: Panel) -> str:
    eight = "" if "kv-fp8" in panel.variant.facts["opt"] else "an 8-bit KV cache (opt=kv-fp8), "
    return f"{eight}fewer requests in flight or more GPUs give room"


def _queue_advice(panels: Sequence[Panel]) -> str:
    waits = []
    for panel in panels:
        running, waiting = (
            mean([value for _, value in _series(panel, column)]) for column in ("running", "waiting")
        )
        stored = panel.variant.mean("running_mean"), panel.variant.mean("waiting_mean")
        running, waiting = stored if None not in stored else (running, waiting)
        if running and waiting is not None:
            waits.append((waiting / running, waiting, running, panel))
    if not waits:
        return "How many requests waited is not stored, so whether a queue is the limit cannot be told."
    ratio, waiting, running, worst = max(waits, key=lambda one: one[0])
    told = f"{number(waiting)} requests waited on average while {number(running)} ran"
    if ratio > QUEUED:
        kv = worst.variant.mean("kv_usage_max")
        room = "" if kv is None else f" (the KV cache was at most {number(PERCENT * kv)} % full)"
        return (
            f"With {_named(worst)} {told}{room}: let the engine run more at once where the KV cache has "
            "room, else offer less or add GPUs."
        )
    return (
        f"Hardly anything waited ({_named(worst)}: {told}): the engine took all that was offered, so measure "
        "more requests at once before you call this its most."
    )


def _key(panel: Panel) -> tuple[str, str]:
    return panel.of["setting"], panel.of["label"]


def _named(panel: Panel) -> str:
    return f"{panel.of['label']} ({panel.of['setting']})"
