"""Each threshold at its very value, where a flag is not yet raised, and just beyond it, where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.stragglers import stragglers
from orchestrator.metrics.validity import flags, status
from orchestrator.records import Closed, Open, Record, Sample
from tests.support.timelines import record

TOKENS = 10


def sample(t_s: float, **values: Any) -> Sample:
    counted = 0.0 if t_s <= 0 else float(TOKENS)
    known: dict[str, Any] = {"kv_usage": 0.5, "running": 1.0, "generation_tokens_total": counted}
    return Sample(t_s, **known | values)


def raised(records: Sequence[Record], samples: Sequence[Sample] = (), **changes: Any) -> tuple[str, ...]:
    values: dict[str, Any] = {"schedule": Closed(1), "expected": (), "external": True}
    given = RunConditions(**values | changes)
    return tuple(name for name in flags(Measurement(records, samples, given)) if name != "telemetry_absent")


def one(end_s: float = 2.0, **changes: Any) -> Record:
    return record(0.0, [(end_s, TOKENS, 0)], **changes)


@pytest.mark.parametrize(("retried", "expected"), [(0, ()), (1, ()), (2, ("retried",))])
def test_retries_of_one_in_a_hundred(retried: int, expected: tuple[str, ...]) -> None:
    assert raised([one(retries=int(i < retried)) for i in range(100)]) == expected


@pytest.mark.parametrize(
    ("most", "mode", "expected"),
    [
        (TOKENS, "continuous", ()),
        (TOKENS - 1, "continuous", ()),
        (TOKENS - 2, "continuous", ("over_budget",)),
        (TOKENS - 2, "contradictory", ("counts_unsound",)),
        (None, "continuous", ()),
    ],
)
def test_an_answer_of_more_than_the_end_above_its_budget(
    most: int | None, mode: str, expected: tuple[str, ...]
) -> None:
    assert raised([one(usage_mode=mode)], max_tokens=most) == expected


@pytest.mark.parametrize(
    ("thought", "budget", "step", "expected"),
    [
        (8, 8, 1, ()),
        (9, 8, 1, ()),
        (10, 8, 1, ("budget_not_enforced",)),
        (12, 8, 4, ()),
        (13, 8, 4, ("budget_not_enforced",)),
        (2, 0, 1, ("budget_not_enforced",)),
        (13, None, 1, ()),
    ],
)
def test_a_thought_of_more_than_one_step_above_its_budget(
    thought: int, budget: int | None, step: int, expected: tuple[str, ...]
) -> None:
    records = [record(0.0, [(2.0, 20, thought)])]
    assert raised(records, thinking_budget=budget, step_tokens=step) == expected


def test_answers_made_longer_than_their_budget_are_lengths_that_were_missed() -> None:
    asked = {record.request_id: TOKENS - 2 for record in (one(),)}
    assert raised([one()], max_tokens=1, asked_tokens=asked) == ("length_missed",)


@pytest.mark.parametrize("reason", ["stop", "EOS", "end-turn", "toolCalls", "length", "max_tokens"])
def test_an_answer_that_says_why_it_ended(reason: str) -> None:
    assert raised([one(finish_reason=reason)]) == ()


@pytest.mark.parametrize("reason", ["1", "['stop']", "other", "because"])
def test_an_answer_that_ended_nobody_knows_why(reason: str) -> None:
    assert raised([one(finish_reason=reason)]) == ("finish_unknown",)


@pytest.mark.parametrize(
    ("cached", "expected"), [(52, ("cache_unknown",)), (53, ("cache_warm", "cache_unknown"))]
)
def test_a_fifth_of_the_own_tokens_cached(cached: int, expected: tuple[str, ...]) -> None:
    """Of 100 tokens 60 are the prompt's own: 12 of them are a fifth."""
    records = [one(prompt_tokens=100, cached_tokens=cached)]
    assert raised(records, cache_reset=None, shared_tokens=40.0) == expected


@pytest.mark.parametrize(("own", "expected"), [(19.0, ()), (18.0, ("host_busy",))])
def test_one_cpu_of_twenty_taken(own: float, expected: tuple[str, ...]) -> None:
    samples = [sample(t, engine_cpus=own, others_cpus=1.0, engine_cpu_wait=1.0) for t in (-1.0, 0.0, 2.0)]
    assert raised([one()], samples) == expected


@pytest.mark.parametrize(("lag_s", "expected"), [(0.005, ()), (0.00501, ("client_lag",))])
def test_sent_five_milliseconds_late(lag_s: float, expected: tuple[str, ...]) -> None:
    assert raised([record(lag_s, [(2.0, 1, 0)], scheduled_s=0.0)]) == expected


@pytest.mark.parametrize(
    ("p99_s", "max_s", "expected"),
    [(0.005, 0.1, ()), (0.00501, 0.1, ("client_stalled",)), (0.005, 0.101, ("client_stalled",))],
)
def test_read_five_milliseconds_late_or_stood_still_for_a_tenth_of_a_second(
    p99_s: float, max_s: float, expected: tuple[str, ...]
) -> None:
    assert raised([one()], receive_lag_s_p99=p99_s, receive_lag_s_max=max_s) == expected


def test_nothing_sent_is_not_sent_late() -> None:
    refused = record(None, outcome="error", end_s=1.0)
    assert raised([refused], schedule=Open(np.zeros(1)), external=False) == ("errors",)


def under_rate(span_s: float, waiting: Sequence[float | None] = ()) -> bool:
    """Twenty requests asked for at 1/s, the last one sent after ``span_s``."""
    records = [record(float(i), [(30.0, 1, 0)]) for i in range(19)]
    records.append(record(span_s, [(30.0, 1, 0)], scheduled_s=19.0))
    samples = [sample(float(t), waiting=value) for t, value in enumerate(waiting)]
    return "under_rate" in raised(records, samples, schedule=Open(np.arange(20.0)))


@pytest.mark.parametrize(("span_s", "expected"), [(20.0, False), (20.5, True)])
def test_sent_at_ninety_five_per_cent_of_the_rate(span_s: float, expected: bool) -> None:
    """19 / 20 is 95 %, 19 / 20.5 is 92.7 %."""
    assert under_rate(span_s) is expected


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [([0, 0], True), ([0, 1, 0, 1], True), ([0, 1, 1], False), ([1, 1], False), ([None, None], True)],
)
def test_a_rate_is_the_clients_fault_unless_the_engine_mostly_kept_something_waiting(
    waiting: Sequence[float | None], expected: bool
) -> None:
    assert under_rate(20.5, waiting) is expected


def test_arrivals_that_span_no_time_have_no_rate_to_miss() -> None:
    records = [record(sent, [(30.0, 1, 0)], scheduled_s=0.0) for sent in (0.0, 0.001)]
    assert raised(records, schedule=Open(np.zeros(2))) == ()
    records = [record(0.0, [(30.0, 1, 0)], scheduled_s=due) for due in (0.0, -0.001)]
    assert raised(records, schedule=Open(np.zeros(2))) == ("client_lag",)


def holed(*missing: tuple[float, float], before: float = 0.0, after: float = 25.0) -> tuple[str, ...]:
    """A window from 0 to 25 s, sampled once a second but inside of these stretches."""
    times = [float(t) for t in range(26) if not any(first < t < last for first, last in missing)]
    times += [edge for stretch in missing for edge in stretch]
    samples = [sample(t) for t in sorted({before, *times, after})]
    return raised([one(25.0)], samples, external=False, expected=("kv_usage", "running"))


def test_samples_a_second_apart_leave_no_hole() -> None:
    assert holed() == ()
    assert holed(before=-9.0, after=99.0) == (), "what lies outside the window is no hole in it"


def test_a_twentieth_of_the_window_may_be_holes() -> None:
    assert holed((3.0, 4.25)) == (), "1.25 s of 25 s"
    assert holed((3.0, 4.5)) == ("telemetry_missing",)
    assert holed((3.0, 4.25), (7.0, 8.25)) == ("telemetry_missing",)


def test_the_window_has_to_be_bracketed() -> None:
    assert holed(before=-0.25, after=25.25) == ()
    samples = [sample(float(t)) for t in range(26)]
    for part in (samples[1:], samples[:-1]):
        assert raised([one(25.0)], part, external=False, expected=("running",)) == ("telemetry_missing",)


def test_without_a_window_nothing_is_missing_from_it() -> None:
    refused = record(None, outcome="error", end_s=1.0)
    assert raised([refused], external=False, expected=("running",)) == ("errors",)


def mismatch(counted: float, *others: Record) -> bool:
    samples = [sample(-1.0), sample(3.0, generation_tokens_total=counted)]
    return "token_mismatch" in raised([one(), *others], samples)


def test_token_counts_are_compared_where_both_are_known() -> None:
    assert not mismatch(10.0)
    assert mismatch(11.0)
    assert mismatch(9.0)
    assert not mismatch(11.0, one(output_tokens=None))
    failed = one(outcome="error", output_tokens=None)
    assert not mismatch(11.0, failed), "the failed one's"
    assert not mismatch(10.0, failed)
    assert mismatch(9.0, failed)


@pytest.mark.parametrize(("requests", "tail_s"), [(19, None), (20, 1.0), (21, 1.0), (30, 1.0), (100, 5.0)])
def test_the_tail_begins_when_ninety_five_in_a_hundred_have_ended(
    requests: int, tail_s: float | None
) -> None:
    """They end one second after another: of 30 the 29th is the first that makes 95 %."""
    found = stragglers(Measurement([one(float(n)) for n in range(1, requests + 1)]))
    assert found["straggler_time_s"] == tail_s
    assert found["straggler_share"] == (None if tail_s is None else pytest.approx(tail_s / requests))


def test_an_answer_that_was_running_when_the_window_cut_it_is_none_that_failed() -> None:
    cut = one(outcome="cancelled", cut_by_window=True)
    assert status((), [cut]) == ("done", None)
    silent = replace(cut, first_token_s=None)
    assert status((), [silent])[0] == "failed"
    assert status((), [one(outcome="error")])[0] == "failed"


def test_outcomes_without_a_cause_are_told_alone() -> None:
    never = record(None, outcome="cancelled", error=None, http_status=None)
    assert status((), [never]) == ("failed", "none of 1 requests succeeded: 1 cancelled")
