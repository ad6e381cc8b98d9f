"""What each optimization changes, by the size of the model, of reasoning and of standard models apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.report.comparisons import Line
from orchestrator.report.names import Names
from orchestrator.report.pairs import OPTIMIZATION, parameters_b
from orchestrator.report.theme import FAINT, MOST_LINES, Figure, data_of
from orchestrator.report.views.common import PERCENT, Rows, below, colors, heading, listed
from orchestrator.report.words import between, fewest_runs

MOST = 3  # settings: more dashes are not told apart
WIDTH, HEIGHT = 270, 130
_MEASURES = {  # by key of `comparisons.MEASURES`: the axis
    "throughput": "tokens/s, %",
    "e2e": "E2E (mean), %",
    "tokens": "tokens an answer, %",
    "accuracy": "accuracy, points",
}


def by_size(lines: Sequence[Line], names: Names) -> Figure | None:
    """None unless an optimization was compared at two sizes of one kind of model."""
    found = [line for line in lines if _drawn(line)]
    rows = [_row(line, names) for line in found]
    kept = list(dict.fromkeys(row["opt"] for row in rows))[:MOST_LINES]
    rows = _joined(rows)
    settings = list(dict.fromkeys(row["setting"] for row in rows if row["joined"]))[:MOST]
    drawn = [row for row in rows if row["opt"] in kept and row["setting"] in settings]
    if not any(row["joined"] for row in drawn):
        return None
    return Figure(
        "by-size",
        "Each optimization by model size",
        "Differences of each optimization from its baseline against the size of the model, in per cent, with "
        "95 % intervals; the numbers are in the CSV file.",
        "Differences from the same model on as many GPUs without the optimization, with 95 % intervals, "
        "none where there are too few runs. Lines join the sizes of one engine, setting and kind of model. "
        f"At most {MOST_LINES} optimizations in {MOST} settings are drawn; the CSV has all.",
        _chart(drawn),
        rows,
        _advice(found),
    )


def _drawn(line: Line) -> bool:
    return (
        line.pair.axis is OPTIMIZATION
        and line.measure.key in _MEASURES
        and line.difference is not None
        and line.pair.also is None
        and parameters_b(line.pair.variant) is not None
    )


def _row(line: Line, names: Names) -> dict[str, Any]:
    variant = line.pair.variant
    return {
        **{"opt": variant.facts["opt"], "kind": str(variant.row.get("model_kind") or "unknown kind")},
        **{"model": variant.facts["model"], "size_b": parameters_b(variant), "measure": line.measure.key},
        **{"engine": variant.facts["engine"], "gpus": variant.facts["gpus"]},
        "setting": names.setting(variant),
        "value": PERCENT * (line.difference or 0.0),
        "low": None if line.low is None else PERCENT * line.low,
        "high": None if line.high is None else PERCENT * line.high,
        "verdict": line.verdict,
    }


def _joined(rows: Rows) -> Rows:
    """With the name of each row's line, and whether it joins it to another size. Where a line would have two
    rows of one size, deployments of different numbers of GPUs have lines of their own; what then still has
    two is not joined."""
    by = ["measure", "kind", "opt", "engine", "setting"]
    for more in ([], ["gpus"]):
        names = [*by, *more]
        sizes: dict[tuple[str, ...], list[float]] = {}
        for row in rows:
            sizes.setdefault(tuple(str(row[name]) for name in names), []).append(row["size_b"])
        if all(len(set(own)) == len(own) for own in sizes.values()):
            break
    found = []
    for row in rows:
        line = tuple(str(row[name]) for name in names)
        own = sizes[line]
        joined = len(own) > 1 and len(set(own)) == len(own)
        found.append({**row, "line": " · ".join(line[2:]), "joined": joined})
    return found


def _chart(rows: Rows) -> Any:
    import altair as alt

    color = colors(rows, "opt")
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    sizes = sorted({row["size_b"] for row in rows})
    x = alt.X(
        "size_b:Q",
        scale=alt.Scale(type="log", nice=False, padding=14, domain=[sizes[0], sizes[-1]]),
        axis=alt.Axis(
            values=sizes, title="parameters, 1e9", format="~g", labelExpr="format(datum.value,'.2~g')"
        ),
    )
    several = len({row["setting"] for row in rows}) > 1
    legend = alt.Legend(orient="bottom", columns=1, symbolStrokeColor=FAINT) if several else None
    bands = []
    for measure, title in _MEASURES.items():
        of = [row for row in rows if row["measure"] == measure]
        if not of:
            continue
        panels = []
        for kind in kinds:
            data = data_of([row for row in of if row["kind"] == kind])
            base = alt.Chart(data, width=WIDTH, height=HEIGHT)
            y = alt.Y("value:Q", title=title)
            zero = base.mark_rule(color=FAINT, strokeDash=[4, 3]).encode(y=alt.datum(0))
            line = (
                base.transform_filter("datum.joined")
                .mark_line()
                .encode(
                    x=x,
                    y=y,
                    color=color,
                    detail="line:N",
                    strokeDash=alt.StrokeDash("setting:N", legend=legend),
                )
            )
            whiskers = base.mark_rule().encode(x=x, y="low:Q", y2="high:Q", color=color)
            dots = base.mark_point(filled=True, size=55, opacity=1).encode(
                x=x, y=y, color=color, shape=alt.Shape("opt:N", legend=None)
            )
            panels.append(alt.layer(zero, line, whiskers, dots).properties(title=heading(kind)))
        bands.append(alt.hconcat(*panels, spacing=14).resolve_scale(y="shared"))
    return below(bands)


def _advice(lines: Sequence[Line]) -> str:
    """From what is significant: accuracy that is lost comes first, then tokens/s."""
    worse = [
        line for line in lines if line.measure.key == "accuracy" and _told(line) and line.better is False
    ]
    if worse:
        return (
            f"Leave out {listed([_named(line) for line in worse])}: it costs accuracy there, whatever it "
            "gives in tokens/s."
        )
    rates = [line for line in lines if line.measure.key == "throughput"]
    gains = [line for line in rates if _told(line) and line.better]
    losses = [line for line in rates if _told(line) and line.better is False]
    if gains and losses:
        return (
            f"Choose by size: {listed([_said(line) for line in gains])}, but "
            f"{listed([_said(line) for line in losses])} (tokens/s)."
        )
    if gains:
        rest = len(rates) - len(gains)
        others = f"; of {rest} others nothing is shown" if rest else ""
        return f"Take what gains tokens/s for certain: {listed([_said(line) for line in gains])}{others}."
    if losses:
        return f"Leave it out where it costs tokens/s: {listed([_said(line) for line in losses])}."
    if all(line.verdict == "equivalent" for line in rates):
        return "Choose by accuracy and memory: at no size does any of them change tokens/s beyond the margin."
    single = any(line.verdict in ("within this run", "too few") for line in rates)
    more = f"runs={max(map(fewest_runs, rates))} can tell" if single else "more runs can tell"
    return f"Decide nothing by size yet: no difference in tokens/s is significant at any size, and {more}."


def _told(line: Line) -> bool:
    return line.verdict == "different"


def _named(line: Line) -> str:
    return f"{line.pair.variant.facts['opt']} on {line.pair.variant.facts['model']}"


def _said(line: Line) -> str:
    return f"{_named(line)} {between(line)}"
