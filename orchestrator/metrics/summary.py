"""All metric columns of a cell. Definitions: docs/metrics.md and the functions called here."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.accuracy import accuracy, maj_at_k, pass_at_k
from orchestrator.metrics.cache import warm_share
from orchestrator.metrics.energy import energy
from orchestrator.metrics.engine import engine_metrics
from orchestrator.metrics.first_token import first_token
from orchestrator.metrics.goodput import goodput
from orchestrator.metrics.interval import intervals
from orchestrator.metrics.keeping_up import kept_up
from orchestrator.metrics.latency import latencies
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.requests import truncated
from orchestrator.metrics.steady_state import steady_state
from orchestrator.metrics.stragglers import stragglers
from orchestrator.metrics.throughput import counts, rates, retries
from orchestrator.records import Grade, Record


def summarize(
    measurement: Measurement, grades: Sequence[Grade] | None, slo: SloConfig
) -> dict[str, float | int | None]:
    """Every metric column of ``cells``, always the same keys; None where the cell does not hold the number.

    ``grades`` are in the order of the records, or None when nothing is graded. GPUs that others used too void
    the energy.
    """
    conditions = measurement.conditions
    result = {
        **latencies(measurement),
        "receive_lag_s_p99": conditions.receive_lag_s_p99,
        "receive_lag_s_max": conditions.receive_lag_s_max,
        "unasked_connections": conditions.unasked_connections,
        **accuracies(measurement.records, grades),
        **counts(measurement),
        "retries": retries(measurement.records),
        **rates(measurement),
        **kept_up(measurement),
        **goodput(measurement, slo),
        **steady_state(measurement),
        **stragglers(measurement),
        **engine_metrics(measurement.samples, measurement.window),
        **first_token(measurement),
        "cache_warm_share": warm_share(measurement),
        **energy(measurement),
    }
    return result | intervals(measurement, slo, result)


def accuracies(records: Sequence[Record], grades: Sequence[Grade] | None) -> dict[str, float | None]:
    """accuracy, accuracy_low, accuracy_high over the gradable requests; pass_at_k and maj_at_k where every
    item has k > 1 answers. A truncated answer is wrong and has no vote; equal ones have one, `Grade.vote`."""
    graded = [
        (
            record.item_id,
            grade.correct and not truncated(record),
            None if truncated(record) else grade.vote or grade.predicted,
        )
        for record, grade in zip(records, grades or (), strict=grades is not None)
        if grade.correct is not None
    ]
    items, correct = [item for item, _, _ in graded], [right for _, right, _ in graded]
    result = accuracy(items, correct)
    if result is None:
        return dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "pass_at_k", "maj_at_k"))
    k = min(Counter(items).values())
    # Who graded has found out which answers are equal, each within a limit of time.
    same = operator.eq if any(grade.vote is not None for grade in grades or ()) else None
    given = [answer for _, _, answer in graded]
    return {
        "accuracy": result.mean,
        "accuracy_low": result.low,
        "accuracy_high": result.high,
        "pass_at_k": pass_at_k(items, correct, k) if k > 1 else None,
        "maj_at_k": maj_at_k(items, given, correct, k, same=same) if k > 1 else None,
    }
