from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.goodput import goodput, meets
from orchestrator.metrics.window import Window
from tests.support.timelines import record

ONE = record(0.0, [(1.0, 1, 1), (3.0, 2, 0)])  # TTFT 1, TTFVT 3, TPOT 1


@pytest.mark.parametrize(("limit", "value"), [("ttft_s", 1.0), ("ttfvt_s", 3.0), ("tpot_s", 1.0)])
def test_a_limit_is_met_up_to_and_with_its_value(limit: str, value: float) -> None:
    assert meets(ONE, SloConfig(**{limit: value})) is True
    assert meets(ONE, SloConfig(**{limit: value - 0.001})) is False


def test_every_limit_must_be_met() -> None:
    assert meets(ONE, SloConfig(ttft_s=1.0, ttfvt_s=3.0, tpot_s=1.0)) is True
    assert meets(ONE, SloConfig(ttft_s=1.0, ttfvt_s=3.0, tpot_s=0.9)) is False


def test_without_limits_each_ok_request_is_good_and_no_other() -> None:
    assert meets(ONE, SloConfig()) is True
    assert meets(replace(ONE, outcome="timeout"), SloConfig()) is False


def test_a_request_that_ended_early_without_visible_text_misses_the_limit_on_it() -> None:
    silent = replace(ONE, first_visible_s=None)
    assert meets(silent, SloConfig(ttfvt_s=100.0)) is False
    assert meets(silent, SloConfig(ttft_s=100.0)) is True


def test_one_token_has_no_time_per_token_to_miss() -> None:
    assert meets(record(0.0, [(1.0, 1, 0)]), SloConfig(tpot_s=0.001)) is True


def test_an_unknown_count_makes_goodput_unknown() -> None:
    uncounted = replace(ONE, output_tokens=None)
    assert meets(uncounted, SloConfig(tpot_s=1.0)) is None
    assert goodput([ONE, uncounted], Window(0.0, 3.0), SloConfig(tpot_s=1.0)) == {
        "goodput_per_s": None,
        "slo_attainment": None,
    }


def test_no_good_request_is_a_goodput_of_nothing_and_no_ok_request_none_at_all() -> None:
    strict, window = SloConfig(ttft_s=0.1), Window(0.0, 3.0)
    failed = replace(ONE, outcome="error")
    assert goodput([ONE], window, strict) == {"goodput_per_s": 0.0, "slo_attainment": 0.0}
    assert goodput([failed], window, strict) == {"goodput_per_s": None, "slo_attainment": 0.0}


def test_attainment_counts_refused_requests_but_not_those_never_tried() -> None:
    refused = record(None, outcome="error")
    never = record(None, outcome="cancelled")
    assert goodput([ONE, refused, never], Window(0.0, 3.0), SloConfig())["slo_attainment"] == 0.5
