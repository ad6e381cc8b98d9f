"""The zero of the clock means nothing: all of a cell's times later by as much give the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.summary import summarize
from orchestrator.records import Open, Record, Sample
from tests.metrics.test_cut_values import A, B, C, D, R
from tests.metrics.test_summary import CELL, SAMPLES
from tests.support.timelines import record

LATER_S = 4096.0
TIMES = ("scheduled_s", "sent_s", "first_token_s", "first_visible_s", "last_token_s", "end_s")
EVERY_SECOND = [record(float(i), [(i + 1.0, 1 if i < 20 else 5, 0), (i + 9.0, 2, 0)]) for i in range(101)]
UNCOUNTED = [replace(one, chunk_tokens=None, chunk_reasoning=None) for one in EVERY_SECOND]
TWICE = [
    record(float(sent), [(t + 0.5, 1, 0) for t in range(sent, 100)], end_s=100.0) for sent in range(0, 41, 2)
]


def later(one: Record) -> Record:
    moved: dict[str, Any] = {
        name: None if (at := getattr(one, name)) is None else at + LATER_S for name in TIMES
    }
    return replace(one, chunk_s=one.chunk_s + LATER_S, **moved)


@pytest.mark.parametrize(
    ("records", "samples", "conditions"),
    [
        (CELL, SAMPLES, RunConditions(gpus=2)),
        ([A, B, C, D, R], (), RunConditions(ends_s=10.0)),
        (EVERY_SECOND, (), RunConditions(schedule=Open(TWICE[0].chunk_s))),
        (TWICE, (), RunConditions()),
        (
            [replace(one, chunk_tokens=None, chunk_reasoning=None) for one in EVERY_SECOND],
            (),
            RunConditions(),
        ),
    ],
    ids=["small", "cut", "open", "all at once", "without counts"],
)
def test_only_the_start_of_the_steady_state_is_a_moment(
    records: Sequence[Record], samples: Sequence[Sample], conditions: RunConditions
) -> None:
    slo = SloConfig(ttft_s=1.5, ttfvt_s=5.0, tpot_s=1.0)
    found = summarize(Measurement(records, samples, conditions), None, slo)
    ends_s = None if conditions.ends_s is None else conditions.ends_s + LATER_S
    moved = summarize(
        Measurement(
            [later(one) for one in records],
            [replace(one, t_s=one.t_s + LATER_S) for one in samples],
            replace(conditions, ends_s=ends_s),
        ),
        None,
        slo,
    )
    starts = found["steady_start_s"]
    found["steady_start_s"] = None if starts is None else starts + LATER_S
    assert moved == {name: pytest.approx(value, abs=1e-9) for name, value in found.items()}
    assert sum(value is not None for value in found.values()) > 30
