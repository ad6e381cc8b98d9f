"""What the first token waited for, as far as the engines of both sides tell."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.report.pairs import Pair
from orchestrator.report.variants import Run

_TOLD = ("queue_s_mean", "prefill_s_mean")  # of cells; the second only beside the first
_NAMES = (
    ("queue and prefill together",),
    ("queue", "prefill and front end"),
    ("queue", "prefill", "front end"),
)


@dataclass(frozen=True)
class Split:
    """``columns`` hold what the engine says of the first token, seconds a request; what they leave of it is
    the last of ``names``. ``note``: why they tell nothing."""

    columns: tuple[str, ...]
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the bars: one for each column, and the rest."""
        return _NAMES[len(self.columns)]

    @property
    def prefill(self) -> str:
        """What the last bar but the front end is called in a sentence."""
        return ("the first token", "what the queue leaves of the first token", "prefill")[len(self.columns)]


def split(pair: Pair, first_s: tuple[list[float], list[float]]) -> Split:
    """``first_s``: the mean TTFT of each run with requests, by side."""
    sides = [[run for run in side.runs if run.requests is not None] for side in (pair.baseline, pair.variant)]
    columns = [
        column
        for number, column in enumerate(_TOLD, 1)
        if all(_known(run, _TOLD[:number]) for side in sides for run in side)
    ]
    if not columns:
        return Split((), f"Queue and prefill are not told apart: {_lacking(sides)}.")
    while columns and not all(
        _sum(run, columns) <= first
        for side, firsts in zip(sides, first_s, strict=True)
        for run, first in zip(side, firsts, strict=True)
    ):
        columns.pop()
    if not columns:
        return Split((), "Queue and prefill are not told apart: the engine's queue time is above the TTFT.")
    return Split(tuple(columns))


def _known(run: Run, columns: tuple[str, ...]) -> bool:
    return all(run.row.get(column) is not None for column in columns)


def _sum(run: Run, columns: list[str]) -> float:
    return float(sum(run.row[column] for column in columns))


def _lacking(sides: list[list[Run]]) -> str:
    baseline, variant = ([run for run in side if not _known(run, _TOLD[:1])] for side in sides)
    where = "either side" if baseline and variant else "the baseline" if baseline else "the other side"
    return f"no queue time of the engine is stored for {where}"
