"""Domain against domain: accuracy and tokens by the subject or family that a dataset gives its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.metrics.accuracy import accuracy
from orchestrator.metrics.runs import over_runs
from orchestrator.metrics.significance import LEVEL
from orchestrator.report.names import Names
from orchestrator.report.theme import Figure, data_of
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import (
    PERCENT,
    Rows,
    below,
    by_setting,
    colors,
    cut_said,
    heading,
    label,
    number,
    of_items,
)

MOST, MOST_DOMAINS = 4, 20  # settings; domains of a setting, those with the most questions
FEWEST = 5  # questions of a domain that enter the test
WIDTH, BAND = 220, 9  # pixels: of a panel, and of a configuration within a domain
_PANELS = (("accuracy", "accuracy, %"), ("tokens", "output tokens of an answer (mean)"))


def domains(variants: Sequence[Variant], names: Names) -> Figure | None:
    """None where no setting's questions are of two domains."""
    rows: Rows = []
    tests: list[tuple[float, str, Variant]] = []
    for of in list(by_setting(_with_most_tokens(variants, names), names).values())[:MOST]:
        family: dict[str, str] = {}
        for variant in of:
            family |= of_items(variant, "family")
        if len(set(family.values())) < 2:
            continue
        for variant in of:
            rows += _rows(variant, family, names)
            tests += _tests(variant, family)
    if not rows:
        return None
    return Figure(
        "domains",
        "Domain against domain",
        "Accuracy and mean output tokens of each configuration by domain, with 95 % intervals.",
        "Over the questions of each domain, with 95 % intervals; the domain with the longest answers first. "
        f"Of each dataset and load the largest budget; at most {MOST} of them, and of each the "
        f"{MOST_DOMAINS} domains with the most questions." + cut_said(variants),
        _chart(rows),
        rows,
        _advice(rows, tests, names),
    )


def _with_most_tokens(variants: Sequence[Variant], names: Names) -> list[Variant]:
    """Of each dataset and load the variants with the largest budget, which cuts off the fewest answers."""
    of: dict[tuple[str, str], int] = {}
    keys = {variant: (variant.facts["dataset"], names.load(variant)) for variant in variants}
    for variant, key in keys.items():
        of[key] = max(of.get(key, 0), variant.row.get("max_tokens") or 0)
    return [variant for variant, key in keys.items() if (variant.row.get("max_tokens") or 0) == of[key]]


def _rows(variant: Variant, family: Mapping[str, str], names: Names) -> Rows:
    counts: dict[str, int] = {}
    for its in family.values():
        counts[its] = counts.get(its, 0) + 1
    kept = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_DOMAINS]
    tokens = variant.item_means("output_tokens")
    found: Rows = []
    for name in kept:
        right = accuracy(*_of(variant, family, name))
        length = over_runs([value for item, value in tokens.items() if family.get(item) == name])
        if right is None and length is None:
            continue
        found.append(
            {
                **label(variant, names),
                **{"domain": name, "questions": length.runs if length else right.items if right else 0},
                "accuracy": None if right is None else PERCENT * right.mean,
                "accuracy_low": None if right is None else PERCENT * right.low,
                "accuracy_high": None if right is None else PERCENT * right.high,
                "tokens": None if length is None else length.mean,
                "tokens_low": None if length is None or length.low is None else max(0.0, length.low),
                "tokens_high": None if length is None else length.high,
            }
        )
    return found


def _of(variant: Variant, family: Mapping[str, str], name: str) -> tuple[list[str], list[bool]]:
    items, right = variant.graded
    kept = [(item, its) for item, its in zip(items, right, strict=True) if family.get(item) == name]
    return [item for item, _ in kept], [its for _, its in kept]


def _tests(variant: Variant, family: Mapping[str, str]) -> list[tuple[float, str, Variant]]:
    """Kruskal and Wallis's test of each measure over the domains; the unit is the question."""
    from scipy.stats import kruskal  # here: scipy takes long to import

    found = []
    for measure, column in (("accuracy", "correct"), ("tokens", "output_tokens")):
        of: dict[str, list[float]] = {}
        for item, value in variant.item_means(column).items():
            if item in family:
                of.setdefault(family[item], []).append(value)
        groups = [values for values in of.values() if len(values) >= FEWEST]
        if len(groups) > 1 and len({value for group in groups for value in group}) > 1:
            found.append((float(kruskal(*groups).pvalue), measure, variant))
    return found


def _chart(rows: Rows) -> Any:
    import altair as alt

    color = colors(rows)
    charts = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        of = [row for row in rows if row["setting"] == setting]
        lengths: dict[str, float] = {}
        for row in of:
            lengths[row["domain"]] = max(lengths.get(row["domain"], 0.0), row["tokens"] or 0.0)
        order = sorted(lengths, key=lambda name: (-lengths[name], name))
        labels = list(dict.fromkeys(row["label"] for row in of))
        step = alt.Step.from_dict({"step": 12 + BAND * len(labels), "for": "position"})
        panels: list[Any] = []
        for column, title in _PANELS:
            drawn = [row for row in of if row[column] is not None]
            if not drawn:
                continue
            axis = alt.Axis() if not panels else None
            base = alt.Chart(data_of(drawn), width=WIDTH, height=step)
            y = alt.Y("domain:N", title=None, sort=order, axis=axis, scale=alt.Scale(domain=order))
            offset = alt.YOffset("label:N", sort=labels)
            scale = alt.Scale(domain=[0, 100]) if column == "accuracy" else alt.Scale(zero=True)
            x = alt.X(f"{column}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5))
            whiskers = base.mark_rule(strokeWidth=1.5).encode(
                x=f"{column}_low:Q", x2=f"{column}_high:Q", y=y, yOffset=offset, color=color
            )
            dots = base.mark_point(filled=True, size=45, opacity=1).encode(
                x=x, y=y, yOffset=offset, color=color, shape=alt.Shape("label:N", legend=None)
            )
            panels.append(alt.layer(whiskers, dots))
        charts.append(alt.hconcat(*panels, spacing=14).properties(title=heading(setting)))
    return below(charts)


def _advice(rows: Rows, tests: Sequence[tuple[float, str, Variant]], names: Names) -> str:
    """Of the clearest difference, where one is significant after Bonferroni's correction over the tests."""
    told = min(tests, key=lambda one: one[0], default=None)
    if told is None or told[0] * len(tests) > LEVEL:
        most = max(row["questions"] for row in rows)
        return (
            "Read the mean over all domains alone: none differs in accuracy or in length from the others "
            f"beyond chance, with at most {most} questions each; more (limit) would tell."
        )
    _, measure, variant = told
    of = [
        row
        for row in rows
        if (row["label"], row["setting"]) == (names.configuration(variant), names.setting(variant))
        and row[measure] is not None
        and row["questions"] >= FEWEST
    ]
    low, high = (pick(of, key=lambda row: float(row[measure])) for pick in (min, max))
    unit = " %" if measure == "accuracy" else " tokens"
    what = "accuracy" if measure == "accuracy" else "length of answers"
    return (
        f"Compare configurations domain by domain, or on the same mix: the {what} of {low['label']} "
        f"({low['setting']}) goes from {number(low[measure])}{unit} in {low['domain']} to "
        f"{number(high[measure])}{unit} in {high['domain']}."
    )
