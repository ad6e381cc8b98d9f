"""Running time against difficulty, and how requests end: what is drawn, and what the sentence says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.report.names import Names
from orchestrator.report.requests import Requests
from orchestrator.report.theme import Figure, specification, svg
from orchestrator.report.variants import sort_out
from orchestrator.report.views.difficulty import difficulty
from orchestrator.report.views.stragglers import completion
from tests.report.studies import Planted, runs_of

LEVELS = Planted(levels=5, items=50, runs=2)
STANDARD = Planted(model="qwen2.5-math-7b", kind="standard", levels=5, items=50, runs=2, tokens=30, steep=0)
TAIL: tuple[tuple[str, Any], ...] = (
    *(("straggler_share", 0.4), ("straggler_gpu_idle_share", 0.75), ("straggler_time_s", 12.0)),
)


def drawn(*planted: Planted, view: Any = difficulty) -> Figure | None:
    variants, _ = sort_out(runs_of(planted))
    figure: Figure | None = view(variants, Names(variants))
    assert figure is None or svg(specification(figure))
    return figure


def test_a_level_takes_as_long_as_its_questions() -> None:
    figure = drawn(LEVELS, STANDARD)
    assert figure is not None
    of = {(row["kind"], row["difficulty"]): row for row in figure.rows}
    assert {level for _, level in of} == {1, 2, 3, 4, 5}
    assert {row["questions"] for row in figure.rows} == {10}
    assert of["reasoning", 5]["tokens"] == pytest.approx(5 * of["reasoning", 1]["tokens"], rel=0.4)
    assert of["standard", 5]["seconds"] == pytest.approx(of["standard", 1]["seconds"], rel=0.4)
    assert of["reasoning", 5]["low"] < of["reasoning", 5]["seconds"] < of["reasoning", 5]["high"]
    times = of["reasoning", 5]["seconds"] / of["reasoning", 1]["seconds"]
    assert f"r1-7b · vllm · no optimization (reasoning) takes {times:.2f} times as long" in figure.advice
    assert "set limits and time-outs by the hardest questions" in figure.advice


def test_without_levels_questions_are_put_by_their_tokens_over_all_configurations() -> None:
    one = Planted(items=40, runs=1)
    figure = drawn(one, one.but(opt=("fp8",), tokens=50))
    assert figure is not None
    assert {row["by"] for row in figure.rows} == {"tokens"}
    places = [row["difficulty"] for row in figure.rows if row["label"].endswith("fp8")]
    assert len(places) == 4
    assert places == sorted(places)
    assert 50 < places[0] < places[-1]  # between the two configurations' own means
    tokens = [row["tokens"] for row in figure.rows if row["label"].endswith("fp8")]
    assert tokens == sorted(tokens)


def test_difficulty_needs_levels_or_two_configurations() -> None:
    assert drawn(Planted(items=40)) is None
    assert drawn(Planted(items=8), Planted(items=8, opt=("fp8",))) is None
    assert drawn(LEVELS.but(levels=1)) is None


def test_what_few_questions_do_not_tell_is_not_said() -> None:
    figure = drawn(LEVELS.but(items=10, steep=0.2))
    assert figure is not None
    assert figure.advice.endswith("with so few questions that is not told from chance, so ask more (limit).")
    figure = drawn(STANDARD.but(levels=2, items=2000, runs=1))
    assert figure is not None
    assert "set limits" not in figure.advice


@pytest.mark.slow
def test_over_levels_that_take_as_long_nothing_is_claimed() -> None:
    said = []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        runs = []
        for run in runs_of([STANDARD.but(opt=(str(one),), items=40, runs=1) for one in range(8)]):
            assert run.requests is not None
            drawn_s = list(np.exp(generator.normal(0, 0.4, 40)))
            runs.append(replace(run, requests=Requests({**run.requests.columns, "e2e_s": drawn_s})))
        variants, _ = sort_out(runs)
        figure = difficulty(variants, Names(variants))
        assert figure is not None
        said.append(figure.advice.endswith("not told from chance, so ask more (limit)."))
    assert said.count(False) <= 4  # 1.5 expected at 5 %; more than 4 of 30 has a chance of 1.6 %


@pytest.mark.parametrize(
    "changes", [{"status": "invalid"}, {"status": "failed"}, {"flags": ["gpu_starved"]}, {"simulated": True}]
)
def test_what_does_not_count_is_not_drawn(changes: dict[str, Any]) -> None:
    bad = LEVELS.but(opt=("awq",), changes=(*TAIL, *changes.items()))
    for view in (difficulty, completion):
        figure = drawn(LEVELS, bad, view=view)
        assert figure is not None
        assert {row["label"] for row in figure.rows} == {"vllm · no optimization"}


def test_the_worst_tail_is_named_with_what_it_costs_and_the_remedy_of_its_load() -> None:
    quiet = (("straggler_share", 0.1), ("straggler_gpu_idle_share", 0.1), ("straggler_time_s", 1.0))
    figure = drawn(
        Planted(load="batch", changes=TAIL),
        Planted(load="batch", opt=("fp8",), changes=quiet),
        view=completion,
    )
    assert figure is not None
    assert figure.advice == (
        "With vllm · no optimization (math500) the last 5 % of the requests took 40.0 % of the time (12.0 s) "
        "with 75.0 % of the places empty: send a request for each one that ends (load=closed) instead of "
        "waiting for a batch."
    )
    parts = [row["percent"] for row in figure.rows if row["what"] == "stragglers"]
    assert parts == pytest.approx([1.0, 9.0, 30.0, 10.0])
    without = drawn(Planted(load="batch", changes=TAIL[:2]), view=completion)
    assert without is not None
    assert "took 40.0 % of the time with 75.0 %" in without.advice
    closed = drawn(Planted(changes=TAIL), view=completion)
    assert closed is not None
    assert "load=closed" not in closed.advice
    little = drawn(Planted(load="batch", changes=quiet), view=completion)
    assert little is not None
    assert little.advice.startswith("Leave the load as it is: ")


def test_a_curve_ends_with_all_and_marks_when_95_percent_had_ended() -> None:
    figure = drawn(Planted(items=300, runs=1), view=completion)
    assert figure is not None
    curve = [row for row in figure.rows if row["what"] == "curve"]
    assert len(curve) <= 161
    assert curve[-1]["ended"] == 100
    assert [row["ended"] for row in curve if row["late"]] == [95.0]
    assert "at least 20 requests" in figure.advice  # no straggler columns here


def test_of_many_configurations_no_model_is_left_out_for_anothers_optimizations() -> None:
    many = [
        LEVELS.but(model=model, opt=(opt,), runs=1) for model in "abc" for opt in ("fp8", "awq", "none", "x")
    ]
    figure = drawn(*many)
    assert figure is not None
    labels = list(dict.fromkeys(row["label"] for row in figure.rows))
    assert len(labels) == 8
    assert labels == sorted(labels)
    assert {f"{model} · vllm · no optimization" for model in "abc"} <= set(labels)
    assert "Of more than 8 configurations of a setting" in figure.caption
