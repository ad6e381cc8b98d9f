"""Accuracy with what it must be read beside: cut-off answers, ungradable ones, chance, the model's card, and
what mere repetition does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.metrics.accuracy import of_means
from orchestrator.metrics.runs import NullBand, null_band
from orchestrator.metrics.stats import present
from orchestrator.report.references import CHANCE, FAR, PUBLISHED
from orchestrator.report.variants import Variant


@dataclass(frozen=True, eq=False)
class AccuracyRow:
    """Shares in [0, 1]. The interval covers 95 %, clustered by item. ``band``: of two or more runs, what
    repetition alone does to it."""

    variant: Variant
    value: float
    low: float | None
    high: float | None
    items: int | None
    truncated: float | None
    ungradable: float | None
    chance: float | None
    published: float | None
    band: NullBand | None
    flags: tuple[str, ...]


def accuracy_rows(variants: Sequence[Variant]) -> list[AccuracyRow]:
    """One per variant that was graded."""
    return [row for variant in variants if (row := _row(variant)) is not None]


def _row(variant: Variant) -> AccuracyRow | None:
    values = variant.values("accuracy")
    if not values:
        return None
    stored = [run.requests for run in variant.runs if run.requests is not None]
    ungradable = present(requests.ungradable_share() for requests in stored)
    answers = variant.by_item("correct")
    pooled = of_means(answers.means.tolist(), len(answers.values))
    value = float(np.mean(values))
    single = variant.row if len(variant.runs) == 1 else {}
    low, high = (
        (pooled.low, pooled.high) if pooled else (single.get("accuracy_low"), single.get("accuracy_high"))
    )
    dataset, model = variant.facts["dataset"], variant.facts["model"]
    chance, published = CHANCE.get(dataset), PUBLISHED.get(model, {}).get(dataset)
    truncated = variant.mean("truncated_rate")
    return AccuracyRow(
        variant,
        value,
        low,
        high,
        pooled.items if pooled else variant.row.get("items"),
        truncated,
        float(np.mean(ungradable)) if ungradable else None,
        chance,
        published,
        null_band(values),
        _flags(value, high, chance, published),
    )


def _flags(
    value: float, high: float | None, chance: float | None, published: float | None
) -> tuple[str, ...]:
    found = []
    if chance is not None and value < chance:
        found.append("below_chance")
    if published is not None and value < published - FAR:
        found.append("far_from_reference")
    return tuple(found)


def remark(row: AccuracyRow) -> str:
    """What the flags mean here, in words; empty where there is nothing to say."""
    said = []
    if "below_chance" in row.flags and row.chance is not None:
        said.append(
            f"below the {100 * row.chance:.0f} % of guessing: what is measured is how answers end or are "
            "read, not what the model knows"
        )
    if "far_from_reference" in row.flags and row.published is not None:
        said.append(
            f"{100 * (row.published - row.value):.0f} points under the card's {100 * row.published:.1f} %"
        )
    if row.flags or (row.truncated or 0) > 0.1:
        if row.truncated:
            said.append(f"{100 * row.truncated:.0f} % of the answers were cut off, which counts as wrong")
        if row.ungradable:
            said.append(f"in {100 * row.ungradable:.0f} % no answer could be read")
    return "; ".join(said)
