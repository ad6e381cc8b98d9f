"""Waterfalls: bars that add up, and name what was planted."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.report.explain import resampled
from orchestrator.report.explain.answer_time import answer_time
from orchestrator.report.explain.lmdi import log_mean, of_product
from orchestrator.report.explain.throughput import littles_law, throughput
from orchestrator.report.explain.waterfall import Bar, Waterfall
from orchestrator.report.pairs import OPTIMIZATION, Pair
from orchestrator.report.variants import Run, Variant, sort_out
from tests.report.studies import Planted, runs_of

BASE = Planted(items=40, runs=3, noise=0.002)
FACTORS = st.lists(st.tuples(*[st.one_of(st.just(0.0), st.floats(1e-6, 1e6))] * 2), min_size=1, max_size=4)


def pair(variant: Planted, baseline: Planted = BASE, opt: str = "fp8") -> Pair:
    variants, _ = sort_out(runs_of([baseline.but(opt=("none",)), variant.but(opt=(opt,))]))
    sides = {one.facts["opt"]: one for one in variants}
    return Pair(OPTIMIZATION, sides["none"], sides[opt])


def bars(waterfall: Waterfall | None) -> dict[str, Bar]:
    assert waterfall is not None
    return {bar.name: bar for bar in waterfall.bars}


@given(FACTORS)
def test_contributions_add_up_to_the_change_of_the_product(factors: list[tuple[float, float]]) -> None:
    before, after = (np.array([factor[side] for factor in factors]) for side in (0, 1))
    found = of_product(before, after)
    change = float(after.prod() - before.prod())
    assert math.fsum(found) == pytest.approx(change, abs=1e-9 * max(before.prod(), after.prod()))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((2.0, 3.0), (2.0, 5.0), (0.0, 4.0)),
        ((0.0, 3.0), (2.0, 5.0), (10.0, 0.0)),  # what was not there before is the whole change
        ((2.0, 3.0), (0.0, 5.0), (-6.0, 0.0)),
        ((0.0, 0.0), (2.0, 5.0), (5.0, 5.0)),
        ((0.0, 3.0), (2.0, 0.0), (0.0, 0.0)),  # nothing before and nothing after
        ((1.0, 1.0), (math.e, math.e), ((math.e**2 - 1) / 2, (math.e**2 - 1) / 2)),
    ],
)
def test_contributions_at_known_values(
    before: tuple[float, ...], after: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    assert of_product(np.array(before), np.array(after)) == pytest.approx(expected)


def test_the_logarithmic_mean_lies_between_the_two() -> None:
    a, b = np.array([1.0, 2.0, 0.0, 1.0]), np.array([math.e, 2.0, 3.0, 1.0 + 1e-12])
    assert log_mean(a, b) == pytest.approx([math.e - 1, 2.0, 0.0, 1.0])


PLANTED = {
    "time per token": BASE.but(tpot_s=0.014),
    "queue and prefill together": BASE.but(ttft_s=1.2),
    "tokens": BASE.but(tokens=150.0),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_was_planted_is_named_with_its_size(what: str) -> None:
    found = answer_time(pair(PLANTED[what]))
    assert found is not None
    of = bars(found)
    named = {name for name in of if name.startswith(what)} or {name for name in of if what in name}
    assert sum(of[name].value for name in named) == pytest.approx(found.difference, rel=0.1)
    assert all(of[name].sure for name in named)
    assert {bar.name for bar in found.largest()[: len(named)]} == named


FIRST = {"queue": 0.05, "prefill": 0.1, "front end": 0.05}  # s


def first_token(
    told: int = 2, runs: int = 3, *, queue: float = 0.0, prefill: float = 0.0, front_end: float = 0.0
) -> Planted:
    """Its parts, longer by so much; the engine has ``told`` of them, the same in every run."""
    longer = zip(FIRST, (queue, prefill, front_end), strict=True)
    parts = {name: FIRST[name] + seconds for name, seconds in longer}
    columns = dict(zip(("queue_s_mean", "prefill_s_mean")[:told], parts.values(), strict=False))
    return BASE.but(ttft_s=sum(parts.values()), changes=tuple(columns.items()), runs=runs)


@pytest.mark.parametrize(
    ("what", "longer"),
    [
        ("queue", first_token(queue=1.0)),
        ("prefill", first_token(prefill=1.0)),
        ("front end", first_token(front_end=1.0)),
    ],
)
def test_a_longer_queue_prefill_and_a_slow_front_end_are_told_apart(what: str, longer: Planted) -> None:
    found = answer_time(pair(longer, first_token()))
    of = bars(found)
    assert list(of)[:3] == list(FIRST)
    assert of[what].value == pytest.approx(1.0, rel=0.1)
    assert of[what].sure
    assert sum(abs(of[name].value) for name in FIRST if name != what) < 0.1
    assert found is not None
    assert "not told apart" not in found.note


def test_an_engine_that_tells_the_queue_alone_leaves_prefill_and_front_end_together() -> None:
    """Also where the other side's tells more."""
    for baseline in (first_token(told=1), first_token(told=2)):
        of = bars(answer_time(pair(first_token(told=1, queue=0.5, prefill=0.3), baseline)))
        assert list(of)[:2] == ["queue", "prefill and front end"]
        assert of["queue"].value == pytest.approx(0.5, rel=0.1)
        assert of["prefill and front end"].value == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize(
    ("baseline", "variant", "why"),
    [
        (first_token(told=0), first_token(queue=0.5), "stored for the baseline."),
        (first_token(), first_token(told=0, queue=0.5), "stored for the other side."),
        (first_token(told=0), first_token(told=0, queue=0.5), "stored for either side."),
        (first_token(), BASE.but(changes=(("queue_s_mean", 9.0),)), "above the TTFT."),
    ],
)
def test_queue_and_prefill_that_cannot_be_told_apart_are_one_bar_that_says_why(
    baseline: Planted, variant: Planted, why: str
) -> None:
    found = answer_time(pair(variant, baseline))
    assert next(iter(bars(found))) == "queue and prefill together"
    assert found is not None
    assert why in found.note


def test_a_prefill_that_leaves_less_than_nothing_is_not_told_apart_from_the_front_end() -> None:
    wrong = BASE.but(ttft_s=0.2, changes=(("queue_s_mean", 0.05), ("prefill_s_mean", 0.5)))
    assert list(bars(answer_time(pair(wrong, first_token()))))[:2] == ["queue", "prefill and front end"]


def test_of_one_run_what_the_engine_tells_has_no_interval() -> None:
    of = bars(answer_time(pair(first_token(runs=1, queue=0.5), first_token(runs=1))))
    assert all(of[name].low is None for name in FIRST)
    assert of["time per token"].low is not None
    merged = bars(answer_time(pair(first_token(0, 1, queue=0.5), first_token(0, 1))))
    assert merged["queue and prefill together"].low is not None


def test_with_a_prefix_cache_the_share_is_that_of_prefill() -> None:
    cached = (("cached_token_share", 0.25), ("prompt_length_mean", 200.0))
    slow = first_token(prefill=-0.05)
    found = answer_time(pair(slow.but(changes=slow.changes + cached), first_token(), "prefix-cache"))
    assert found is not None
    assert "50 of 200 prompt tokens came from the cache, and prefill was" in found.saw
    share = float(found.saw.split(" was ")[1].split(" %")[0])
    assert share == pytest.approx(100 * 0.1 / found.before, rel=0.1)


def test_of_two_planted_at_once_both_are_named() -> None:
    """Tokens a fifth faster, and answers half as long again."""
    found = answer_time(pair(BASE.but(tpot_s=0.016, tokens=150.0)))
    of = bars(found)
    longer = of["tokens of thought"].value + of["tokens of the answer"].value
    assert found is not None
    mean_tokens = [
        sum(values) / len(values) - 1
        for values in (
            side.of_requests("output_tokens")[1] for side in (found.pair.baseline, found.pair.variant)
        )
    ]
    products = [tokens * t for tokens, t in zip(mean_tokens, (0.02, 0.016), strict=True)]
    mean = (products[1] - products[0]) / math.log(products[1] / products[0])
    assert of["time per token"].value == pytest.approx(mean * math.log(0.016 / 0.02), rel=0.1)
    assert longer == pytest.approx(mean * math.log(mean_tokens[1] / mean_tokens[0]), rel=0.1)


def test_thoughts_and_answers_are_told_apart() -> None:
    """A model that does not think, against one that thinks half of its tokens."""
    of = pair(BASE)
    silent = [dict(run.requests.columns) for run in of.baseline.runs if run.requests is not None]
    for columns in silent:
        columns["reasoning_tokens"] = [0] * len(columns["item_id"])
    baseline = Variant(of.baseline.configuration, of.baseline.setting, tuple(
        type(run)(run.study, run.row, type(run.requests)(columns))
        for run, columns in zip(of.baseline.runs, silent, strict=True) if run.requests is not None
    ))  # fmt: skip
    found = bars(answer_time(Pair(OPTIMIZATION, baseline, of.variant)))
    assert found["tokens of thought"].value > 0.5
    assert found["tokens of the answer"].value < -0.5
    assert abs(found["time per token"].value) < 0.05


def test_where_thoughts_are_not_counted_their_tokens_are_not_split() -> None:
    of = pair(BASE.but(tokens=150.0))
    for run in of.variant.runs:
        assert run.requests is not None
        columns = run.requests.columns
        assert isinstance(columns, dict)
        columns["reasoning_tokens"] = [None] * len(run.requests)
    found = answer_time(of)
    assert found is not None
    assert "tokens, thought and answer" in bars(found)
    assert "did not count" in found.note


@pytest.mark.parametrize("runs", [2, 3])
def test_of_equal_sides_hardly_a_bar_is_sure_however_few_runs(runs: int) -> None:
    """Runs differ by 3 %, by 20 % in what the engine says of the queue; a bar is sure in 5 % of the cases at
    most, that is 2 of 30, or by chance 5."""
    sure: Counter[str] = Counter()
    for seed in range(30):
        planted = [BASE.but(opt=(opt,), runs=runs, noise=0.03) for opt in ("none", "fp8")]
        waits = np.random.default_rng(seed).lognormal(0, 0.2, 2 * runs)
        variants, _ = sort_out(
            Run(run.study, {**run.row, "queue_s_mean": 0.05 * wait}, run.requests)
            for run, wait in zip(runs_of(planted, seed), waits, strict=True)
        )
        found = answer_time(Pair(OPTIMIZATION, variants[1], variants[0]), seed)
        sure.update(bar.name for bar in bars(found).values() if bar.sure)
    assert max(sure.values(), default=0) <= 5


def of_engine(**columns: float) -> Planted:
    return BASE.but(changes=tuple(columns.items()))


def test_throughput_is_in_flight_running_tokens_a_step_and_its_time() -> None:
    """Twice the tokens a step in steps that take 1.25 times as long, and a fifth of the requests waiting."""
    before = of_engine(output_token_per_s=1000.0, in_flight_mean=10.0, running_mean=10.0)
    after = of_engine(
        output_token_per_s=1280.0, in_flight_mean=10.0, running_mean=8.0, spec_tokens_per_step=2.0
    )
    found = throughput(pair(after, before))
    assert found is not None
    scale = 280 / math.log(1.28)
    of = bars(found)
    assert of["requests in flight"].value == pytest.approx(0.0)
    assert of["of them running"].value == pytest.approx(scale * math.log(0.8))
    assert of["tokens a step"].value == pytest.approx(scale * math.log(2))
    assert of["time of a step"].value == pytest.approx(scale * math.log(1 / 1.25))


def test_without_the_engines_gauge_waiting_is_part_of_the_time() -> None:
    before = of_engine(output_token_per_s=1000.0, in_flight_mean=10.0)
    found = throughput(pair(of_engine(output_token_per_s=1500.0, in_flight_mean=12.0), before))
    assert found is not None
    assert list(bars(found)) == ["requests in flight", "time per token and request"]
    assert found.difference == pytest.approx(500.0)
    assert throughput(pair(BASE, BASE)) is None


def test_tokens_a_step_that_speculation_did_not_count_are_not_one() -> None:
    values = {"output_token_per_s": 1000.0, "in_flight_mean": 10.0, "running_mean": 10.0}
    before, after = of_engine(**values), of_engine(**values | {"output_token_per_s": 1500.0})
    found = throughput(pair(after, before, "spec-ngram"))
    assert found is not None
    assert "tokens a step" in bars(throughput(pair(after, before)))
    assert list(bars(found)) == ["requests in flight", "of them running", "time per token and request"]
    assert "did not tell how many tokens a step gave" in found.note


def test_littles_law_is_said_where_it_does_not_hold() -> None:
    of = pair(of_engine(in_flight_mean=8.0, request_per_s=4.0, e2e_s_mean=2.0))
    assert littles_law(of.variant) == ""
    of = pair(of_engine(in_flight_mean=8.0, request_per_s=4.0, e2e_s_mean=1.5))
    assert "8 in flight, 6 by rate and time" in littles_law(of.variant)


def test_bars_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="leave"):
        Waterfall(pair(BASE), "e2e", "t", "s", 1.0, 2.0, (Bar("a", 0.9),), True, "")


@pytest.mark.parametrize("kept", [10**7, 0], ids=["kept", "too many to keep"])
def test_what_all_pairs_draw_is_what_each_would_draw(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampled, "KEPT", kept)
    for seed, count in ((0, 7), (0, 7), (1, 7), (0, 8), (0, 7)):
        alone = np.random.default_rng(seed)
        expected = [resampled.drawn_times(alone, n) for n in (count, 3)]
        times, generator = resampled.first_drawn(seed, count)
        assert np.array_equal(times, expected[0])
        assert np.array_equal(resampled.drawn_times(generator, 3), expected[1])
        with pytest.raises(ValueError, match="read-only"):
            times[0, 0] = 1.0
