"""The smallest budget that is enough: accuracy at each against that at the largest, question by question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.metrics.compare import compare_accuracy
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import PERCENT, number


@dataclass(frozen=True)
class Enough:
    """``place``: of the smallest budget from which on no accuracy is shown to be lower than with the last
    one, where there is one (``enough``), else of the largest below the last. ``low`` and ``high``: the
    interval of its accuracy minus the last one's, shares."""

    place: int
    enough: bool
    low: float
    high: float


def least_enough(line: Sequence[Variant]) -> Enough | None:
    """``line``: one configuration, the smallest budget first. None where nothing can be compared."""
    top, found = line[-1], None
    for place in reversed(range(len(line) - 1)):
        compared = compare_accuracy(*top.graded, *line[place].graded)
        if compared is None or compared.low is None or compared.high is None:
            break
        if compared.high < 0:
            return found or Enough(place, False, compared.low, compared.high)
        found = Enough(place, True, compared.low, compared.high)
    return found


def at_most(low: float) -> str:
    """The most that may be lost, in points."""
    return f"{number(max(0.0, -PERCENT * low))} points"


def lost(low: float, high: float) -> str:
    """What is lost for sure, and at most."""
    return f"{number(-PERCENT * high)} to {number(-PERCENT * low)} points"
