"""What the engine says of queue and prefill."""

from __future__ import annotations

import pytest

from orchestrator.metrics.first_token import first_token
from orchestrator.metrics.measurement import Measurement
from orchestrator.records import Record, Sample
from tests.support.timelines import record

ANSWERED = [record(0.0, [(1.0, 1, 0), (2.0, 1, 0)], request_id=f"r{number}") for number in range(200)]


def measured(records: list[Record], counted: float | None, prefill_s: float | None = 20.0) -> Measurement:
    """Of an engine that had counted 7 requests before, and then so many that waited 100 s in all."""
    if counted is None:
        return Measurement(records, (Sample(-1.0), Sample(3.0)))
    samples = [
        Sample(
            t_s,
            queue_s_total=5.0 + 100.0 * share,
            queue_requests_total=7.0 + counted * share,
            prefill_s_total=None if prefill_s is None else 3.0 + prefill_s * share,
        )
        for t_s, share in ((-1.0, 0.0), (3.0, 1.0))
    ]
    return Measurement(records, samples)


def test_they_are_means_over_the_requests_that_the_engine_counted_of_this_cell() -> None:
    found = first_token(measured(ANSWERED, 200))
    assert found == {"queue_s_mean": pytest.approx(0.5), "prefill_s_mean": pytest.approx(0.1)}


def test_an_engine_without_the_counter_tells_nothing() -> None:
    assert first_token(measured(ANSWERED, 200, prefill_s=None))["prefill_s_mean"] is None
    assert set(first_token(measured(ANSWERED, None)).values()) == {None}


@pytest.mark.parametrize(
    ("counted", "told"), [(198, True), (197, False), (202, True), (203, False), (0, False)]
)
def test_of_other_requests_they_are_nothing(counted: int, told: bool) -> None:
    """Of those that were cut off, or that somebody else sent."""
    found = first_token(measured(ANSWERED, counted))
    assert all((value is not None) == told for value in found.values())
    assert set(first_token(measured([], counted)).values()) == {None}
