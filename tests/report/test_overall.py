"""What is said of an optimization over all its comparisons, and of what limits a configuration."""

from __future__ import annotations

import pytest

from orchestrator.report.build import find
from orchestrator.report.limits import limits
from orchestrator.report.options import Options
from orchestrator.report.overall import Overall, overall
from orchestrator.report.variants import sort_out
from tests.report.studies import Planted, runs_of

BASE = Planted(runs=5, noise=0.002, items=40)
FAST = BASE.but(opt=("fp8",), tpot_s=0.015)


def found(*planted: Planted, margin: float = 0.02) -> list[Overall]:
    options = Options(accuracy_margin=margin)
    return overall(find(runs_of(planted), options).lines, options)


def said(*planted: Planted) -> list[str]:
    return [one.counts for one in found(*planted)]


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


def test_what_no_test_shows_is_not_called_a_gain_and_one_comparison_is_not_counted() -> None:
    once = [one.but(runs=1) for one in (BASE, FAST, BASE.but(concurrency=4), FAST.but(concurrency=4))]
    (sentence,) = said(*once)
    assert sentence.count("none significant") >= 2
    assert sentence.endswith("That it is faster, or slower, is shown in none of 2 comparisons.")
    assert said(BASE, FAST) == [""]


WRONG = FAST.but(accuracy=0.1)
TWICE = (BASE, BASE.but(concurrency=4))
NO_FASTER = BASE.but(opt=("fp8",))


@pytest.mark.parametrize(
    ("planted", "margin", "verdict"),
    [
        (
            (BASE, FAST),
            0.5,
            "Yes: more tokens/s in the one comparison, and accuracy is not lower by 50 points.",
        ),
        (
            (BASE, FAST),
            0.001,
            "Not decided: more tokens/s in the one comparison, but that accuracy is not lower by 0.1 points "
            "is not shown.",
        ),
        (
            (*TWICE, FAST, FAST.but(concurrency=4, tpot_s=0.03)),
            0.5,
            "It depends: more tokens/s in 1 of 2 comparisons, but fewer tokens/s in 1.",
        ),
        (
            (*TWICE, FAST, NO_FASTER.but(concurrency=4)),
            0.5,
            "Yes where it is shown: more tokens/s in 1 of 2 comparisons; it is not shown in the others.",
        ),
        (
            (*TWICE, WRONG, NO_FASTER.but(concurrency=4)),
            0.5,
            "No: accuracy is lower in 1 of 2 comparisons, although it gives more tokens/s in 1 of 2 "
            "comparisons.",
        ),
        (
            (BASE, NO_FASTER.but(accuracy=0.1)),
            0.5,
            "No: accuracy is lower in the one comparison, and that it gives more tokens/s is shown in none.",
        ),
        (
            (*TWICE, NO_FASTER.but(tpot_s=0.03), NO_FASTER.but(concurrency=4)),
            0.5,
            "No: fewer tokens/s in 1 of 2 comparisons, and more in none.",
        ),
        (
            (*TWICE, NO_FASTER, NO_FASTER.but(concurrency=4)),
            0.5,
            "No need: tokens/s are unchanged within 5 % in all 2 comparisons.",
        ),
        (
            (BASE.but(runs=1), FAST.but(runs=1)),
            0.5,
            "Not decided: tokens/s +33 %, which no test shows. With one run on a side none could: measure "
            "again with runs=5.",
        ),
    ],
)
def test_whether_to_switch_it_on_is_said(planted: tuple[Planted, ...], margin: float, verdict: str) -> None:
    assert [(one.opt, one.verdict) for one in found(*planted, margin=margin)] == [("fp8", verdict)]


def test_settings_stand_in_the_order_of_their_numbers() -> None:
    planted = [BASE.but(runs=1, max_tokens=budget) for budget in (1024, 16384, 512)]
    variants, _ = sort_out(runs_of(planted))
    assert [one.facts["max_tokens"] for one in variants] == ["512", "1024", "16384"]


def test_what_costs_accuracy_is_said_where_it_gave_more() -> None:
    planted = (BASE.but(runs=1), FAST.but(runs=1, accuracy=0.1))
    (answer,) = find(runs_of(planted), Options()).answers
    assert "for now: vllm · fp8 gave more, but its accuracy is worse by" in answer.take
    assert "; accuracy: worse by" in answer.gains[0]


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
