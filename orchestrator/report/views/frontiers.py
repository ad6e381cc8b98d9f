"""Frontiers: throughput, cost and energy against the speed that one user sees, with accuracy as a third."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.report.accuracy import AccuracyRow
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.pareto import Point, cost_per_million, joules_per_million, pareto_points
from orchestrator.report.theme import FAINT, INK, MOST_ROWS, Figure, data_of
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import PERCENT, Rows, listed, number

MARGIN = 1.25  # of a logarithmic axis beyond its values
DECADE = 10.0  # from this ratio on of the largest to the smallest value an axis is logarithmic
SPAN = 20.0  # points of accuracy over which sizes differ at least, so that a slight difference looks slight
WIDTH, LETTER = 560, 6.6  # pixels: of the chart, and at most of a letter of the list below it
SIZES = (30, 320)  # of a point, square pixels
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


def frontiers(
    variants: Sequence[Variant], accuracies: Sequence[AccuracyRow], names: Names, options: Options
) -> list[Figure]:
    """Of tokens/s per GPU, of energy where it is stored, and of cost where a price is given."""

    def points(y_of: Callable[[Variant], list[float]] | None = None) -> list[Point]:
        return pareto_points(variants, y_of, y_of is not None, accuracies)

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
        _figure(throughput, points(), names),
        _figure(_ENERGY, points(joules_per_million), names),
    ]
    if price is not None:
        found.append(_figure(_COST, points(lambda variant: cost_per_million(variant, price)), names))
    return [figure for figure in found if figure is not None]


def _figure(axis: Axis, points: Sequence[Point], names: Names) -> Figure | None:
    if len(points) < 2:
        return None
    rows = _numbered([_row(point, names) for point in points])
    better = "less" if axis.less_is_better else "more"
    graded = any(row["accuracy"] is not None for row in rows)
    accuracy = (
        " The size of a point is its accuracy; a dashed one was not graded. A1 and on are beaten in both "
        "and, by the means, more accurate than all that beat them. Where a test shows that (question by "
        "question, p below 0.05 against each of them) the list says more accurate, else not decided."
    )
    marked = sum(row["mark"] is not None for row in rows)
    listed_first = f" The list has the first {MOST_ROWS} of {marked:,}." if marked > MOST_ROWS else ""
    return Figure(
        axis.name,
        axis.title,
        f"Each configuration's {axis.y_title} against the tokens/s that one user sees; the line joins those "
        "that no other one beats in both.",
        f"{axis.note}Filled points, with their numbers in the list, are on the frontier ({better} is "
        "better, and to the right): no other configuration of the same model, GPU, dataset and budgets is "
        "better in one and as good in the other. Between its steps nothing was measured. What has no such "
        f"number is not drawn.{accuracy if graded else ''}{listed_first}",
        _chart(rows, axis),
        rows,
        " ".join(filter(None, (_advice(rows, axis), _accurate(rows)))),
    )


def _row(point: Point, names: Names) -> dict[str, Any]:
    model, _, gpu, dataset, tokens, _ = point.group
    budget = "" if tokens == "none" else f", budget {tokens}"
    thinking = names.setting_of(point.variant, "thinking_budget")
    load = names.setting_but(point.variant, "dataset", "max_tokens", "thinking_budget")
    graded = point.accuracy
    return {
        "label": " · ".join(filter(None, (names.engine(point.variant), load))),
        "group": ", ".join(filter(None, (f"{model}, {gpu}, {dataset}{budget}", thinking))),
        "x": point.x.mean,
        "x_low": None if point.x.low is None else max(0.0, point.x.low),
        "x_high": point.x.high,
        "y": point.y.mean,
        "y_low": None if point.y.low is None else max(0.0, point.y.low),
        "y_high": point.y.high,
        "runs": point.y.runs,
        "frontier": point.on_frontier,
        "accuracy": None if graded is None else PERCENT * graded.value,
        "accuracy_low": None if graded is None or graded.low is None else PERCENT * graded.low,
        "accuracy_high": None if graded is None or graded.high is None else PERCENT * graded.high,
        "accuracy_flags": None if graded is None else " ".join(graded.flags) or None,
        "by_accuracy": point.by_accuracy,
    }


def _numbered(rows: Rows) -> Rows:
    """The points on a frontier count from 1, group by group and from the slow end; those that accuracy alone
    keeps from A1. ``mark`` is what stands beside a point."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    order = sorted(range(len(rows)), key=lambda i: (groups.index(rows[i]["group"]), rows[i]["x"]))
    numbers = {i: place for place, i in enumerate((i for i in order if rows[i]["frontier"]), 1)}
    letters = {i: f"A{place}" for place, i in enumerate((i for i in order if rows[i]["by_accuracy"]), 1)}
    return [
        {**row, "number": numbers.get(i), "mark": letters.get(i, str(numbers[i]) if i in numbers else None)}
        for i, row in enumerate(rows)
    ]


def _chart(rows: Rows, axis: Axis) -> Any:
    import altair as alt

    several = len({row["group"] for row in rows}) > 1
    data = data_of(rows)
    x = alt.X("x:Q", title=_SPEED, scale=alt.Scale(zero=False, nice=True))
    values = [row["y"] for row in rows]
    wide_range = axis.less_is_better and min(values) > 0 and max(values) > DECADE * min(values)
    ends = [min(values) / MARGIN, max(values) * MARGIN]
    scale = alt.Scale(type="log", domain=ends, nice=False) if wide_range else alt.Scale(zero=False)
    y = alt.Y("y:Q", title=axis.y_title, scale=scale, axis=alt.Axis(format=axis.format))
    legend = alt.Legend(orient="bottom", columns=1) if several else None
    color = alt.Color("group:N", legend=None)  # the shapes' legend has the colours
    base = alt.Chart(data, width=WIDTH, height=340)
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
    encoding = {
        **{"x": x, "y": y, "color": color, "shape": alt.Shape("group:N", legend=legend)},
        "fill": alt.condition("datum.frontier", alt.Color("group:N", legend=None), alt.value("transparent")),
    }
    marks = base.transform_filter("isValid(datum.mark)").mark_text(
        align="left", dx=9, dy=-9, fontSize=11, color=INK
    )
    dots = _dots(base, rows, encoding)
    chart = alt.layer(steps, high, wide, *dots, marks.encode(x=x, y=y, text="mark:N"))
    return alt.vconcat(chart, _list([row for row in rows if row["mark"] is not None]), spacing=8)


def _dots(base: Any, rows: Rows, encoding: dict[str, Any]) -> list[Any]:
    """Layers of points: as large as their accuracy, and dashed where others have one and they have none."""
    import altair as alt

    known = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    plain = base.mark_point(size=90, strokeWidth=2, opacity=1)
    if not known:
        return [plain.encode(**encoding)]
    middle = (min(known) + max(known)) / 2
    half = max(SPAN, max(known) - min(known)) / 2
    size = alt.Size(
        "accuracy:Q",
        scale=alt.Scale(domain=[middle - half, middle + half], range=list(SIZES), clamp=True),
        legend=alt.Legend(
            title="accuracy, %",
            orient="bottom",
            values=sorted({round(one, 1) for one in (min(known), middle, max(known))}),
            symbolFillColor="transparent",
            symbolStrokeColor=FAINT,
        ),
    )
    sized = base.transform_filter("isValid(datum.accuracy)").mark_point(strokeWidth=2, opacity=1)
    unknown = base.transform_filter("!isValid(datum.accuracy)")
    dashed = unknown.mark_point(size=90, strokeWidth=2, opacity=1, strokeDash=[3, 2])
    return [sized.encode(**encoding, size=size), dashed.encode(**encoding)]


def _list(kept: Rows) -> Any:
    """The marked points by their names, since names beside the points would cover one another."""
    import altair as alt

    several = len({row["group"] for row in kept}) > 1
    names = [
        {
            "line": f"{row['mark']}  {row['label']}"
            + (f" ({row['group']})" if several else "")
            + _accuracy_said(row),
            "place": place,
        }
        for place, row in enumerate(sorted(kept, key=_in_list))
    ]
    shown = names[:MOST_ROWS]
    wide = max([WIDTH, *(LETTER * len(str(one["line"])) for one in shown)])
    return (
        alt.Chart(data_of(shown), width=wide, height=alt.Step(17))
        .mark_text(align="left", fontSize=12, color=INK)
        .encode(x=alt.value(0), y=alt.Y("place:O", axis=None), text="line:N")
    )


def _in_list(row: dict[str, Any]) -> tuple[bool, int]:
    """Numbers before letters."""
    mark = str(row["mark"])
    return mark.startswith("A"), int(mark.removeprefix("A"))


def _accuracy_said(row: dict[str, Any]) -> str:
    """``, 92.1 % right (88.0 to 95.1)``, with its flags, and of a point that accuracy keeps whether a test
    says so; empty without an accuracy."""
    if row["accuracy"] is None:
        return ""
    low, high = row["accuracy_low"], row["accuracy_high"]
    span = "" if low is None or high is None else f" ({low:.1f} to {high:.1f})"
    flags = "" if row["accuracy_flags"] is None else f", {row['accuracy_flags'].replace(' ', ', ')}"
    kept = "" if row["by_accuracy"] is None else f": {row['by_accuracy']}"
    return f", {row['accuracy']:.1f} % right{span}{flags}{kept}"


def _accurate(rows: Rows) -> str:
    """What accuracy as a third objective adds; empty where it adds nothing."""
    named = {
        kept: [
            f"{row['mark']}, {row['label']} ({row['accuracy']:.1f} % right)"
            for row in rows
            if row["by_accuracy"] == kept
        ]
        for kept in ("more accurate", "not decided")
    }
    said = []
    if shown := named["more accurate"]:
        said.append(f"Where accuracy counts, also: {listed(shown, 2)}, more accurate than all that beat it.")
    if open_ := named["not decided"]:
        said.append(
            f"Not decided is whether accuracy keeps {listed(open_, 2)}: beaten in both, and not shown to be "
            "more accurate than each that beats it."
        )
    return " ".join(said)


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
