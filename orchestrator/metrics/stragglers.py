"""What the last few requests of a cell cost."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.metrics.requests import attempted
from orchestrator.metrics.stats import ratio
from orchestrator.metrics.window import Steps, Window
from orchestrator.records import Record

ENDED = 95  # per cent


def stragglers(records: Sequence[Record], window: Window | None, running: Steps) -> dict[str, float | None]:
    """The stretch from when 95 % of the attempted requests have ended to the end of the window.

    straggler_time_s = its length; straggler_share = that / window; straggler_gpu_idle_share = 1 − (mean
    running requests in it / mean running requests before it), None where the stretch is empty.
    """
    if window is None:
        return dict.fromkeys(("straggler_time_s", "straggler_share", "straggler_gpu_idle_share"))
    ends = sorted(record.end_s for record in records if attempted(record))
    enough = -(-len(ends) * ENDED // 100)
    begins_s = max(ends[enough - 1], window.start_s)
    share = ratio(running.mean(begins_s, window.end_s), running.mean(window.start_s, begins_s))
    return {
        "straggler_time_s": window.end_s - begins_s,
        "straggler_share": (window.end_s - begins_s) / window.duration_s,
        "straggler_gpu_idle_share": None if share is None else 1 - share,
    }
