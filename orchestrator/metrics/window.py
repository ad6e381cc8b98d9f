"""The window of a cell, and how many requests were in flight at each moment of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.requests import attempted
from orchestrator.records import Record


@dataclass(frozen=True, slots=True)
class Window:
    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Steps:
    """A count over time: ``counts[i]`` holds from ``times_s[i]`` to ``times_s[i + 1]``. Both have n entries,
    the last count is 0."""

    times_s: NDArray[np.float64]
    counts: NDArray[np.float64]

    def mean(self, start_s: float, end_s: float) -> float | None:
        """Time-weighted mean over [start, end]; None where that is empty."""
        if end_s <= start_s or not len(self.times_s):
            return None
        spent = np.diff(np.clip(self.times_s, start_s, end_s))
        return float(np.dot(self.counts[:-1], spent)) / (end_s - start_s)


def measured_window(records: Sequence[Record], ends_s: float | None = None) -> Window | None:
    """From the first ``sent`` to the last ``end``, failures included; None when nothing was sent.

    ``ends_s`` is when a load with a duration was to end: the window ends then if requests were cut or left
    unsent by it, and with the last ``end`` if all had ended before.
    """
    sent = [record.sent_s for record in records if record.sent_s is not None]
    ends = [record.end_s for record in records if attempted(record)]
    if ends_s is not None and any(record.cut_by_window for record in records):
        ends = [ends_s]
    if not sent or max(ends) <= min(sent):
        return None
    return Window(min(sent), max(ends))


def in_flight(records: Sequence[Record], limit: float | None = None) -> Steps:
    """Requests between ``sent`` and ``end``, never more than ``limit``."""
    sent = [record.sent_s for record in records if record.sent_s is not None]
    ends = [record.end_s for record in records if record.sent_s is not None]
    times_s, at = np.unique(np.array(sent + ends, np.float64), return_inverse=True)
    change = np.zeros(len(times_s))
    np.add.at(change, at, np.repeat([1.0, -1.0], len(sent)))
    counts = np.cumsum(change)
    return Steps(times_s, counts if limit is None else np.minimum(counts, limit))
