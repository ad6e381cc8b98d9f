"""All that a report says, before it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.accuracy import AccuracyRow
from orchestrator.report.answer import Answer
from orchestrator.report.comparisons import Line
from orchestrator.report.names import Names
from orchestrator.report.pairs import Alone
from orchestrator.report.variants import Apart, Variant


@dataclass(frozen=True, eq=False)
class Findings:
    """``alone``: variants without a baseline; ``apart``: cells that enter no comparison."""

    variants: Sequence[Variant]
    apart: Sequence[Apart]
    alone: Sequence[Alone]
    lines: Sequence[Line]
    accuracies: Sequence[AccuracyRow]
    answers: Sequence[Answer]
    names: Names

    @property
    def claims(self) -> list[Line]:
        """Differences that are said to be there."""
        return [line for line in self.lines if line.verdict == "different"]
