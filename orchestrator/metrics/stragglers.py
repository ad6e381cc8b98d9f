"""What the last few requests of a cell cost."""

from __future__ import annotations

from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.requests import attempted
from orchestrator.metrics.stats import ratio

ENDED = 95  # per cent
FEWEST = 20  # requests of which the last is 5 %
COLUMNS = ("straggler_time_s", "straggler_share", "straggler_gpu_idle_share")


def stragglers(measurement: Measurement) -> dict[str, float | None]:
    """The stretch from when 95 % of the attempted requests have ended to the end of the window.

    straggler_time_s = its length; straggler_share = that / window; straggler_gpu_idle_share = 1 − (mean
    running requests in it / mean running requests before it), None where the stretch is empty. All None
    below 20 attempted requests, where no request is among the last 5 %, and where the end of the window cut
    requests off, which leaves no last ones.
    """
    window, running = measurement.window, measurement.running
    ends = sorted(record.end_s for record in measurement.records if attempted(record))
    if window is None or len(ends) < FEWEST or measurement.cut:
        return dict.fromkeys(COLUMNS)
    enough = -(-len(ends) * ENDED // 100)
    begins_s = max(ends[enough - 1], window.start_s)
    share = ratio(running.mean(begins_s, window.end_s), running.mean(window.start_s, begins_s))
    return {
        "straggler_time_s": window.end_s - begins_s,
        "straggler_share": (window.end_s - begins_s) / window.duration_s,
        "straggler_gpu_idle_share": None if share is None else 1 - share,
    }
