"""How the requests end: the completion curve, and what the last ones cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.report.names import Names
from orchestrator.report.theme import COLORS, GRID, Figure, data_of
from orchestrator.report.variants import Run, Variant
from orchestrator.report.views.common import (
    PERCENT,
    Rows,
    below,
    by_setting,
    colors,
    drawn_said,
    heading,
    label,
    number,
)

MOST_POINTS = 160  # of a curve
LAST = 5.0  # per cent of the requests are the stragglers, as in orchestrator.metrics.stragglers
LITTLE = 0.05  # places that stood empty for less of the time are not worth a change
_IDLE, _BUSY = "empty places", "places still in use"


def completion(variants: Sequence[Variant], names: Names) -> Figure | None:
    """The share of the requests that have ended, over time, of each variant's first run with requests, and
    the stragglers' share of the time, mean over the runs; None where neither is stored."""
    curves: Rows = []
    bars: Rows = []
    for of in by_setting(variants, names).values():
        for variant in of:
            run = next((run for run in variant.runs if run.requests is not None and len(run.requests)), None)
            curves += [] if run is None else _ended(run, label(variant, names))
            bars += _tail(variant, label(variant, names))
    if not curves and not bars:
        return None
    return Figure(
        "completion",
        "How the requests end",
        "Share of the requests that have ended over time, and how much of the time the last 5 % of them "
        "took; the numbers are in the CSV file.",
        "Curves: the first run. Dots: when 95 % had ended; what follows are the stragglers. Bars: their "
        "share of the time, means over the runs, split by how many of the places that were in use before "
        f"stood empty; without bars there are fewer than 20 requests.{drawn_said(variants, names)}",
        _chart(curves, bars),
        [*curves, *bars],
        _advice(bars),
    )


def _ended(run: Run, of: Mapping[str, Any]) -> Rows:
    """Cut-off and failed requests have ended too."""
    assert run.requests is not None
    sent = [at for at in run.requests.columns["sent_s"] if at is not None]
    ends = np.sort([at for at in run.requests.columns["end_s"] if at is not None])
    if not sent or not len(ends):
        return []
    times = np.concatenate([[0.0], ends - min(sent)])
    shares = PERCENT * np.arange(len(ends) + 1) / len(ends)
    kept = np.unique(np.linspace(0, len(times) - 1, min(MOST_POINTS, len(times))).round().astype(int))
    late = int(np.searchsorted(shares, PERCENT - LAST - 1e-9))
    return [
        {**of, "what": "curve", "t_s": float(times[i]), "ended": float(shares[i]), "late": bool(i == late)}
        for i in sorted({*kept.tolist(), late})
    ]


def _tail(variant: Variant, of: Mapping[str, Any]) -> Rows:
    share, idle = variant.mean("straggler_share"), variant.mean("straggler_gpu_idle_share")
    if share is None:
        return []
    facts = {**of, "what": "stragglers", "share": share, "idle": idle, "load": variant.facts["load"]}
    facts["time_s"] = variant.mean("straggler_time_s")
    empty = share * max(0.0, idle or 0.0)
    parts = ((_IDLE, empty), (_BUSY, share - empty))
    return [{**facts, "part": part, "percent": PERCENT * value} for part, value in parts]


def _chart(curves: Rows, bars: Rows) -> Any:
    """All curves with one legend, then all bars with another."""
    import altair as alt

    color = colors(curves) if curves else None
    lines, tails = [], []
    for setting, of in _of_settings(curves).items():
        base = alt.Chart(data_of(of), width=560, height=190)
        x = alt.X("t_s:Q", title="seconds since the first request")
        y = alt.Y("ended:Q", title="requests ended, %", scale=alt.Scale(domain=[0, 100]))
        line = base.mark_line(interpolate="step-after", strokeWidth=2).encode(x=x, y=y, color=color)
        dots = base.transform_filter("datum.late").mark_point(filled=True, size=70, opacity=1)
        lines.append(alt.layer(line, dots.encode(x=x, y=y, color=color)).properties(title=heading(setting)))
    for setting, of in _of_settings(bars).items():
        scale = alt.Scale(domain=[_IDLE, _BUSY], range=[COLORS[1], GRID])
        tails.append(
            alt.Chart(data_of(of), width=560, height=alt.Step(20), title=heading(setting))
            .mark_bar()
            .encode(
                x=alt.X("percent:Q", title="of the time, with only the last 5 % of the requests, %"),
                y=alt.Y("label:N", title=None, sort=None),
                color=alt.Color("part:N", scale=scale, legend=alt.Legend(orient="bottom")),
                order=alt.Order("part:N"),
            )
        )
    if len(tails) > 1:
        tails = [below(tails).resolve_scale(x="shared")]
    parts = [*([below(lines)] if lines else []), *tails]
    return below(parts).resolve_scale(color="independent") if len(parts) > 1 else parts[0]


def _of_settings(rows: Rows) -> dict[str, Rows]:
    settings = dict.fromkeys(row["setting"] for row in rows)
    return {setting: [row for row in rows if row["setting"] == setting] for setting in settings}


def _advice(bars: Rows) -> str:
    """Of the worst, by the time in which places stood empty."""
    empty = [row for row in bars if row["part"] == _IDLE and row["idle"] is not None]
    if not empty:
        return "Send at least 20 requests (limit): of fewer, nobody can say what stragglers cost."
    worst = max(empty, key=lambda row: float(row["percent"]))
    what = f"{worst['label']} ({worst['setting']})"
    if worst["percent"] < PERCENT * LITTLE:
        return (
            f"Leave the load as it is: even with {what} stragglers left places empty for only "
            f"{number(worst['percent'])} % of the time."
        )
    time = "" if worst["time_s"] is None else f"({number(worst['time_s'])} s) "
    told = (
        f"With {what} the last 5 % of the requests took {number(PERCENT * worst['share'])} % of the time "
        f"{time}with {number(PERCENT * worst['idle'])} % of the places empty"
    )
    if worst["load"] == "batch":
        return f"{told}: send a request for each one that ends (load=closed) instead of waiting for a batch."
    return f"{told}: read the steady rates (steady_*), or send more requests, since this end comes only once."
