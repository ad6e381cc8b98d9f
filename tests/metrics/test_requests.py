"""One request of a known timeline: sent at 1 s, 2 reasoning tokens at 3 s, 3 reasoning at 4 s, 1 reasoning
and 1 visible at 6 s, 2 visible at 7 s, stream closed at 8 s."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.metrics import requests
from orchestrator.records import Outcome
from tests.support.timelines import record

SOME = record(1.0, [(3.0, 2, 2), (4.0, 3, 3), (6.0, 2, 1), (7.0, 2, 0)], end_s=8.0, scheduled_s=0.75)


def test_a_known_timeline_gives_its_numbers() -> None:
    assert requests.ttft_s(SOME) == 2.0
    assert requests.ttfvt_s(SOME) == 5.0
    assert requests.ttfvt_censored(SOME) is False
    assert requests.thinking_s(SOME) == 3.0
    assert requests.e2e_s(SOME) == 6.0
    assert requests.tpot_s(SOME) == pytest.approx(4.0 / 8)
    assert requests.tpot_thinking_s(SOME) == pytest.approx(3.0 / 5)
    assert requests.tpot_visible_s(SOME) == pytest.approx(1.0 / 2)
    assert requests.send_lag_s(SOME) == 0.25


def test_inter_token_latency_is_one_value_a_token_and_chunk_gap_one_a_chunk() -> None:
    np.testing.assert_allclose(requests.chunk_gaps_s(SOME), [1.0, 2.0, 1.0])
    itl = requests.itl_s(SOME)
    assert itl is not None
    np.testing.assert_allclose(itl, [1 / 3, 1 / 3, 1 / 3, 1.0, 1.0, 0.5, 0.5])


def test_a_request_without_visible_text_is_censored_at_its_end() -> None:
    silent = replace(SOME, first_visible_s=None)
    assert requests.ttfvt_s(silent) == 7.0
    assert requests.ttfvt_censored(silent) is True
    assert requests.thinking_s(silent) == 5.0


def test_what_was_never_sent_has_no_times() -> None:
    refused = record(None, outcome="error", end_s=2.0)
    assert requests.ttft_s(refused) is None
    assert requests.ttfvt_s(refused) is None
    assert requests.ttfvt_censored(refused) is None
    assert requests.thinking_s(refused) is None
    assert requests.e2e_s(refused) is None
    assert requests.send_lag_s(refused) is None
    assert requests.attempted(refused)
    assert not requests.attempted(replace(refused, outcome="cancelled"))


def test_one_token_has_no_time_per_token() -> None:
    one = record(0.0, [(1.0, 1, 0)])
    assert requests.tpot_s(one) is None
    assert requests.tpot_thinking_s(one) is None
    assert requests.tpot_visible_s(one) is None
    itl = requests.itl_s(one)
    assert itl is not None
    assert itl.size == 0


def test_without_counts_per_chunk_only_the_whole_request_has_a_time_per_token() -> None:
    final = replace(SOME, chunk_tokens=None, chunk_reasoning=None)
    assert requests.tpot_s(final) == pytest.approx(0.5)
    assert requests.itl_s(final) is None
    assert requests.tpot_thinking_s(final) is None
    assert requests.tpot_visible_s(final) is None
    np.testing.assert_allclose(requests.chunk_gaps_s(final), [1.0, 2.0, 1.0])


def test_without_any_count_there_is_no_time_per_token() -> None:
    assert requests.tpot_s(replace(SOME, output_tokens=None)) is None


def test_a_request_failed_unless_it_was_answered_or_the_client_gave_it_up() -> None:
    outcomes: list[Outcome] = ["ok", "error", "timeout", "cancelled"]
    assert [requests.failed(replace(SOME, outcome=one)) for one in outcomes] == [False, True, True, False]


def test_tokens_seen_are_known_where_every_request_ended_well_and_was_counted() -> None:
    assert requests.tokens_seen([SOME, SOME]) == 18
    assert requests.tokens_seen([SOME, replace(SOME, output_tokens=0)]) == 9
    assert requests.tokens_seen([SOME, replace(SOME, outcome="timeout")]) is None
    assert requests.tokens_seen([SOME, replace(SOME, output_tokens=None)]) is None


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        *((reason, True) for reason in ("length", "MAX_TOKENS", "max-tokens", "MaxTokens", "model_length")),
        *((reason, False) for reason in ("stop", "tool_calls", "", None, "content_filter")),
    ],
)
def test_a_budget_that_cut_an_answer_off_is_told_by_any_servers_word(reason: str | None, cut: bool) -> None:
    assert requests.truncated(replace(SOME, finish_reason=reason)) == cut


@pytest.mark.parametrize(
    ("modes", "origins", "told"),
    [
        (["late", "late"], ["tags", "none"], ("late", "tags")),
        (["late", "continuous"], ["tags", "field"], ("mixed", "mixed")),
        (["final", "final"], ["none", "none"], ("final", "none")),
        ([None, None], [None, None], (None, None)),
        ([], [], (None, None)),
    ],
)
def test_a_cell_says_what_its_ok_requests_have_in_common(
    modes: list[str | None], origins: list[str | None], told: tuple[str | None, str | None]
) -> None:
    failed = replace(SOME, outcome="error", usage_mode="none", reasoning_from="field")
    found = [
        replace(SOME, usage_mode=mode, reasoning_from=origin)
        for mode, origin in zip(modes, origins, strict=True)
    ]
    assert (requests.usage_mode([failed, *found]), requests.reasoning_from([failed, *found])) == told
