"""What several runs of one cell say together: their mean, and what mere repetition does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, slots=True)
class OverRuns:
    """The mean of one number a run, with the 95 % interval of Student's t, whose unit is the run: None with
    fewer than two runs, which tell no spread."""

    mean: float
    low: float | None
    high: float | None
    runs: int

    @property
    def half(self) -> float | None:
        """Half of the interval's length."""
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True, slots=True)
class NullBand:
    """What mere repetition does: ``sd`` is the standard deviation from run to run, and 95 % of the
    differences between two means of ``each`` further runs of that cell lie within ± ``half_width``."""

    runs: int
    mean: float
    sd: float
    each: int
    half_width: float

    def holds(self, difference: float) -> bool:
        """Whether repetition alone explains it."""
        return abs(difference) <= self.half_width


def over_runs(values: Sequence[float]) -> OverRuns | None:
    """None without a value."""
    if not len(values):
        return None
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return OverRuns(mean, None, None, count)
    half = t_quantile(count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return OverRuns(mean, mean - half, mean + half, count)


def null_band(values: Sequence[float], each: int = 1) -> NullBand | None:
    """The band from ``values``, one number a run of one cell (its accuracy, its median TTFT): the difference
    of two means of ``each`` runs over √(2 / each) times the standard deviation seen is Student's t, where the
    runs are normal. None with fewer than two runs. Raises ValueError for ``each`` below 1."""
    if each < 1:
        raise ValueError(f"each={each}: must be at least 1")
    if len(values) < 2:
        return None
    sd = float(np.std(values, ddof=1))
    half = t_quantile(len(values) - 1) * sd * math.sqrt(2 / each)
    return NullBand(len(values), float(np.mean(values)), sd, each, half)


@lru_cache(maxsize=64)
def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.special import stdtrit  # here: what only plans needs none of it

    return float(stdtrit(freedom, 0.975))
