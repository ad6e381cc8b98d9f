"""Told to stop thinking (``thinking_budget``) against being cut off (``max_tokens``): accuracy, and where the
tokens of an answer go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.metrics.compare import Comparison, compare_accuracy
from orchestrator.metrics.significance import holm
from orchestrator.metrics.stats import mean
from orchestrator.report.accuracy import AccuracyRow
from orchestrator.report.limits import CUT
from orchestrator.report.names import Names
from orchestrator.report.theme import COLORS, INK, MOST_SETTINGS, Figure, data_of
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import PERCENT, below, first, heading, number
from orchestrator.report.views.enough import at_most, least_enough, lost

WIDTH, HEIGHT = 300, 210
TOLD, CUT_OFF = "told to stop (thinking_budget)", "cut off (max_tokens)"
OFF = "off"
GROWN = 1.5  # times as many visible tokens: it goes on thinking in its answer
AS_LONG = 0.15  # answers whose mean tokens differ by no larger share are called as long
MOST_SAID = 2
_BUDGETS = ("max_tokens", "thinking_budget")

Point = tuple[dict[str, Any], Variant]


@dataclass(frozen=True)
class Line:
    """One configuration. ``told``: at the largest ``max_tokens`` that has several thinking budgets, those in
    ascending order, off last. ``cut``: at each ``max_tokens`` without a thinking budget, the smallest first;
    empty where there is one alone."""

    told: list[Point]
    cut: list[Point]

    @property
    def who(self) -> str:
        row, _ = self.told[0]
        return f"{row['label']} ({row['setting']})"


def told_to_stop(
    variants: Sequence[Variant], accuracies: Sequence[AccuracyRow], names: Names
) -> Figure | None:
    """Of configurations that were measured with two values of ``thinking_budget`` (off is one) and all else
    the same."""
    lines = _lines(variants, {row.variant: row for row in accuracies}, names)
    if not lines:
        return None
    rows = [row for line in lines for row, _ in (*line.told, *line.cut)]
    return Figure(
        "told-to-stop",
        "Told to stop thinking, or cut off",
        "Accuracy with 95 % intervals against the mean tokens of an answer, of thinking that is ended at a "
        "budget and of answers that are cut off; and the mean tokens of an answer at each thinking budget, "
        "thought and visible ones.",
        "Left: circles are told to stop thinking at the budget beside them, squares on dashes are cut off at "
        "the max_tokens beside them. Intervals cover 95 %, over questions. An answer that is cut off counts "
        "as wrong. Right: thought below, visible tokens above, since a model that is told to stop may go on "
        "thinking in its visible answer; no bar where thought was not counted. Of each configuration the "
        f"largest max_tokens that has several thinking budgets; at most {MOST_SETTINGS} configurations.",
        _chart(lines),
        rows,
        _advice(lines),
    )


def _lines(variants: Sequence[Variant], graded: dict[Variant, AccuracyRow], names: Names) -> list[Line]:
    found: dict[Any, list[Variant]] = {}
    for variant in variants:
        if variant.row.get("max_tokens") is not None:
            key = variant.configuration, tuple(one for one in variant.setting if one[0] not in _BUDGETS)
            found.setdefault(key, []).append(variant)
    lines = []
    for of in found.values():
        if all(one.row.get("thinking_budget") == of[0].row.get("thinking_budget") for one in of):
            continue  # most studies: their requests need not be read
        at: dict[int, list[Point]] = {}
        for variant in of:
            row = _row(variant, graded.get(variant), names)
            if row["tokens"] is not None:
                at.setdefault(row["max_tokens"], []).append((row, variant))
        several = [most for most, members in at.items() if len(members) > 1]
        told = sorted(at[max(several)], key=lambda one: _place(one[0])) if several else []
        if any(_drawn(row) for row, _ in told):
            off = [one for most in sorted(at) for one in at[most] if one[0]["thinking_budget"] is None]
            cut = [({**row, "way": CUT_OFF, "budget": f"{row['max_tokens']:,}"}, one) for row, one in off]
            lines.append(Line(told, cut if len(cut) > 1 else []))
    return first(lines, lambda line: line.told[0][1].facts["opt"], MOST_SETTINGS)


def _drawn(row: dict[str, Any]) -> bool:
    return row["accuracy"] is not None or row["thinking"] is not None


def _place(row: dict[str, Any]) -> float:
    """Off is no limit."""
    return float("inf") if row["thinking_budget"] is None else float(row["thinking_budget"])


def _row(variant: Variant, accuracy: AccuracyRow | None, names: Names) -> dict[str, Any]:
    budget = variant.row.get("thinking_budget")
    _, tokens = variant.of_requests("output_tokens")
    answers = _answers(variant)
    thinking = mean([one.thought for one in answers])
    row: dict[str, Any] = {
        **{"label": names.configuration(variant), "setting": names.setting_but(variant, *_BUDGETS)},
        **{"way": TOLD, "budget": OFF if budget is None else f"{int(budget):,}"},
        **{"thinking_budget": budget, "max_tokens": int(variant.row["max_tokens"])},
        **{"tokens": mean(tokens), "thinking": thinking, "visible": mean([one.visible for one in answers])},
        **{"accuracy": None, "accuracy_low": None, "accuracy_high": None},
        **{"cut_off": variant.mean("truncated_rate"), "e2e": variant.mean("e2e_s_mean")},
    }
    if accuracy is not None:
        row |= {"accuracy": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
    shares = ("accuracy", "accuracy_low", "accuracy_high", "cut_off")
    return row | {name: None if row[name] is None else PERCENT * row[name] for name in shares}


@dataclass(frozen=True)
class _Answer:
    item: str
    thought: int
    visible: int
    cut: bool


def _answers(variant: Variant) -> list[_Answer]:
    """Of the ok requests of all runs. None of them where the thought of any was not counted: what the others
    have is no mean of all."""
    found = []
    for run in variant.runs:
        columns = {} if run.requests is None else run.requests.columns
        wanted = ("item_id", "outcome", "finish_reason", "output_tokens", "reasoning_tokens")
        if not all(name in columns for name in wanted):
            return []
        for item, outcome, ended, output, thought in zip(*(columns[one] for one in wanted), strict=True):
            if outcome != "ok":
                continue
            if output is None or thought is None:
                return []
            found.append(_Answer(item, int(thought), int(output) - int(thought), ended == "length"))
    return found


def _chart(lines: Sequence[Line]) -> Any:
    import altair as alt

    charts = []
    for line in lines:
        panels = [one for one in (_accuracy_chart(line), _tokens_chart(line)) if one is not None]
        if panels:
            row, _ = line.told[0]
            title = heading(f"{row['label']} ({row['setting']}), max_tokens {row['max_tokens']:,}")
            charts.append(_apart_scales(alt.hconcat(*panels, spacing=24)).properties(title=title))
    return _apart_scales(below(charts)) if len(charts) > 1 else below(charts)


def _apart_scales(charts: Any) -> Any:
    """With a legend under each chart, where colour, shape and dash are one."""
    return charts.resolve_scale(color="independent", shape="independent", strokeDash="independent")


def _accuracy_chart(line: Line) -> Any:
    import altair as alt

    rows = [row for row, _ in (*line.told, *line.cut) if row["accuracy"] is not None]
    if not rows:
        return None
    ways = list(dict.fromkeys(row["way"] for row in rows))
    legend = alt.Legend(orient="bottom", columns=1) if len(ways) > 1 else None
    color = alt.Color("way:N", scale=alt.Scale(domain=[TOLD, CUT_OFF], range=list(COLORS[:2])), legend=legend)
    shape = alt.Shape(
        "way:N", scale=alt.Scale(domain=[TOLD, CUT_OFF], range=["circle", "square"]), legend=legend
    )
    dash = alt.StrokeDash(
        "way:N", scale=alt.Scale(domain=[TOLD, CUT_OFF], range=[[1, 0], [5, 4]]), legend=legend
    )
    x = alt.X("tokens:Q", title="tokens of an answer (mean)", scale=alt.Scale(zero=False, padding=24))
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100]))
    base = alt.Chart(data_of(rows), width=WIDTH, height=HEIGHT)
    whiskers = base.mark_rule().encode(x=x, y="accuracy_low:Q", y2="accuracy_high:Q", color=color)
    path = base.mark_line().encode(x=x, y=y, color=color, strokeDash=dash, order=alt.Order("tokens:Q"))
    dots = base.mark_point(filled=True, size=65, opacity=1).encode(x=x, y=y, color=color, shape=shape)
    above = base.transform_filter(alt.datum.way == TOLD).mark_text(dx=-8, dy=-8, align="right", color=INK)
    under = base.transform_filter(alt.datum.way == CUT_OFF).mark_text(dx=8, dy=8, align="left", color=INK)
    said = [one.encode(x=x, y=y, text="budget:N") for one in (above, under)]
    return alt.layer(whiskers, path, dots, *said)


def _tokens_chart(line: Line) -> Any:
    import altair as alt

    kinds = ("thinking", "visible")
    rows = [
        {"budget": row["budget"], "kind": kind, "tokens": row[kind], "order": place}
        for row, _ in line.told
        if row["thinking"] is not None
        for place, kind in enumerate(kinds)
    ]
    if not rows:
        return None
    return (
        alt.Chart(data_of(rows), width=max(120, 44 * len(line.told)), height=HEIGHT)
        .mark_bar(stroke=INK, strokeWidth=0.5)
        .encode(
            x=alt.X(
                "budget:O",
                sort=[row["budget"] for row, _ in line.told],
                title="thinking budget",
                axis=alt.Axis(labelAngle=0),
            ),
            y=alt.Y("tokens:Q", stack="zero", title="tokens of an answer (mean)"),
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=list(kinds), range=[COLORS[6], COLORS[2]]),
                legend=alt.Legend(orient="bottom"),
            ),
            order=alt.Order("order:Q"),
        )
    )


def _advice(lines: Sequence[Line]) -> str:
    told = sorted((_told(line) for line in lines), key=lambda one: -one[0])
    return " ".join(said for _, said in told[:MOST_SAID])


def _told(line: Line) -> tuple[float, str]:
    """Of one configuration: how many times as long an answer takes with the largest budget as with the one
    that is enough (0 where none is), and all that is said of it."""
    saves, said = _enough(line)
    parts = [said, _grown(line), _versus(line)]
    return saves, f"{'; '.join(part for part in parts if part)}."


def _enough(line: Line) -> tuple[float, str]:
    top, _ = line.told[-1]
    found = least_enough([variant for _, variant in line.told])
    if found is None:
        return 0.0, f"Grade the same questions at two thinking budgets of {line.who}: no two can be compared"
    row, _ = line.told[found.place]
    if not found.enough:
        return 0.0, (
            f"Leave {line.who} its thinking ({top['budget']}): told to stop at {row['budget']} it loses "
            f"{lost(found.low, found.high)} of accuracy{_many_cut(top)}"
        )
    saves, time = 1.0, ""
    if row["e2e"] and top["e2e"]:
        saves = top["e2e"] / row["e2e"]
        less = PERCENT * (1 - row["e2e"] / top["e2e"])
        what = f"saves {number(less)} %" if less > 0 else "saves nothing"
        time = f" and {what} of the time of an answer ({number(row['e2e'])} s, not {number(top['e2e'])})"
    return saves, (
        f"Tell {line.who} to stop thinking at {row['budget']} tokens where this loss is small enough: "
        f"against {top['budget']} it loses at most {at_most(found.low)} of accuracy (95 %){time}"
        f"{_many_cut(top)}"
    )


def _many_cut(top: dict[str, Any]) -> str:
    if top["cut_off"] is None or top["cut_off"] <= PERCENT * CUT:
        return ""
    return (
        f", where max_tokens {top['max_tokens']:,} cuts off {number(top['cut_off'])} % of the answers at "
        f"{top['budget']}"
    )


def _grown(line: Line) -> str:
    """Of the budget whose visible tokens grow the most against the largest one's, over the questions that it
    answers to the end: one that is cut off while it thinks has no visible tokens to compare with."""
    whole: dict[str, list[int]] = {}
    answers = _answers(line.told[-1][1])
    cut = {one.item for one in answers if one.cut}
    for one in answers:
        if one.item not in cut:
            whole.setdefault(one.item, []).append(one.visible)
    most, at = 0.0, OFF
    for row, variant in line.told[:-1]:
        there: dict[str, list[int]] = {}
        for one in _answers(variant):
            there.setdefault(one.item, []).append(one.visible)
        shared = [item for item in there if item in whole]
        before = sum(mean(whole[item]) or 0.0 for item in shared)
        times = sum(mean(there[item]) or 0.0 for item in shared) / before if before else 0.0
        if times > most:
            most, at = times, row["budget"]
    if most < GROWN:
        return ""
    return (
        f"told to stop at {at} it writes {number(most)} times as many visible tokens: it goes on thinking in "
        "its answer"
    )


def _versus(line: Line) -> str:
    """Each thinking budget against the closest ``max_tokens`` that cuts answers off to about its length: the
    clearest by its p after Holm's correction, else the closest. Empty where only one way was measured."""
    if not line.cut:
        return ""
    reference, pairs = line.told[-1][1], []
    cut_off = [one for one in line.cut if one[1] is not reference and one[0]["cut_off"] != 0]
    for told in line.told:
        near = [one for one in cut_off if _apart(told[0], one[0]) <= AS_LONG]
        if near and told[0]["thinking_budget"] is not None:
            cut = min(near, key=lambda one: _apart(told[0], one[0]))
            compared = compare_accuracy(*cut[1].graded, *told[1].graded)
            if compared is not None and compared.low is not None:
                pairs.append((told[0], cut[0], compared))
    if not pairs:
        return (
            "whether it is better told to stop or cut off is not to be seen: no two answers are of about the "
            "same length"
        )
    sure = holm([one.p for _, _, one in pairs])
    place = min(range(len(pairs)), key=lambda i: (1.0 if sure[i] is None else sure[i], _apart(*pairs[i][:2])))
    told_row, cut_row, found = pairs[place]
    return _said(told_row, cut_row, found, shown=found.verdict(adjusted_p=sure[place]) == "different")


def _apart(told: dict[str, Any], cut: dict[str, Any]) -> float:
    """How much longer or shorter an answer is, as a share."""
    return abs(float(told["tokens"]) / float(cut["tokens"]) - 1)


def _said(told: dict[str, Any], cut: dict[str, Any], found: Comparison, *, shown: bool) -> str:
    lengths = f"{number(told['tokens'])} and {number(cut['tokens'])} tokens an answer"
    ways = f"told to stop at {told['budget']}", f"cut off at {cut['budget']}"
    low, high = PERCENT * (found.low or 0.0), PERCENT * (found.high or 0.0)
    if not shown:
        span = f"{_signed(low)} to {_signed(high)} points"
        return f"not decided: {ways[0]} or {ways[1]} ({lengths}), the former is {span} more accurate"
    more = "more" if found.difference > 0 else "less"
    least, most = sorted((abs(low), abs(high)))
    return (
        f"{ways[0]} it is {number(least)} to {number(most)} points {more} accurate than {ways[1]} ({lengths})"
    )


def _signed(points: float) -> str:
    return f"{'+' if points > 0 else '−' if points < 0 else ''}{number(abs(points))}"
