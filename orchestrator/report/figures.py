"""Figures of the variants: throughput, latencies, differences, the frontier, budget against accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from orchestrator.metrics.runs import over_runs
from orchestrator.report.accuracy import AccuracyRow
from orchestrator.report.comparisons import Line
from orchestrator.report.names import Names
from orchestrator.report.pairs import OPTIMIZATION
from orchestrator.report.pareto import Point, pareto_points, per_gpu
from orchestrator.report.theme import COLORS, FAINT, INK, MOST_ROWS, MOST_SETTINGS, Figure
from orchestrator.report.variants import Variant

OVER_RUNS, WITHIN, NONE = "95 % over runs", "95 % within one run", "no interval"
_LATENCIES = (
    ("ttft_s_p50", "First token (TTFT), s"),
    ("ttfvt_s_p50", "First visible token (TTFVT), s"),
    ("e2e_s_p50", "Whole answer (E2E), s"),
    ("tpot_s_p50", "Each further token (TPOT), ms"),
)
_PERCENT = 100.0
_SIDES: tuple[tuple[str, Literal["left", "right"], int], ...] = (("<=", "left", 4), (">", "right", 4))
_VERDICTS = {  # the colour of each
    **{"different": COLORS[0], "equivalent": COLORS[2], "undecided": COLORS[6]},
    **{"within this run": COLORS[5], "too few": COLORS[3]},
}
Rows = list[dict[str, Any]]


def throughput(variants: Sequence[Variant], names: Names) -> Figure | None:
    """Output tokens per second and GPU of each variant."""
    gpus = any(variant.row.get("gpus") for variant in variants)
    unit = "tokens/s per GPU" if gpus else "tokens/s"
    rows: Rows = []
    for variant in variants:
        divided = [max(1, variant.row.get("gpus") or 0)] * 2
        found = _interval(variant, per_gpu(variant), "output_token_per_s", divided)
        rows += [] if found is None else [{**_name(variant, names), **found}]
    if not rows:
        return None
    return Figure(
        "throughput",
        "Throughput",
        f"Output {unit} of {len(rows)} configurations with their intervals; the numbers are below.",
        f"Output {unit}, reasoning included; more is better. {_intervals_said(rows)}{_cut(rows)}",
        _dots(rows, f"output {unit}"),
        rows,
    )


def latency(variants: Sequence[Variant], names: Names) -> Figure | None:
    """Medians of the latencies of each variant."""
    import altair as alt

    rows: Rows = []
    for column, title in _LATENCIES:
        scale = 1000.0 if title.endswith("ms") else 1.0
        for variant in variants:
            if column.startswith("ttfvt") and (
                variant.row.get("model_kind") != "reasoning"
                or (variant.mean("ttfvt_censored_share") or 0) > 0.5
            ):
                continue
            values = [scale * value for value in variant.values(column)]
            found = _interval(variant, values, column, [1 / scale] * 2)
            rows += [] if found is None else [{**_name(variant, names), "measure": title, **found}]
    if not rows:
        return None
    shown = [title for _, title in _LATENCIES if any(row["measure"] == title for row in rows)]
    charts = [_dots([row for row in rows if row["measure"] == title], title) for title in shown]
    return Figure(
        "latency",
        "Latency",
        f"Medians of {', '.join(shown)} of each configuration with their intervals; numbers below.",
        f"Medians over the requests; less is better. {_intervals_said(rows)}{_cut(rows)}",
        alt.vconcat(*charts, spacing=26).resolve_scale(color="shared"),
        rows,
    )


def pareto(variants: Sequence[Variant], names: Names) -> Figure | None:
    """The frontier of throughput and of speed for one user."""
    import altair as alt

    points = pareto_points(variants)
    if len(points) < 2:
        return None
    several = len({point.group for point in points}) > 1
    rows = [_point(point, names, several) for point in points]
    gpus = any(variant.row.get("gpus") for variant in variants)
    data = alt.InlineData(values=rows)
    x = alt.X("x:Q", title="tokens/s that one user sees (1 / TPOT)", scale=alt.Scale(zero=False, nice=True))
    y = alt.Y("y:Q", title=f"output tokens/s per {'GPU' if gpus else 'machine'}", scale=alt.Scale(zero=False))
    color = alt.Color("group:N", legend=alt.Legend(orient="bottom", columns=1) if several else None)
    base = alt.Chart(data, width=560, height=340)
    steps = (
        base.transform_filter("datum.frontier")
        .mark_line(interpolate="step-before", strokeWidth=2)
        .encode(x=x, y=y, color=color, order="x:Q")
    )
    bars = base.transform_filter("isValid(datum.y_low)")
    high = bars.mark_rule().encode(x=x, y="y_low:Q", y2="y_high:Q", color=color)
    wide = bars.mark_rule().encode(x="x_low:Q", x2="x_high:Q", y=y, color=color)
    dots = base.mark_point(size=90, strokeWidth=2).encode(
        x=x,
        y=y,
        color=color,
        shape=alt.Shape("group:N", legend=None),
        fill=alt.condition("datum.frontier", alt.Color("group:N", legend=None), alt.value("transparent")),
    )
    middle = (min(row["x"] for row in rows) + max(row["x"] for row in rows)) / 2
    labels = [
        base.transform_filter(f"datum.frontier && datum.x {side} {middle!r}")
        .mark_text(align=align, dx=dx, dy=-10, fontSize=11, color=INK)
        .encode(x=x, y=y, text="label:N")
        for side, align, dx in _SIDES
    ]
    return Figure(
        "pareto",
        "Throughput against speed for one user",
        "Each configuration's output tokens/s per GPU against the tokens/s that one user sees; the line "
        "joins those that no other one beats in both.",
        "Filled points are on the frontier: no other configuration of the same model, GPU, dataset and "
        "budget is better in one and as good in the other. Between its steps nothing was measured. What "
        "has no such number is not drawn.",
        alt.layer(steps, high, wide, dots, *labels),
        rows,
    )


def differences(lines: Sequence[Line], names: Names) -> Figure | None:
    """Each optimization's differences from the baseline with their intervals."""
    import altair as alt

    titles = ("throughput", "e2e", "ttft", "tpot", "tokens")
    rows: Rows = [
        {
            "label": f"{names.configuration(line.pair.variant)} · {names.setting(line.pair.variant)}",
            "measure": line.measure.title,
            "value": _PERCENT * line.difference,
            "low": None if line.low is None else _PERCENT * line.low,
            "high": None if line.high is None else _PERCENT * line.high,
            "verdict": line.verdict,
        }
        for line in lines
        if line.pair.axis is OPTIMIZATION and line.measure.key in titles and line.difference is not None
    ]
    if not rows:
        return None
    kept = list(dict.fromkeys(row["label"] for row in rows))[:MOST_ROWS]
    shown = list(dict.fromkeys(row["measure"] for row in rows))
    data = alt.InlineData(values=[row for row in rows if row["label"] in kept])
    y = alt.Y("label:N", title=None, sort=None)
    scale = alt.Scale(domain=list(_VERDICTS), range=list(_VERDICTS.values()))
    color = alt.Color("verdict:N", scale=scale, legend=alt.Legend(orient="bottom", columns=5))
    base = alt.Chart(width=460, height=alt.Step(22))
    zero = base.mark_rule(color=FAINT, strokeDash=[4, 3]).encode(x=alt.datum(0))
    whiskers = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", y=y, color=color)
    dots = base.mark_point(filled=True, size=80).encode(
        x=alt.X("value:Q", title="% of the baseline"),
        y=y,
        color=color,
        shape=alt.Shape("verdict:N", legend=None),
    )
    chart = (
        alt.layer(zero, whiskers, dots, data=data)
        .facet(facet=alt.Facet("measure:N", sort=shown, header=alt.Header(labelOrient="top")), columns=1)
        .resolve_scale(x="independent")
    )
    return Figure(
        "differences",
        "What each optimization changes",
        "Differences of each optimization from its baseline, in per cent, with 95 % intervals and verdicts.",
        "In per cent of the baseline, with 95 % intervals; a point without one has too few runs. To the "
        "right is more: better for throughput, worse for times.",
        chart,
        rows,
    )


def budget(rows_of: Sequence[AccuracyRow], names: Names) -> Figure | None:
    """Accuracy against the token budget."""
    import altair as alt

    budgets_of: dict[str, set[str]] = {}
    for row in rows_of:
        budgets_of.setdefault(names.configuration(row.variant), set()).add(row.variant.facts["max_tokens"])
    rows_of = [row for row in rows_of if len(budgets_of[names.configuration(row.variant)]) > 1]
    if not rows_of:
        return None
    rows: Rows = [
        {
            "label": names.configuration(row.variant),
            "dataset": row.variant.facts["dataset"],
            "budget": int(row.variant.facts["max_tokens"]),
            "value": _PERCENT * row.value,
            "low": None if row.low is None else _PERCENT * row.low,
            "high": None if row.high is None else _PERCENT * row.high,
            "cut_off": None if row.truncated is None else _PERCENT * row.truncated,
        }
        for row in rows_of
    ]
    data = alt.InlineData(values=rows)
    budgets = sorted({row["budget"] for row in rows})
    x = alt.X(
        "budget:Q",
        scale=alt.Scale(type="log", base=2, nice=False, padding=12),
        axis=alt.Axis(values=budgets, title="token budget (max_tokens)", format="d"),
    )
    color = alt.Color("label:N", legend=alt.Legend(orient="bottom", columns=1))
    base = alt.Chart(width=520, height=260)
    y = alt.Y("value:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100]))
    chart = alt.layer(
        base.mark_rule().encode(x=x, y="low:Q", y2="high:Q", color=color),
        base.mark_line().encode(x=x, y=y, color=color),
        base.mark_point(filled=True, size=70).encode(
            x=x, y=y, color=color, shape=alt.Shape("label:N", legend=None)
        ),
        data=data,
    ).facet(row=alt.Row("dataset:N", header=alt.Header(labelOrient="top")))
    return Figure(
        "budget",
        "Budget against accuracy",
        "Accuracy of each configuration at each token budget, with 95 % intervals.",
        "An answer that is cut off at the budget counts as wrong; the table of accuracy says how many were. "
        "Raise the budget where many are cut off, before anything else is read into these numbers.",
        chart,
        rows,
    )


def _dots(rows: Rows, title: str) -> Any:
    """Points with whiskers, one line a configuration, under the name of its setting."""
    import altair as alt

    settings = list(dict.fromkeys(row["setting"] for row in rows))[:MOST_SETTINGS]
    color = alt.Color("engine:N", legend=alt.Legend(orient="bottom"))
    charts = []
    for setting in settings:
        of_setting = [row for row in rows if row["setting"] == setting][:MOST_ROWS]
        base = alt.Chart(alt.InlineData(values=of_setting), width=520, height=alt.Step(22))
        y = alt.Y("label:N", title=None, sort=None)
        dash = alt.StrokeDash(
            "interval:N",
            scale=alt.Scale(domain=[OVER_RUNS, WITHIN, NONE], range=[[1, 0], [4, 3], [1, 0]]),
            legend=None,
        )
        x = alt.X("value:Q", title=title, scale=alt.Scale(zero=True))
        whiskers = base.mark_rule(strokeWidth=2).encode(
            x="low:Q", x2="high:Q", y=y, color=color, strokeDash=dash
        )
        dots = base.mark_point(filled=True, size=80, opacity=1).encode(
            x=x, y=y, color=color, shape=alt.Shape("engine:N", legend=None)
        )
        head = alt.Title(setting, anchor="start", fontSize=12, color=INK)
        charts.append(alt.layer(whiskers, dots).properties(title=head))
    return alt.vconcat(*charts, spacing=14) if len(charts) > 1 else charts[0]


def _interval(
    variant: Variant, values: Sequence[float], column: str, divided: Sequence[float]
) -> dict[str, Any] | None:
    """Over the runs; of one run, what is stored of within it."""
    found = over_runs(values)
    if found is None:
        return None
    low, high, kind = found.low, found.high, OVER_RUNS
    if found.runs == 1:
        ends = [variant.row.get(f"{column}_{end}") for end in ("low", "high")]
        low, high = (None if end is None else end / by for end, by in zip(ends, divided, strict=True))
        kind = NONE if low is None or high is None else WITHIN
    if low is not None:
        low = max(0.0, low)
    return {"value": found.mean, "low": low, "high": high, "runs": found.runs, "interval": kind}


def _name(variant: Variant, names: Names) -> dict[str, Any]:
    return {
        "label": names.configuration(variant),
        "setting": names.setting(variant),
        "engine": variant.facts["engine"],
    }


def _point(point: Point, names: Names, several: bool) -> dict[str, Any]:
    model, _, gpu, dataset, tokens = point.group
    return {
        "label": " · ".join(filter(None, (names.engine(point.variant), names.load(point.variant)))),
        "group": f"{model}, {gpu}, {dataset}, budget {tokens}",
        "x": point.x.mean,
        "x_low": point.x.low,
        "x_high": point.x.high,
        "y": point.y.mean,
        "y_low": point.y.low,
        "y_high": point.y.high,
        "runs": point.y.runs,
        "frontier": point.on_frontier,
    }


def _intervals_said(rows: Rows) -> str:
    kinds = {row["interval"] for row in rows}
    said = []
    if OVER_RUNS in kinds:
        said.append("Solid whiskers: 95 % over runs (Student's).")
    if WITHIN in kinds:
        said.append("Dashed: 95 % within one run, which says nothing of another run.")
    if NONE in kinds:
        said.append("Without whiskers: one run, and no interval is known.")
    return " ".join(said)


def _cut(rows: Rows) -> str:
    settings = {row["setting"] for row in rows}
    most = max(sum(row["setting"] == one for row in rows) for one in settings)
    if len(settings) <= MOST_SETTINGS and most <= MOST_ROWS:
        return ""
    return (
        f" Only the first {MOST_ROWS} configurations of {MOST_SETTINGS} settings are drawn; the CSV has all."
    )
