"""What requests did before their first token, by the engine's own clock."""

from __future__ import annotations

from orchestrator.metrics.engine import counter_delta
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.stats import ratio

MAX_OTHERS = 0.01  # of the ok requests: how many more or fewer the engine may have counted


def first_token(measurement: Measurement) -> dict[str, float | None]:
    """queue_s_mean, prefill_s_mean: seconds that a request waited for its first step, and from there to its
    first token; the growth of the engine's sums over the growth of their count of requests.

    None where the engine has no such counter, and where it counted others than the ok requests (over 1 % more
    or fewer): those that were cut off or failed, or somebody else's.
    """

    def delta(field: str) -> float | None:
        return counter_delta(measurement.samples, field, measurement.window)

    counted, ok = delta("queue_requests_total"), len(measurement.ok)
    if counted is not None and abs(counted - ok) > MAX_OTHERS * ok:
        counted = None
    return {
        "queue_s_mean": ratio(delta("queue_s_total"), counted),
        "prefill_s_mean": ratio(delta("prefill_s_total"), counted),
    }
