"""A measured difference, and the bars that it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.pairs import Pair

EXACT = 1e-9  # of the larger side


@dataclass(frozen=True)
class Bar:
    """One factor's contribution, in the unit of its waterfall, with its 95 % interval where there is one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def sure(self) -> bool:
        """Whether it is told apart from 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, eq=False)
class Waterfall:
    """``after`` − ``before`` is the sum of the bars. ``longer_is_worse``: of times. ``note`` says of what the
    numbers are, ``saw`` what else the measurement tells of the cause."""

    pair: Pair
    key: str
    title: str
    unit: str
    before: float
    after: float
    bars: tuple[Bar, ...]
    longer_is_worse: bool
    note: str
    saw: str = ""

    def __post_init__(self) -> None:
        rest = math.fsum([self.before, *(bar.value for bar in self.bars), -self.after])
        if abs(rest) > EXACT * max(abs(self.before), abs(self.after)):
            raise ValueError(f"{self.key}: the bars leave {rest} of {self.after - self.before}")

    @property
    def difference(self) -> float:
        return self.after - self.before

    def largest(self) -> Sequence[Bar]:
        """Those that are told apart from 0, the largest first."""
        return sorted((bar for bar in self.bars if bar.sure), key=lambda bar: -abs(bar.value))
