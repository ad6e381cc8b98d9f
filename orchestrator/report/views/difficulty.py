"""Running time against difficulty: the levels that a dataset has, else how long a question's answers are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.metrics.runs import over_runs
from orchestrator.metrics.significance import LEVEL
from orchestrator.metrics.stats import mean
from orchestrator.report.names import Names
from orchestrator.report.theme import Figure, data_of
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import (
    SLIGHT,
    Rows,
    below,
    by_setting,
    colors,
    cut_said,
    drawn_said,
    heading,
    kinds,
    label,
    number,
    of_items,
)

BY_LEVEL, BY_TOKENS = "level", "tokens"
MOST_GROUPS, FEWEST_OF_GROUP = 4, 5  # of questions without levels, ordered by their tokens
_TITLES = {
    BY_LEVEL: "level, as the dataset has it (1 is the easiest)",
    BY_TOKENS: "output tokens of a question, mean over the configurations",
}


def difficulty(variants: Sequence[Variant], names: Names) -> Figure | None:
    """Mean E2E of the questions of each level, for reasoning and standard models; None where no setting has
    two levels, nor two configurations that answered the same ten questions."""
    rows: Rows = []
    for of in by_setting(variants, names).values():
        rows += _of_setting(of, names)
    if not rows:
        return None
    return Figure(
        "difficulty",
        "Running time against difficulty",
        "Mean time of a whole answer of each configuration by difficulty, with 95 % intervals; the numbers "
        "are in the CSV file.",
        "Means over questions with 95 % intervals (Student's). Where a dataset has no levels, the questions "
        "that all configurations answered are put in equal groups by their mean output tokens."
        + cut_said(variants)
        + drawn_said(variants, names),
        _chart(rows),
        rows,
        _advice(rows),
    )


def _of_setting(variants: Sequence[Variant], names: Names) -> Rows:
    groups, by = _groups(variants)
    rows: Rows = []
    for variant in variants:
        seconds, tokens = variant.item_means("e2e_s"), variant.item_means("output_tokens")
        easiest = list[float]()
        for place, items in groups:
            values = [seconds[item] for item in items if item in seconds]
            found = over_runs(values)
            if found is not None:
                easiest = easiest or values
                rows.append(
                    {
                        **label(variant, names),
                        **{"by": by, "difficulty": place, "questions": found.runs, "seconds": found.mean},
                        **{"low": None if found.low is None else max(0.0, found.low), "high": found.high},
                        "p": None if values is easiest else _p(easiest, values),
                        "tokens": mean([tokens[item] for item in items if item in tokens]),
                    }
                )
    return rows


def _p(easiest: Sequence[float], values: Sequence[float]) -> float | None:
    """Welch's test of the logarithms, whose unit is the question; None where it has too few."""
    from scipy.stats import ttest_ind  # here: scipy takes long to import

    if min(len(easiest), len(values)) < 2 or min(*easiest, *values) <= 0:
        return None
    p = float(ttest_ind(np.log(values), np.log(easiest), equal_var=False).pvalue)
    return p if np.isfinite(p) else None


def _groups(variants: Sequence[Variant]) -> tuple[list[tuple[float, list[str]]], str]:
    """Questions by difficulty, the easiest first, each group with its place on the axis."""
    levels: dict[str, int] = {}
    for variant in variants:
        levels |= of_items(variant, "level")
    if len(there := sorted(set(levels.values()))) > 1:
        return [
            (float(level), [item for item, its in levels.items() if its == level]) for level in there
        ], BY_LEVEL
    tokens = [variant.item_means("output_tokens") for variant in variants]
    tokens = [one for one in tokens if one]
    if len(tokens) < 2:  # of one configuration time and tokens are nearly the same thing
        return [], BY_TOKENS
    common = set.intersection(*(set(one) for one in tokens))
    means = {item: float(np.mean([one[item] for one in tokens])) for item in common}
    count = min(MOST_GROUPS, len(common) // FEWEST_OF_GROUP)
    if count < 2:
        return [], BY_TOKENS
    order = sorted(common, key=lambda item: (means[item], item))
    ends = np.linspace(0, len(order), count + 1).round().astype(int)
    parts = [order[first:end] for first, end in itertools.pairwise(ends)]
    return [(float(np.mean([means[item] for item in part])), part) for part in parts], BY_TOKENS


def _chart(rows: Rows) -> Any:
    import altair as alt

    color = colors(rows)
    charts = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        of = [row for row in rows if row["setting"] == setting]
        places = sorted({row["difficulty"] for row in of})
        by = of[0]["by"]
        axis = alt.Axis(values=places, format="d") if by == BY_LEVEL else alt.Axis()
        x = alt.X("difficulty:Q", title=_TITLES[by], axis=axis, scale=alt.Scale(zero=False, padding=16))
        base = alt.Chart(data_of(of), width=560, height=240)
        y = alt.Y("seconds:Q", title="whole answer (E2E, mean), s")
        dash = alt.StrokeDash("kind:N", legend=None)
        whiskers = base.mark_rule().encode(x=x, y="low:Q", y2="high:Q", color=color)
        line = base.mark_line().encode(x=x, y=y, color=color, strokeDash=dash)
        dots = base.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, y=y, color=color, shape=kinds(rows)
        )
        charts.append(alt.layer(whiskers, line, dots).properties(title=heading(setting)))
    return below(charts)


def _advice(rows: Rows) -> str:
    """Of the steepest of each kind; what its questions do not tell is not said."""
    steepest: dict[str, tuple[float, dict[str, Any], dict[str, Any]]] = {}
    lines = list(dict.fromkeys((row["setting"], row["label"]) for row in rows))
    for key in lines:
        of = [row for row in rows if (row["setting"], row["label"]) == key]
        first, last = dict(of[0]), dict(of[-1])
        if len(of) < 2 or not first["seconds"] > 0:
            continue
        times = last["seconds"] / first["seconds"]
        if first["kind"] not in steepest or times > steepest[first["kind"]][0]:
            steepest[first["kind"]] = times, first, last
    if not steepest:
        return "Ask more questions (limit): no configuration has answered both easy and hard ones."
    said = []
    for kind, (times, first, last) in steepest.items():
        what = f"{first['label']} ({kind})" if len(steepest) > 1 else first["label"]
        said.append(
            f"{what} takes {number(times)} times as long on the hardest questions as on the easiest "
            f"({number(last['seconds'])} s against {number(first['seconds'])} s, {first['setting']})"
        )
    times, first, last = max(steepest.values(), key=lambda one: one[0])
    told = "; ".join(said)
    if last["p"] is None or last["p"] * len(lines) > LEVEL:
        return f"{told}: with so few questions that is not told from chance, so ask more (limit)."
    if times < 1 + SLIGHT:
        return f"{told}: difficulty costs no time here, and one limit on E2E fits all levels."
    return (
        f"{told}: set limits and time-outs by the hardest questions, and compare configurations on the same "
        "mix of them only."
    )
