from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.goodput import goodput, verdict
from orchestrator.metrics.measurement import Measurement
from orchestrator.records import Record
from tests.support.timelines import record

ONE = record(0.0, [(1.0, 1, 1), (3.0, 2, 0)])  # TTFT 1, TTFVT 3, TPOT 1, E2E 3, ITL twice 1


def cut(chunks: Sequence[tuple[float, int, int]], end_s: float) -> Record:
    return record(0.0, chunks, end_s=end_s, outcome="cancelled", cut_by_window=True)


@pytest.mark.parametrize(
    ("limit", "value"),
    [("ttft_s", 1.0), ("ttfvt_s", 3.0), ("tpot_s", 1.0), ("e2e_s", 3.0), ("itl_s", 1.0)],
)
def test_a_limit_is_met_up_to_and_with_its_value(limit: str, value: float) -> None:
    assert verdict(ONE, SloConfig(**{limit: value})) == "met"
    assert verdict(ONE, SloConfig(**{limit: value - 0.001})) == "missed"


def test_the_limit_on_the_inter_token_latency_is_one_for_every_token() -> None:
    """Mean 1 s, largest 1.5 s."""
    halting = record(0.0, [(1.0, 1, 0), (1.5, 1, 0), (3.0, 1, 0)])
    assert verdict(halting, SloConfig(tpot_s=1.0)) == "met"
    assert verdict(halting, SloConfig(itl_s=1.4)) == "missed"
    assert verdict(halting, SloConfig(itl_s=1.5)) == "met"
    final = replace(halting, chunk_tokens=None, chunk_reasoning=None)
    assert verdict(final, SloConfig(itl_s=1.5)) == "unknown"


@pytest.mark.parametrize(
    ("slo", "is_missed"),
    [
        (SloConfig(), False),
        (SloConfig(ttft_s=0.9), True),  # its first token came at 1
        (SloConfig(ttft_s=1.0), False),
        (SloConfig(ttfvt_s=3.9), True),  # it has waited for 4 s
        (SloConfig(ttfvt_s=4.1), False),
        (SloConfig(e2e_s=3.9), True),
        (SloConfig(e2e_s=4.1), False),
        (SloConfig(tpot_s=0.1), False),  # 2 s a token so far, which later ones may make up for
        (SloConfig(itl_s=1.9), True),
        (SloConfig(itl_s=2.0), False),
    ],
)
def test_a_cut_request_has_missed_what_it_had_missed_and_is_undecided_else(
    slo: SloConfig, is_missed: bool
) -> None:
    half = cut([(1.0, 1, 1), (3.0, 1, 1)], end_s=4.0)
    assert verdict(half, slo) == ("missed" if is_missed else "undecided")


def test_the_undecided_are_no_part_of_the_attainment() -> None:
    """Of four sent one met the limit, one missed it, one was cut too late for it and one before."""
    slo = SloConfig(ttft_s=1.5)
    records = [ONE, record(0.0, [(2.0, 1, 0)]), cut([], end_s=1.6), cut([], end_s=1.4)]
    assert goodput(Measurement(records), slo) == {
        "goodput_per_s": pytest.approx(1 / 3),
        "slo_attainment": pytest.approx(1 / 3),
        "slo_undecided": 1,
    }


def test_a_request_of_a_stopped_run_is_not_undecided() -> None:
    assert verdict(replace(ONE, outcome="cancelled"), SloConfig()) == "missed"


def test_every_limit_must_be_met() -> None:
    assert verdict(ONE, SloConfig(ttft_s=1.0, ttfvt_s=3.0, tpot_s=1.0)) == "met"
    assert verdict(ONE, SloConfig(ttft_s=1.0, ttfvt_s=3.0, tpot_s=0.9)) == "missed"


def test_without_limits_each_ok_request_is_good_and_no_other() -> None:
    assert verdict(ONE, SloConfig()) == "met"
    assert verdict(replace(ONE, outcome="timeout"), SloConfig()) == "missed"


def test_a_request_that_ended_early_without_visible_text_misses_the_limit_on_it() -> None:
    silent = replace(ONE, first_visible_s=None)
    assert verdict(silent, SloConfig(ttfvt_s=100.0)) == "missed"
    assert verdict(silent, SloConfig(ttft_s=100.0)) == "met"


def test_one_token_has_no_time_per_token_to_miss() -> None:
    assert verdict(record(0.0, [(1.0, 1, 0)]), SloConfig(tpot_s=0.001)) == "met"
    assert verdict(record(0.0, [(1.0, 1, 0), (2.0, 1, 0)]), SloConfig(tpot_s=0.999)) == "missed"


def test_an_unknown_count_makes_goodput_unknown() -> None:
    uncounted = replace(ONE, output_tokens=None)
    assert verdict(uncounted, SloConfig(tpot_s=1.0)) == "unknown"
    got = goodput(Measurement([ONE, uncounted]), SloConfig(tpot_s=1.0))
    assert (got["goodput_per_s"], got["slo_attainment"]) == (None, None)


def test_no_good_request_is_a_goodput_of_nothing_and_no_ok_request_none_at_all() -> None:
    strict, failed = SloConfig(ttft_s=0.1), replace(ONE, outcome="error")
    slow, broken = goodput(Measurement([ONE]), strict), goodput(Measurement([failed]), strict)
    assert (slow["goodput_per_s"], slow["slo_attainment"]) == (0.0, 0.0)
    assert (broken["goodput_per_s"], broken["slo_attainment"]) == (None, 0.0)


def test_attainment_counts_refused_requests_but_not_those_never_tried() -> None:
    refused = record(None, outcome="error")
    never = record(None, outcome="cancelled")
    assert goodput(Measurement([ONE, refused, never]), SloConfig())["slo_attainment"] == 0.5
