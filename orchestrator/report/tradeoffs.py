"""Throughput against the speed that one user sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from orchestrator.report.names import Names
from orchestrator.report.pareto import Point, pareto_points
from orchestrator.report.theme import INK, Figure
from orchestrator.report.variants import Variant

_SIDES: tuple[tuple[str, Literal["left", "right"], int], ...] = (("<=", "left", 4), (">", "right", 4))


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
