"""How each significant difference comes about: bars from one side's number to the other's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.report.comparisons import Line
from orchestrator.report.explain.answer_time import answer_time
from orchestrator.report.explain.step_time import step_time
from orchestrator.report.explain.throughput import throughput
from orchestrator.report.explain.waterfall import Bar, Waterfall
from orchestrator.report.names import Names
from orchestrator.report.theme import COLORS, FAINT, INK, Figure, data_of
from orchestrator.report.views.common import PERCENT, Rows, below, heading, listed, number

MOST, MOST_STORED = 6, 60  # waterfalls in the figure and in its CSV, the largest differences first
SEEN = 0.0005  # of the larger side: a bar of less is written as none
_EXPLAINED = {"e2e": (answer_time,), "throughput": (throughput, step_time)}
_WHOLE, _BETTER, _WORSE = "measured", "for the better", "for the worse"


def explained(lines: Sequence[Line]) -> list[Waterfall]:
    """Of the pairs whose E2E or throughput differs significantly (with one run on a side: within this run),
    the largest differences first, at most `MOST_STORED`."""
    largest = sorted(filter(_differs, lines), key=lambda line: -abs(line.difference or 0.0))
    return [
        waterfall
        for line in largest[:MOST_STORED]
        for explain in _EXPLAINED[line.measure.key]
        if (waterfall := explain(line.pair)) is not None
    ]


def _differs(line: Line) -> bool:
    if line.measure.key not in _EXPLAINED:
        return False
    inside = line.low is not None and line.high is not None and (line.low > 0 or line.high < 0)
    return line.verdict == "different" or (line.verdict == "within this run" and inside)


def waterfalls(lines: Sequence[Line], names: Names) -> Figure | None:
    """None where nothing differs, or nothing is stored that would explain it."""
    found = explained(lines)
    if not found:
        return None
    rows = [row for waterfall in found for row in _rows(waterfall, names)]
    more = f" The largest {MOST} are drawn; the CSV has {len(found)}." if len(found) > MOST else ""
    notes = " ".join(dict.fromkeys(f"{one.title}: {one.note}" for one in found[:MOST]))
    return Figure(
        "explanation",
        "How the differences come about",
        "For each difference the bars of what it is made of, from the baseline's number to the other's: "
        + " ".join(sentence(one, names) for one in found[:MOST]),
        "Bars add up to the measured difference (logarithmic mean Divisia index). Lines are 95 % intervals; "
        f"a hollow bar is not told apart from 0, or has no interval. {notes}{more}",
        _chart(found[:MOST], names),
        rows,
        " ".join(sentence(one, names) for one in found[:MOST]),
        "In words:",
    )


def sentence(waterfall: Waterfall, names: Names) -> str:
    """``r1-7b · fp8: the whole answer takes 21 % less, 11.9 s for 15.1 s: −4.1 s by time per token.``"""
    change = PERCENT * waterfall.difference / waterfall.before
    said = f"{'more' if change > 0 else 'less'}"
    values = f"{number(waterfall.after)} for {number(waterfall.before)} {waterfall.unit}"
    sure = [f"{_signed(bar.value)} {waterfall.unit} by {bar.name}" for bar in waterfall.largest()]
    unsure = [bar.name for bar in waterfall.bars if not bar.sure and bar.value]
    parts = [listed(sure, len(sure))] if sure else []
    if unsure:
        parts.append(f"{listed(unsure, len(unsure))} not told apart from 0")
    end = f" {waterfall.saw}" if waterfall.saw else ""
    return (
        f"{names.whole(waterfall.pair.variant)}: {waterfall.title} {number(abs(change))} % {said} than "
        f"{names.configuration(waterfall.pair.baseline)} ({values}): {'; '.join(parts)}.{end}"
    )


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '−'}{number(abs(value))}"


def _rows(waterfall: Waterfall, names: Names) -> Rows:
    """The two sides and the bars between them, in order, each from ``start`` to ``end``."""
    of = {
        "configuration": names.whole(waterfall.pair.variant),
        "against": names.configuration(waterfall.pair.baseline),
        "quantity": waterfall.title,
        "unit": waterfall.unit,
    }
    found: Rows = [_side(of, names.configuration(waterfall.pair.baseline), waterfall.before)]
    at, whole = waterfall.before, max(abs(waterfall.before), abs(waterfall.after))
    for bar in waterfall.bars:
        said = _signed(bar.value) if abs(bar.value) >= SEEN * whole else "≈ 0" if bar.value else "0"
        worse = (bar.value > 0) == waterfall.longer_is_worse
        found.append(_between(of, bar, at, said, worse=worse))
        at += bar.value
    return [*found, _side(of, names.configuration(waterfall.pair.variant), waterfall.after)]


def _side(of: dict[str, str], name: str, value: float) -> dict[str, Any]:
    return {**of, "bar": name, "start": 0.0, "end": value, "value": value, "low": None, "high": None} | {
        "what": _WHOLE,
        "sure": True,
        "said": number(value),
        "side": True,
    }


def _between(of: dict[str, str], bar: Bar, at: float, said: str, *, worse: bool) -> dict[str, Any]:
    return {**of, "bar": bar.name, "start": at, "end": at + bar.value, "value": bar.value} | {
        "low": None if bar.low is None else at + bar.low,
        "high": None if bar.high is None else at + bar.high,
        "what": _WORSE if worse else _BETTER,
        "sure": bar.sure,
        "said": said,
        "side": False,
    }


def _chart(these: Sequence[Waterfall], names: Names) -> Any:
    import altair as alt

    color = alt.Scale(domain=[_WHOLE, _BETTER, _WORSE], range=[FAINT, COLORS[0], COLORS[1]])
    charts = []
    for waterfall in these:
        rows = [{**row, "place": place} for place, row in enumerate(_rows(waterfall, names))]
        title = f"{names.whole(waterfall.pair.variant)}: {waterfall.title}"
        base = alt.Chart(data_of(rows), width=430, height=alt.Step(22), title=heading(title))
        y = alt.Y("bar:N", title=None, sort=alt.SortField("place"))
        x = alt.X("start:Q", title=waterfall.unit)
        drawn = alt.Color("what:N", scale=color, legend=alt.Legend(orient="bottom"))
        bars = base.mark_bar(strokeWidth=1.5).encode(
            x=x,
            x2="end:Q",
            y=y,
            color=drawn,
            stroke=alt.Stroke("what:N", scale=color, legend=None),
            fillOpacity=alt.condition("datum.sure", alt.value(1), alt.value(0)),
        )
        spans = base.transform_filter("datum.low !== null").mark_rule(color=INK).encode(
            x="low:Q", x2="high:Q", y=y
        )  # fmt: skip
        said = base.transform_calculate(right="max(datum.start, datum.end, datum.high)").mark_text(
            align="left", dx=5, color=INK
        ).encode(x="right:Q", y=y, text="said:N")  # fmt: skip
        charts.append(alt.layer(bars, spans, said))
    return below(charts)
