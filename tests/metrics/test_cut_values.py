"""What a window that cut requests off gives, by hand.

A load of 10 s:

    A  sent 0, tokens at 1 (1 visible), 3 (2 visible), ends 3.5
    B  sent 4, nothing came: it had waited 6 s
    C  sent 2, tokens at 5 (2 reasoning), running for 8 s
    D  sent 6, tokens at 7 (1 visible), 9 (3 visible), running for 4 s

and R, whose connection was refused at 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.latency import latencies
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.stats import describe, describe_all
from orchestrator.metrics.summary import summarize
from orchestrator.records import Record
from tests.support.timelines import record


def cut(sent_s: float, *chunks: tuple[float, int, int]) -> Record:
    return record(sent_s, chunks, end_s=10.0, outcome="cancelled", cut_by_window=True)


A = record(0.0, [(1.0, 1, 0), (3.0, 2, 0)], end_s=3.5)
B, C, D = cut(4.0), cut(2.0, (5.0, 2, 2)), cut(6.0, (7.0, 1, 0), (9.0, 3, 0))
R = record(None, outcome="error", end_s=5.0)


def measured(records: Sequence[Record]) -> Measurement:
    return Measurement(records, (), RunConditions(ends_s=10.0))


CELL = measured([A, B, C, D])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("ttft_s_p50", 1.0),  # 1, 1, 3, and one of 6 or more
        ("ttft_s_min", 1.0),
        ("ttft_s_max", None),
        ("ttft_s_mean", None),
        ("ttfvt_s_p50", 1.0),  # 1, 1, and those of 6 and 8 or more
        ("ttfvt_s_max", None),
        ("e2e_s_min", 3.0),  # 3, and those of 4, 6 and 8 or more: half have not ended
        ("e2e_s_p50", None),
        ("thinking_s_p50", 0.0),  # 0, 0, and C's, which has thought for 5 s
        ("thinking_s_max", None),
        ("tpot_s_p50", 2 / 3),  # of the tokens that came: 1, 0 (both at once), 2/3
        ("tpot_s_mean", 5 / 9),
        ("output_length_min", 3.0),  # 3, and those of 0, 2 and 4 or more
        ("output_length_p50", 3.0),
        ("prompt_length_mean", 10.0),
        ("itl_s_mean", 4 / 5),  # 1, 1, and three times 2/3
        ("chunk_gap_s_mean", 2.0),
        ("token_per_s_per_user_mean", 0.75),  # 3 in 3 s, 2 in 8 s, 4 in 4 s
        ("token_per_s_per_user_p50", 1.0),
        ("ttfvt_censored_share", 0.0),
    ],
)
def test_a_latency_of_what_was_cut_is_a_lower_bound(column: str, value: float | None) -> None:
    assert latencies(CELL)[column] == (None if value is None else pytest.approx(value))


def test_thinking_that_was_cut_is_at_least_as_long_as_it_was_seen() -> None:
    """C thought for 5 s and may have gone on for as long as the other's 8.5 s."""
    thought = record(0.0, [(0.5, 1, 1), (9.0, 1, 0)])
    found = latencies(measured([thought, C]))
    assert (found["thinking_s_min"], found["thinking_s_max"]) == (8.5, 8.5)
    shorter = record(0.0, [(0.5, 1, 1), (4.5, 1, 0)])
    found = latencies(measured([shorter, C]))
    assert (found["thinking_s_min"], found["thinking_s_max"]) == (4.0, None)


def test_without_counts_per_chunk_whole_answers_are_counted_and_cut_ones_are_not_known() -> None:
    final: dict[str, Any] = {"chunk_tokens": None, "chunk_reasoning": None}
    whole = replace(A, **final)
    assert summarize(measured([whole, B]), None, SloConfig())["output_tokens"] == 3
    found = summarize(measured([whole, replace(D, **final)]), None, SloConfig())
    assert (found["output_tokens"], found["thinking_token_share"], found["prompt_tokens"]) == (None, None, 20)


def test_each_attempted_request_that_failed_is_infinitely_late() -> None:
    """A server that refuses is no faster: of five the third is the median, of six the third and fourth."""
    assert latencies(CELL)["ttft_s_p50_all"] == 1.0
    assert latencies(measured([A, B, C, D, R]))["ttft_s_p50_all"] == 3.0
    assert latencies(measured([A, B, C, D, R, R]))["ttft_s_p50_all"] == 3.0
    assert latencies(measured([A, B, C, D, R, R, R]))["ttft_s_p50_all"] is None
    assert latencies(measured([A, B, C, D, R]))["ttft_s_p50"] == 1.0
    unsent = record(None, outcome="cancelled", end_s=10.0)
    assert latencies(measured([A, B, C, D, unsent]))["ttft_s_p50_all"] == 1.0
    plain = [record(0.0, [(float(i), 1, 0)]) for i in (1, 2, 3)]
    for refused, median in ((0, 2.0), (1, 2.5), (2, 3.0), (3, None)):
        found = latencies(Measurement([*plain, *[R] * refused]))
        assert [found[f"{name}_p50_all"] for name in ("ttft_s", "e2e_s")] == [median] * 2


def test_rates_count_what_came_inside_the_window() -> None:
    found = summarize(measured([A, B, C, D, R]), None, SloConfig())
    expected = {
        "window_s": 10.0,
        "requests_total": 5,
        "requests_ok": 1,
        "requests_failed": 1,
        "requests_cut": 3,
        "requests_cancelled": 0,
        "error_rate": 0.5,
        "cancelled_rate": 0.6,
        "prompt_tokens": 30,  # B's prompt has not been read, as far as anybody knows
        "output_tokens": 9,
        "thinking_token_share": 2 / 9,
        "request_per_s": 0.1,
        "output_token_per_s": 0.9,
        "total_token_per_s": 3.9,
        "visible_token_per_s": 0.7,
        "peak_output_token_per_s": 3.0,
        "in_flight_mean": (3.5 + 6 + 8 + 4) / 10,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_an_answer_that_ended_just_after_the_window_counts_with_what_came_in_it() -> None:
    late = record(8.0, [(9.0, 2, 1), (10.0, 3, 1), (10.5, 5, 0)], end_s=10.75)
    found = summarize(measured([A, B, late]), None, SloConfig())
    assert found["output_tokens"] == 3 + 5
    assert found["prompt_tokens"] == 20
    assert found["thinking_token_share"] == pytest.approx(2 / 8)
    assert found["request_per_s"] == pytest.approx(0.1)
    begun_later = record(8.0, [(10.25, 2, 0)])
    assert summarize(measured([A, B, begun_later]), None, SloConfig())["prompt_tokens"] == 10


def test_percentiles_of_values_of_which_one_is_only_bounded() -> None:
    """Of 1, 2, … 1000 and one beyond: the least that so many of the 1001 reach."""
    found = describe("x", np.arange(1000.0, 0.0, -1.0), [2000.0])
    assert [found[f"x_p{q}"] for q in ("50", "90", "95", "99", "999")] == [501.0, 901.0, 951.0, 991.0, None]
    failed = describe_all("x", np.arange(1.0, 1001.0), 99, [2000.0])
    assert [failed[f"x_p{q}_all"] for q in ("50", "90", "95")] == [550.0, 990.0, None]


def test_a_bound_shares_its_mass_among_the_values_beyond_it() -> None:
    """Kaplan and Meier: 1 has a quarter; of the bound's quarter each of 3 and 4 takes half."""
    found = describe("x", [4.0, 1.0, 3.0], [2.0])
    assert found["x_mean"] == pytest.approx(1 / 4 + 3 * 3 / 8 + 4 * 3 / 8)
    assert (found["x_min"], found["x_p50"], found["x_max"]) == (1.0, 3.0, 4.0)
    spread = (1 / 4 * 1 + 3 / 8 * 9 + 3 / 8 * 16 - (23 / 8) ** 2) * 3 / 2
    assert found["x_sd"] == pytest.approx(spread**0.5)
    tied = describe("x", [1.0, 2.0], [2.0])  # what ended at 2 had not been waiting beyond it
    assert (tied["x_p50"], tied["x_mean"]) == (2.0, None)
