"""Frontiers: throughput, cost and energy against the speed that one user sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.pareto import Point, cost_per_million, joules_per_million, pareto_points
from orchestrator.report.theme import INK, MOST_ROWS, Figure
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import Rows, listed, number

MARGIN = 1.25  # of a logarithmic axis beyond its values
DECADE = 10.0  # from this ratio on of the largest to the smallest value an axis is logarithmic
_SPEED = "tokens/s that one user sees (1 / TPOT)"


@dataclass(frozen=True)
class Axis:
    """What stands against the speed. ``unit`` follows a number in a sentence, ``best`` names what is best."""

    name: str
    title: str
    y_title: str
    unit: str
    best: str
    note: str
    less_is_better: bool = False
    format: str = ",~f"  # of the axis's numbers, in d3's language


_COST = Axis(
    "frontier-cost",
    "Cost against speed for one user",
    "cost of a million output tokens",
    "per million tokens",
    "cheapest",
    "The price of the GPUs of the deployment while the load lasted, at price.gpu_hour each; starting the "
    "engine and idle hours are not in it. ",
    True,
)
_ENERGY = Axis(
    "frontier-energy",
    "Energy against speed for one user",
    "joules per million output tokens",
    "J per million tokens",
    "most frugal",
    "The energy of all GPUs of the deployment in the window, as NVML counts it; the rest of the machine is "
    "not in it. ",
    True,
    "~s",
)


def frontiers(variants: Sequence[Variant], names: Names, options: Options) -> list[Figure]:
    """Of tokens/s per GPU, of energy where it is stored, and of cost where a price is given."""
    unit = "GPU" if any(variant.row.get("gpus") for variant in variants) else "machine"
    throughput = Axis(
        "pareto",
        "Throughput against speed for one user",
        f"output tokens/s per {unit}",
        f"tokens/s per {unit}",
        "most productive",
        "",
    )
    price = options.price_gpu_hour
    found = [
        _figure(throughput, pareto_points(variants), names),
        _figure(_ENERGY, pareto_points(variants, joules_per_million, True), names),
    ]
    if price is not None:
        points = pareto_points(variants, lambda variant: cost_per_million(variant, price), True)
        found.append(_figure(_COST, points, names))
    return [figure for figure in found if figure is not None]


def _figure(axis: Axis, points: Sequence[Point], names: Names) -> Figure | None:
    if len(points) < 2:
        return None
    rows = _numbered([_row(point, names) for point in points])
    better = "less" if axis.less_is_better else "more"
    return Figure(
        axis.name,
        axis.title,
        f"Each configuration's {axis.y_title} against the tokens/s that one user sees; the line joins those "
        "that no other one beats in both.",
        f"{axis.note}Filled points, with their numbers in the list, are on the frontier ({better} is "
        "better, and to the right): no other configuration of the same model, GPU, dataset and budget is "
        "better in one and as good in the other. Between its steps nothing was measured. What has no such "
        "number is not drawn.",
        _chart(rows, axis),
        rows,
        _advice(rows, axis),
    )


def _row(point: Point, names: Names) -> dict[str, Any]:
    model, _, gpu, dataset, tokens = point.group
    return {
        "label": " · ".join(filter(None, (names.engine(point.variant), names.load(point.variant)))),
        "group": f"{model}, {gpu}, {dataset}, budget {tokens}",
        "x": point.x.mean,
        "x_low": None if point.x.low is None else max(0.0, point.x.low),
        "x_high": point.x.high,
        "y": point.y.mean,
        "y_low": None if point.y.low is None else max(0.0, point.y.low),
        "y_high": point.y.high,
        "runs": point.y.runs,
        "frontier": point.on_frontier,
    }


def _numbered(rows: Rows) -> Rows:
    """The points on a frontier count from 1, group by group and from the slow end."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    kept = [i for i, row in enumerate(rows) if row["frontier"]]
    order = sorted(kept, key=lambda i: (groups.index(rows[i]["group"]), rows[i]["x"]))
    numbers = {i: number for number, i in enumerate(order, 1)}
    return [{**row, "number": numbers.get(i)} for i, row in enumerate(rows)]


def _chart(rows: Rows, axis: Axis) -> Any:
    import altair as alt

    several = len({row["group"] for row in rows}) > 1
    data = alt.InlineData(values=rows)
    x = alt.X("x:Q", title=_SPEED, scale=alt.Scale(zero=False, nice=True))
    values = [row["y"] for row in rows]
    wide_range = axis.less_is_better and min(values) > 0 and max(values) > DECADE * min(values)
    ends = [min(values) / MARGIN, max(values) * MARGIN]
    scale = alt.Scale(type="log", domain=ends, nice=False) if wide_range else alt.Scale(zero=False)
    y = alt.Y("y:Q", title=axis.y_title, scale=scale, axis=alt.Axis(format=axis.format))
    color = alt.Color("group:N", legend=alt.Legend(orient="bottom", columns=1) if several else None)
    base = alt.Chart(data, width=560, height=340)
    steps = (
        base.transform_filter("datum.frontier")
        .mark_line(interpolate="step-before", strokeWidth=2)
        .encode(x=x, y=y, color=color, order="x:Q")
    )
    bars = base.transform_filter("isValid(datum.y_low)")
    if wide_range:  # 0 has no place on it
        bars = bars.transform_calculate(y_low=f"max(datum.y_low, {ends[0]!r})")
    high = bars.mark_rule(clip=True).encode(x=x, y="y_low:Q", y2="y_high:Q", color=color)
    wide = bars.mark_rule(clip=True).encode(x="x_low:Q", x2="x_high:Q", y=y, color=color)
    dots = base.mark_point(size=90, strokeWidth=2, opacity=1).encode(
        x=x,
        y=y,
        color=color,
        shape=alt.Shape("group:N", legend=None),
        fill=alt.condition("datum.frontier", alt.Color("group:N", legend=None), alt.value("transparent")),
    )
    numbers = base.transform_filter("isValid(datum.number)").mark_text(
        align="left", dx=8, dy=-8, fontSize=11, color=INK
    )
    chart = alt.layer(steps, high, wide, dots, numbers.encode(x=x, y=y, text="number:Q"))
    return alt.vconcat(chart, _list([row for row in rows if row["number"] is not None]), spacing=8)


def _list(kept: Rows) -> Any:
    """The numbered points by their names, since names beside the points would cover one another."""
    import altair as alt

    several = len({row["group"] for row in kept}) > 1
    names = [
        {
            "line": f"{row['number']}  {row['label']}" + (f" ({row['group']})" if several else ""),
            "place": row["number"],
        }
        for row in kept
    ]
    shown = sorted(names, key=lambda one: one["place"])[:MOST_ROWS]
    return (
        alt.Chart(alt.InlineData(values=shown), width=560, height=alt.Step(17))
        .mark_text(align="left", fontSize=12, color=INK)
        .encode(x=alt.value(0), y=alt.Y("place:O", axis=None), text="line:N")
    )


def _advice(rows: Rows, axis: Axis) -> str:
    """Of the groups with a choice: the two ends of the frontier, by the means."""
    groups = [
        [row for row in rows if row["group"] == group] for group in dict.fromkeys(r["group"] for r in rows)
    ]
    said = [_ends(of, axis, len(groups) > 1) for of in groups if len(of) > 1]
    if not said:
        return "Measure a second configuration of the same model, dataset and budget: there is no choice yet."
    one = [text for single, text in said if single]
    if len(one) == len(said):
        return f"Take what is best in both by the means: {listed(one, 2)}."
    both = [text for _, text in said]
    return f"Take the {axis.best} configuration that is fast enough for your users: {listed(both, 2)}."


def _ends(rows: Rows, axis: Axis, several: bool) -> tuple[bool, str]:
    """Whether one configuration is the whole frontier, and its ends in words."""
    kept = sorted((row for row in rows if row["frontier"]), key=lambda row: float(row["x"]))
    slow, fast = kept[0], kept[-1]
    where = f" ({slow['group']})" if several else ""
    if len({(row["x"], row["y"]) for row in kept}) == 1:
        return True, f"{slow['label']}{where} with {_values(slow, axis)}"
    return False, (
        f"from {slow['label']} with {_values(slow, axis)} to {fast['label']} with "
        f"{_values(fast, axis)}{where}"
    )


def _values(row: dict[str, Any], axis: Axis) -> str:
    return f"{number(row['y'])} {axis.unit} at {number(row['x'])} tokens/s a user"
