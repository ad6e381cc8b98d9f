"""What is said of an optimization over all its comparisons, and of what limits a configuration."""

from __future__ import annotations

import pytest

from orchestrator.report.build import find
from orchestrator.report.limits import limits
from orchestrator.report.options import Options
from orchestrator.report.overall import overall
from orchestrator.report.variants import sort_out
from tests.report.studies import Planted, runs_of

BASE = Planted(runs=5, noise=0.002, items=40)
FAST = BASE.but(opt=("fp8",), tpot_s=0.015)


def said(*planted: Planted) -> list[str]:
    return overall(find(runs_of(planted), Options()).lines)


def test_a_gain_in_each_of_two_settings_is_counted() -> None:
    (sentence,) = said(BASE, FAST, BASE.but(concurrency=4), FAST.but(concurrency=4))
    assert sentence.startswith("fp8 against no optimization: tokens/s more in 2 of 2 (+3")
    assert "significantly 2 more; E2E shorter in 2 of 2 (−2" in sentence
    assert sentence.endswith("That it is faster is shown in 2 of 2, that it is slower in none.")


def test_a_gain_here_and_a_loss_there_are_both_said() -> None:
    slow = FAST.but(concurrency=4, tpot_s=0.03)
    (sentence,) = said(BASE, FAST, BASE.but(concurrency=4), slow)
    assert "tokens/s more in 1 of 2, fewer in 1 of 2 (−3" in sentence
    assert "significantly 1 more and 1 fewer" in sentence
    assert sentence.endswith("That it is faster is shown in 1 of 2, that it is slower in 1.")


def test_what_no_test_shows_is_not_called_a_gain_and_one_comparison_has_its_own_lines() -> None:
    once = [one.but(runs=1) for one in (BASE, FAST, BASE.but(concurrency=4), FAST.but(concurrency=4))]
    (sentence,) = said(*once)
    assert sentence.count("none significant") >= 2
    assert sentence.endswith("That it is faster, or slower, is shown in none of 2 comparisons.")
    assert said(BASE, FAST) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ((("kv_usage_max", 0.99),), ["KV cache (at most 99 % in use): preemptions not counted."]),
        (
            (("kv_usage_max", 0.99), ("preemptions", 0)),
            ["KV cache (at most 99 % in use): 0 preemptions a run."],
        ),
        ((("running_mean", 8.0),), []),
        (
            (("running_mean", 8.0), ("waiting_mean", 0.1)),
            ["The load offered: 8.0 requests ran on average and hardly any waited."],
        ),
    ],
)
def test_a_counter_that_is_absent_is_not_zero(
    changes: tuple[tuple[str, object], ...], told: list[str]
) -> None:
    (variant,), _ = sort_out(runs_of([Planted(runs=1, changes=changes)]))
    assert [one.replace(" More memory, or an 8-bit one, helps.", "") for one in limits(variant)] == told
