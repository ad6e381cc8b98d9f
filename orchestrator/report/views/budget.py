"""The token budget against accuracy, answers cut off, and time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.metrics.runs import over_runs
from orchestrator.report.accuracy import AccuracyRow
from orchestrator.report.limits import CUT
from orchestrator.report.names import Names
from orchestrator.report.theme import MOST_LINES, MOST_SETTINGS, Figure, data_of
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import PERCENT, Rows, below, colors, first, heading, listed, number
from orchestrator.report.views.enough import at_most, least_enough, lost

WIDTH, HEIGHT = 190, 170
_PANELS = (("accuracy", "accuracy, %"), ("cut_off", "cut off at the budget, %"), ("e2e", "E2E (mean), s"))


Line = list[tuple[dict[str, Any], Variant]]  # of one configuration, the smallest budget first


def budget(variants: Sequence[Variant], accuracies: Sequence[AccuracyRow], names: Names) -> Figure | None:
    """Of configurations that were measured with several values of ``max_tokens`` and all else the same."""
    graded = {row.variant: row for row in accuracies}
    lines = _lines(
        (row, variant)
        for variant in variants
        if variant.row.get("max_tokens") is not None
        and any(
            (row := _row(variant, graded.get(variant), names))[column] is not None for column, _ in _PANELS
        )
    )
    if not lines:
        return None
    rows = [row for line in lines for row, _ in line]
    return Figure(
        "budget",
        "Budget against accuracy and time",
        "Accuracy, share of answers cut off and mean time of an answer of each configuration at each token "
        "budget, with 95 % intervals.",
        "Intervals cover 95 %: over questions for accuracy, over runs for times. An answer that is cut off "
        "counts as wrong: where many are, accuracy tells of the budget and not of the model. At most "
        f"{MOST_LINES} configurations of a setting.",
        _chart(rows),
        rows,
        _advice(lines),
    )


def _row(variant: Variant, graded: AccuracyRow | None, names: Names) -> dict[str, Any]:
    cut, time = variant.mean("truncated_rate"), over_runs(variant.values("e2e_s_mean"))
    row: dict[str, Any] = {
        **{"label": names.configuration(variant), "opt": variant.facts["opt"]},
        "setting": names.setting_but(variant, "max_tokens"),
        "budget": int(variant.row["max_tokens"]),
        **{"accuracy": None, "accuracy_low": None, "accuracy_high": None},
        **{"cut_off": None if cut is None else PERCENT * cut, "cut_off_low": None, "cut_off_high": None},
        "e2e": None if time is None else time.mean,
        "e2e_low": None if time is None or time.low is None else max(0.0, time.low),
        "e2e_high": None if time is None else time.high,
    }
    if graded is not None:
        found = {"accuracy": graded.value, "accuracy_low": graded.low, "accuracy_high": graded.high}
        row |= {name: None if value is None else PERCENT * value for name, value in found.items()}
    return row


def _lines(rows: Iterable[tuple[dict[str, Any], Variant]]) -> list[Line]:
    """Those with more than one budget; at most `MOST_LINES` of a setting, and `MOST_SETTINGS`."""
    found: dict[str, dict[str, Line]] = {}
    for row, variant in rows:
        found.setdefault(row["setting"], {}).setdefault(row["label"], []).append((row, variant))
    kept = [
        [line for line in of.values() if len({row["budget"] for row, _ in line}) > 1] for of in found.values()
    ]
    return [
        sorted(line, key=lambda one: int(one[0]["budget"]))
        for several in [of for of in kept if of][:MOST_SETTINGS]
        for line in first(several, lambda line: str(line[0][0]["opt"]))
    ]


def _chart(rows: Rows) -> Any:
    import altair as alt

    color = colors(rows)
    charts = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        of = [row for row in rows if row["setting"] == setting]
        x = alt.X(
            "budget:Q",
            scale=alt.Scale(type="log", base=2, nice=False, padding=12),
            axis=alt.Axis(
                values=sorted({row["budget"] for row in of}),
                title="token budget (max_tokens)",
                format="d",
                labelAngle=-45,
                grid=False,
            ),
        )
        panels = []
        for column, title in _PANELS:
            drawn = [row for row in of if row[column] is not None]
            if not drawn:
                continue
            scale = alt.Scale(domain=[0, 100]) if title.endswith("%") else alt.Scale(zero=True)
            base = alt.Chart(data_of(drawn), width=WIDTH, height=HEIGHT)
            y = alt.Y(f"{column}:Q", title=title, scale=scale)
            whiskers = base.mark_rule().encode(x=x, y=f"{column}_low:Q", y2=f"{column}_high:Q", color=color)
            line = base.mark_line(clip=True).encode(x=x, y=y, color=color)
            dots = base.mark_point(filled=True, size=55, opacity=1).encode(
                x=x, y=y, color=color, shape=alt.Shape("label:N", legend=None)
            )
            panels.append(alt.layer(whiskers, line, dots))
        charts.append(alt.hconcat(*panels, spacing=14).properties(title=heading(setting)))
    return below(charts)


def _advice(lines: Sequence[Line]) -> str:
    tops = [line[-1][0] for line in lines]
    cut = [row for row in tops if row["cut_off"] is not None and row["cut_off"] > PERCENT * CUT]
    if cut:
        worst = max(cut, key=lambda row: float(row["cut_off"]))
        return (
            f"Even at {worst['budget']:,} tokens {number(worst['cut_off'])} % of the answers of "
            f"{worst['label']} ({worst['setting']}) are cut off: measure a larger budget before anything "
            "else is read into its accuracy."
        )
    told = [said for line in lines if (said := _enough(line)) is not None]
    if not told:
        return _ungraded([[row for row, _ in line] for line in lines])
    less = [said for saves, said in sorted(told, key=lambda one: -one[0]) if saves]
    if not less:
        return f"Keep the largest budget: {listed([said for _, said in told], 2)}."
    return f"Take the smaller budget where that loss is small enough: {listed(less, 2)}."


def _enough(line: Line) -> tuple[float, str] | None:
    """Of the smallest budget that is not shown to lose, as `least_enough` has it: how many times as long an
    answer takes with the largest, 0 where that is the one, and what is said of it. None where nothing can be
    compared."""
    top, _ = line[-1]
    who = f"{top['label']} ({top['setting']})"
    found = least_enough([variant for _, variant in line])
    if found is None:
        return None
    row, _ = line[found.place]
    if not found.enough:
        return 0.0, f"{who} loses {lost(found.low, found.high)} with {row['budget']:,} tokens"
    times = row["e2e"], top["e2e"]
    time = "" if None in times else f" at {number(times[0])} s an answer instead of {number(times[1])}"
    saves = times[1] / times[0] if times[0] and times[1] else 1.0
    return saves, (
        f"{who} with {row['budget']:,} tokens instead of {top['budget']:,}{time} loses at most "
        f"{at_most(found.low)} of accuracy (95 %)"
    )


def _ungraded(lines: Sequence[Rows]) -> str:
    timed = [line for line in lines if line[0]["e2e"] and line[-1]["e2e"]]
    if not timed:
        return "Nothing can be compared between two budgets here: grade the same questions at two."
    line = max(timed, key=lambda one: float(one[-1]["e2e"] / one[0]["e2e"]))
    times = line[-1]["e2e"] / line[0]["e2e"]
    return (
        f"An answer of {line[0]['label']} takes {number(times)} times as long with {line[-1]['budget']:,} as "
        f"with {line[0]['budget']:,} tokens: grade the same questions at both before paying for it."
    )
