"""The paper's table: accuracy, the service's side and the user's side of each model and optimization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.metrics.runs import over_runs
from orchestrator.report.accuracy import AccuracyRow
from orchestrator.report.names import Names
from orchestrator.report.tables import NO_VALUE, Table
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import PERCENT, listed, number

_COLUMNS = (  # column, title, scale
    ("accuracy", "Accuracy, %", PERCENT),
    ("truncated_rate", "Cut off, %", PERCENT),
    ("output_token_per_s", "Service: tokens/s", 1.0),
    ("output_token_per_s_per_gpu", "Service: tokens/s/GPU", 1.0),
    ("ttfvt_s_mean", "User: first visible (TTFVT), s", 1.0),
    ("e2e_s_mean", "User: whole answer (E2E), s", 1.0),
)
_SERVICE = ("output_token_per_s_per_gpu", "output_token_per_s")  # the first that all have


def asu_table(variants: Sequence[Variant], accuracies: Sequence[AccuracyRow], names: Names) -> Table | None:
    """Means over the runs, ± half of Student's 95 % interval from two runs on; accuracy with its interval
    over questions. None unless an accuracy and a rate or a time were measured."""
    shown = [one for one in _COLUMNS if any(variant.values(one[0]) for variant in variants)]
    if not any(column == "accuracy" for column, _, _ in shown) or len(shown) < 2:
        return None
    group = {variant: f"{names.model(variant)} on {names.setting(variant)}" for variant in variants}
    graded = {row.variant: row for row in accuracies}
    variants = sorted(variants, key=lambda one: _place(one, names))
    cells = [
        [
            group[variant],
            names.engine(variant),
            str(len(variant.runs)),
            *(_cell(variant, column, scale, graded.get(variant)) for column, _, scale in shown),
        ]
        for variant in variants
    ]
    rows: list[Mapping[str, Any]] = [
        {
            **{"model": variant.facts["model"], "setting": names.setting(variant)},
            **{"configuration": names.engine(variant), "opt": variant.facts["opt"]},
            **{"dataset": variant.facts["dataset"], "max_tokens": variant.facts["max_tokens"]},
            "runs": len(variant.runs),
            **{column: variant.mean(column) for column, _, _ in shown},
        }
        for variant in variants
    ]
    head = ("Model", "Configuration", "Runs", *(title for _, title, _ in shown))
    note = (
        "Means over the runs with 95 % intervals: of accuracy over the questions, else over the runs. A "
        f"dash: not measured. {_advice(variants, group, names)}"
    )
    return Table("asu", "Accuracy, service and user (ASU)", note, head, cells, rows)


def _place(variant: Variant, names: Names) -> tuple[str, str, int, str]:
    """By model, dataset and budget, as numbers go."""
    facts = variant.facts
    return facts["model"], facts["dataset"], int(variant.row.get("max_tokens") or 0), names.setting(variant)


def _cell(variant: Variant, column: str, scale: float, graded: AccuracyRow | None) -> str:
    if column == "accuracy" and graded is not None and graded.low is not None and graded.high is not None:
        return f"{scale * graded.value:.1f} ({scale * graded.low:.1f} to {scale * graded.high:.1f})"
    found = over_runs(variant.values(column))
    if found is None:
        return NO_VALUE
    half = "" if found.half is None else f" ± {number(scale * found.half)}"
    return number(scale * found.mean) + half


def _advice(variants: Sequence[Variant], group: Mapping[Variant, str], names: Names) -> str:
    """In how many groups one configuration leads on all three sides; equal values lead together."""
    all_three, compared = list[str](), 0
    for name in dict.fromkeys(group.values()):
        of = [variant for variant in variants if group[variant] == name]
        service = next((one for one in _SERVICE if all(variant.values(one) for variant in of)), None)
        sides = (("accuracy", 1.0), (service, 1.0), ("e2e_s_mean", -1.0))
        leaders = [_leaders(of, column, sign) for column, sign in sides if column is not None]
        if len(of) < 2 or len(leaders) < 3 or not all(leaders):
            continue
        compared += 1
        if both := set.intersection(*leaders):
            all_three.append(f"{names.engine(next(one for one in of if one in both))} ({name})")
    if not compared:
        return (
            "What to do: measure a second configuration on all three sides; there is nothing to choose yet."
        )
    check = "and the comparisons say which lead is more than chance"
    if not all_three:
        return (
            "What to do: choose by the side that limits you, since no configuration leads on all three sides "
            f"in any of {compared}; {check}."
            if compared > 1
            else "What to do: choose by the side that limits you, since no configuration leads on all three; "
            f"{check}."
        )
    rest = compared - len(all_three)
    others = f", elsewhere ({rest}) choose by the side that limits you" if rest else ""
    return f"What to do: look first at what leads on all three sides, {listed(all_three)}{others}; {check}."


def _leaders(variants: Sequence[Variant], column: str, sign: float) -> set[Variant]:
    """Empty where one of them has no such number."""
    values = {variant: variant.mean(column) for variant in variants}
    known = {variant: sign * value for variant, value in values.items() if value is not None}
    if len(known) < len(variants):
        return set()
    best = max(known.values())
    return {variant for variant, value in known.items() if value == best}
