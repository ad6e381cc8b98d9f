"""All metric columns of a cell. Definitions: docs/metrics.md and the functions called here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.accuracy import accuracy, maj_at_k, pass_at_k
from orchestrator.metrics.energy import energy
from orchestrator.metrics.engine import engine_metrics
from orchestrator.metrics.goodput import goodput
from orchestrator.metrics.keeping_up import kept_up
from orchestrator.metrics.latency import latencies
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.requests import truncated
from orchestrator.metrics.steady_state import steady_state
from orchestrator.metrics.stragglers import stragglers
from orchestrator.metrics.throughput import counts, rates
from orchestrator.records import Grade, Record


def summarize(
    measurement: Measurement, grades: Sequence[Grade] | None, slo: SloConfig
) -> dict[str, float | int | None]:
    """Every metric column of ``cells``, always the same keys; None where the cell does not hold the number.

    ``grades`` are in the order of the records, or None when nothing is graded. GPUs that others used too void
    the energy.
    """
    conditions = measurement.conditions
    return {
        **latencies(measurement),
        "receive_lag_s_p99": conditions.receive_lag_s_p99,
        "receive_lag_s_max": conditions.receive_lag_s_max,
        **accuracies(measurement.records, grades),
        **counts(measurement),
        **rates(measurement),
        **kept_up(measurement),
        **goodput(measurement, slo),
        **steady_state(measurement),
        **stragglers(measurement),
        **engine_metrics(measurement.samples, measurement.window),
        **energy(measurement),
    }


def accuracies(records: Sequence[Record], grades: Sequence[Grade] | None) -> dict[str, float | None]:
    """accuracy, accuracy_low, accuracy_high over the gradable requests; pass_at_k and maj_at_k where every
    item has k > 1 answers. A truncated answer is wrong and has no vote."""
    graded = [
        (
            record.item_id,
            grade.correct and not truncated(record),
            None if truncated(record) else grade.predicted,
        )
        for record, grade in zip(records, grades or (), strict=grades is not None)
        if grade.correct is not None
    ]
    items, correct = [item for item, _, _ in graded], [right for _, right, _ in graded]
    result = accuracy(items, correct)
    if result is None:
        return dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "pass_at_k", "maj_at_k"))
    k = min(Counter(items).values())
    return {
        "accuracy": result.mean,
        "accuracy_low": result.low,
        "accuracy_high": result.high,
        "pass_at_k": pass_at_k(items, correct, k) if k > 1 else None,
        "maj_at_k": maj_at_k(items, [given for _, _, given in graded], correct, k) if k > 1 else None,
    }
