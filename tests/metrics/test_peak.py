"""The most output tokens of any second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.throughput import peak
from orchestrator.records import Record
from tests.support.timelines import record


def of(*records: Record) -> float | None:
    return peak(Measurement(records))


@pytest.mark.parametrize(
    ("chunks", "most"),
    [
        ([(1.0, 3, 0), (2.0, 4, 0)], 4.0),  # a second apart they are of two
        ([(1.0, 3, 0), (1.875, 4, 0)], 7.0),
        ([(1.0, 3, 0), (1.5, 2, 0), (2.25, 4, 0), (2.5, 1, 0)], 6.0),
        ([(0.5, 9, 0), (1.75, 4, 0), (2.0, 4, 0)], 9.0),
        ([(1.0, 1, 0)], 1.0),
    ],
)
def test_chunks_of_one_request(chunks: list[tuple[float, int, int]], most: float) -> None:
    assert of(record(0.0, chunks)) == most


def test_requests_add_up_whatever_their_order() -> None:
    late, early = record(0.0, [(3.0, 5, 0)]), record(0.0, [(1.0, 2, 0), (2.5, 2, 0)])
    assert of(late, early) == of(early, late) == 7.0


def test_a_window_of_a_second_has_a_peak_and_a_shorter_one_has_none() -> None:
    assert of(record(0.0, [(1.0, 3, 0)])) == 3.0
    assert of(record(0.0, [(0.999, 3, 0)])) is None


def test_what_is_not_known_or_not_ok_has_no_peak() -> None:
    one = record(0.0, [(2.0, 3, 0)])
    assert of(one, replace(one, chunk_tokens=None)) is None
    assert of(replace(one, outcome="error")) is None
    assert of() is None
    assert of(one, record(0.0, [(2.0, 9, 0)], outcome="error")) == 3.0


def test_what_came_after_the_window_is_in_no_second_of_it() -> None:
    cut = record(0.0, [(4.0, 2, 0), (5.5, 9, 0)], end_s=5.5, outcome="cancelled", cut_by_window=True)
    silent = record(0.0, [(5.5, 9, 0)], end_s=5.5, outcome="cancelled", cut_by_window=True)
    at = RunConditions(ends_s=5.0)
    assert peak(Measurement([cut], (), at)) == 2.0
    assert peak(Measurement([silent], (), at)) == 0.0
