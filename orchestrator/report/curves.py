"""Figures over time: how requests end, how the KV cache fills, how many requests run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.report.names import Names
from orchestrator.report.read import telemetry
from orchestrator.report.theme import INK, MOST_LINES, MOST_SETTINGS, Figure
from orchestrator.report.variants import Run, Variant

MOST_POINTS = 240  # of a line
Rows = list[dict[str, Any]]


def completion(variants: Sequence[Variant], names: Names) -> Figure | None:
    """The share of the requests that have ended, over time, of each variant's first run."""
    rows: Rows = []
    for variant in _chosen(variants, names):
        run = next((run for run in variant.runs if run.requests is not None and len(run.requests)), None)
        if run is not None:
            rows += _ended(run, _label(variant, names))
    return _lines(
        rows,
        "completion",
        "How the requests end",
        "requests ended, %",
        "A long flat end is stragglers: few requests hold the whole batch back. Batches of mixed lengths, or "
        "more requests in flight, fill the places that they leave empty.",
    )


def kv_usage(variants: Sequence[Variant], names: Names, results_dir: Path) -> Figure | None:
    """KV-cache use over time."""
    rows = _sampled(variants, names, results_dir, "kv_usage", 100.0)
    return _lines(
        rows,
        "kv",
        "KV-cache use over time",
        "KV cache in use, %",
        "Near 100 % the engine preempts requests and computes them again: an 8-bit KV cache, fewer requests "
        "in flight or more GPUs give room. Far below, more in flight cost nothing.",
    )


def running(variants: Sequence[Variant], names: Names, results_dir: Path) -> Figure | None:
    """Running requests over time."""
    rows = _sampled(variants, names, results_dir, "running", 1.0)
    return _lines(
        rows,
        "running",
        "Running requests over time",
        "requests running",
        "Where it falls long before the end, the last answers are long ones and the GPU is mostly empty.",
    )


def _chosen(variants: Sequence[Variant], names: Names) -> list[Variant]:
    """At most `MOST_LINES` of a setting, of the first `MOST_SETTINGS`."""
    by_setting: dict[str, list[Variant]] = {}
    for variant in variants:
        by_setting.setdefault(names.setting(variant), []).append(variant)
    return [one for of in list(by_setting.values())[:MOST_SETTINGS] for one in of[:MOST_LINES]]


def _label(variant: Variant, names: Names) -> dict[str, str]:
    return {"label": names.configuration(variant), "setting": names.setting(variant)}


def _ended(run: Run, label: Mapping[str, str]) -> Rows:
    """Cut-off and failed requests have ended too."""
    assert run.requests is not None
    sent = [at for at in run.requests.columns["sent_s"] if at is not None]
    ends = np.sort([at for at in run.requests.columns["end_s"] if at is not None])
    if not sent or not len(ends):
        return []
    times = np.concatenate([[0.0], ends - min(sent)])
    shares = 100 * np.arange(len(ends) + 1) / len(ends)
    return [{**label, "t_s": t, "value": share} for t, share in _thinned(times, shares)]


def _sampled(variants: Sequence[Variant], names: Names, results_dir: Path, column: str, scale: float) -> Rows:
    rows: Rows = []
    for variant in _chosen(variants, names):
        run = variant.runs[0]
        cell_id = str(run.row["cell_id"])
        table = telemetry(results_dir / run.study, [cell_id]).get(cell_id)
        if table is None or column not in table.column_names:
            continue
        times, values = _series(table, column)
        rows += [
            {**_label(variant, names), "t_s": t, "value": scale * value}
            for t, value in _thinned(times, values)
        ]
    return rows


def _series(table: pa.Table, column: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Samples that have the value; the clock's zero is the cell's start."""
    pairs = [
        (t, value)
        for t, value in zip(table["t_s"].to_pylist(), table[column].to_pylist(), strict=True)
        if t is not None and value is not None
    ]
    return np.array([t for t, _ in pairs]), np.array([value for _, value in pairs])


def _thinned(times: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> list[tuple[float, float]]:
    """At most `MOST_POINTS`, the first and the last among them."""
    if len(times) <= MOST_POINTS:
        kept = np.arange(len(times))
    else:
        kept = np.unique(np.linspace(0, len(times) - 1, MOST_POINTS).round().astype(int))
    return [(float(times[i]), float(values[i])) for i in kept]


def _lines(rows: Rows, name: str, title: str, y_title: str, what_to_do: str) -> Figure | None:
    import altair as alt

    if not rows:
        return None
    color = alt.Color("label:N", legend=alt.Legend(orient="bottom", columns=1))
    charts = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        of_setting = [row for row in rows if row["setting"] == setting]
        head = alt.Title(setting, anchor="start", fontSize=12, color=INK)
        charts.append(
            alt.Chart(alt.InlineData(values=of_setting), width=680, height=200, title=head)
            .mark_line(interpolate="step-after", strokeWidth=2)
            .encode(
                x=alt.X("t_s:Q", title="seconds"),
                y=alt.Y("value:Q", title=y_title),
                color=color,
                strokeDash=alt.StrokeDash("label:N", legend=None),
            )
        )
    chart = alt.vconcat(*charts, spacing=14) if len(charts) > 1 else charts[0]
    drawn = len({(row["setting"], row["label"]) for row in rows})
    return Figure(
        name,
        title,
        f"{y_title} over time, {drawn} lines; the numbers are in the CSV file.",
        f"The first run of at most {MOST_LINES} configurations of a setting. {what_to_do}",
        chart,
        rows,
    )
