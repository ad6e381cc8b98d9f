"""Thinking that is ended at a budget beside answers that are cut off: what is drawn, and what the sentence
says."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.__main__ import main
from orchestrator.report.accuracy import accuracy_rows
from orchestrator.report.names import Names
from orchestrator.report.pareto import pareto_points
from orchestrator.report.requests import Requests
from orchestrator.report.theme import Figure, specification, svg
from orchestrator.report.variants import Run, sort_out
from orchestrator.report.views.budget import budget
from orchestrator.report.views.told_to_stop import CUT_OFF, TOLD, told_to_stop
from tests.report.studies import Planted, runs_of, store

OFF = Planted(items=200, runs=1, max_tokens=256, tokens=150, thinks=0.8, accuracy=0.8)


def told(at: int, accuracy: float, **changes: Any) -> Planted:
    return OFF.but(**{"thinking_budget": at, "accuracy": accuracy, "thinks": 0.5, "tokens": 100, **changes})


def cut(at: int, accuracy: float = 0.8, share: float = 0.5, **changes: Any) -> Planted:
    return OFF.but(**{"max_tokens": at, "accuracy": accuracy, "cut": share, "tokens": 100, **changes})


def drawn(*planted: Planted, view: Any = told_to_stop, seed: int = 0) -> Figure | None:
    return of_runs(runs_of(planted, seed), view)


def of_runs(runs: list[Run], view: Any = told_to_stop) -> Figure | None:
    variants, _ = sort_out(runs)
    figure: Figure | None = view(variants, accuracy_rows(variants), Names(variants))
    assert figure is None or svg(specification(figure))
    return figure


def said(*planted: Planted, seed: int = 0) -> str:
    figure = drawn(*planted, seed=seed)
    assert figure is not None
    return figure.advice


def test_each_way_is_a_line_of_its_own_with_its_budgets_in_order() -> None:
    figure = drawn(OFF, told(64, 0.7), told(0, 0.3), told(128, 0.75), cut(128), cut(96))
    assert figure is not None
    ways = [(row["way"], row["budget"], row["max_tokens"]) for row in figure.rows]
    assert ways == [
        *((TOLD, budget, 256) for budget in ("0", "64", "128", "off")),
        *((CUT_OFF, f"{tokens}", tokens) for tokens in (96, 128, 256)),
    ]
    off = figure.rows[3]
    assert off["thinking"] + off["visible"] == pytest.approx(off["tokens"])
    assert off["thinking"] == pytest.approx(0.8 * off["tokens"], rel=0.02)
    assert off["accuracy_low"] < off["accuracy"] < off["accuracy_high"]
    assert figure.rows[4]["cut_off"] == pytest.approx(50, abs=12)


def test_the_ways_are_told_apart_by_shape_and_dash_and_the_axis_has_off_last() -> None:
    figure = drawn(OFF, told(64, 0.7), told(1024, 0.7), cut(96))
    assert figure is not None
    left, right = specification(figure)["hconcat"]
    path = next(layer for layer in left["layer"] if "strokeDash" in layer["encoding"])
    dots = next(layer for layer in left["layer"] if "shape" in layer["encoding"])
    for encoding in (path["encoding"]["strokeDash"], dots["encoding"]["shape"]):
        one, other = encoding["scale"]["range"]
        assert one != other
    assert right["encoding"]["x"]["sort"] == ["64", "1,024", "off"]


def test_only_what_differs_in_its_thinking_budget_alone_is_one_line() -> None:
    assert drawn(OFF, cut(96)) is None
    assert drawn(told(64, 0.7)) is None
    assert drawn(OFF, told(64, 0.7, concurrency=16)) is None
    assert drawn(OFF, told(64, 0.7, opt=("fp8",))) is None
    assert drawn(OFF, told(64, 0.7, max_tokens=512)) is None
    assert drawn(OFF, told(64, 0.7, changes=(("status", "invalid"),))) is None
    assert drawn(OFF, told(64, 0.7)) is not None
    assert drawn(told(0, 0.7), told(64, 0.7)) is not None


def test_the_largest_max_tokens_is_that_with_several_thinking_budgets() -> None:
    figure = drawn(OFF, told(64, 0.7), cut(512, share=0), cut(96), told(64, 0.7, max_tokens=96))
    assert figure is not None
    ways = [(row["way"], row["budget"], row["max_tokens"]) for row in figure.rows]
    assert ways[:2] == [(TOLD, "64", 256), (TOLD, "off", 256)]
    assert [most for way, _, most in ways if way == CUT_OFF] == [96, 256, 512]


def test_the_smallest_budget_that_is_not_shown_to_lose_and_what_it_saves() -> None:
    found = said(OFF, told(0, 0.2), told(64, 0.8), told(128, 0.8))
    assert (
        "to stop thinking at 64 tokens where this loss is small enough: against off it loses at most" in found
    )
    assert "points of accuracy (95 %) and saves 3" in found  # 100 tokens for 150


def test_where_every_budget_loses_it_is_left_to_think() -> None:
    found = said(OFF, told(0, 0.2), told(64, 0.4))
    assert found.startswith(
        "Leave vllm · no optimization (math500) its thinking (off): told to stop at 64 it "
    )
    assert "loses" in found


def test_a_budget_that_saves_no_time_is_not_said_to() -> None:
    assert "and saves nothing of the time" in said(OFF, told(64, 0.8, tokens=220))


def test_without_off_the_largest_budget_is_what_others_are_compared_with() -> None:
    assert "against 128 it loses at most" in said(told(64, 0.8), told(128, 0.8))


def test_what_is_cut_off_at_off_is_said_where_accuracy_is() -> None:
    assert "cuts off" not in said(OFF, told(64, 0.8))
    assert "where max_tokens 256 cuts off 4" in said(OFF.but(cut=0.45), told(64, 0.8))


def test_one_that_goes_on_thinking_in_its_answer_is_told() -> None:
    found = said(OFF, told(0, 0.8, thinks=0, tokens=63), told(64, 0.8, thinks=0.7))
    # 63 visible tokens for 30
    assert "told to stop at 0 it writes 2.1" in found
    assert "times as many visible tokens: it goes on thinking in its answer" in found


@pytest.mark.parametrize(("share", "grew"), [(0.6, True), (0.73, False)])
def test_a_little_more_visible_is_not_going_on_to_think(share: float, grew: bool) -> None:
    # 0.4 and 0.27 of 150 tokens instead of 0.2: 2 and 1.35 times as many
    assert ("it goes on" in said(OFF, told(64, 0.8, thinks=share, tokens=150))) == grew


def test_answers_cut_off_while_thinking_are_not_taken_for_short_ones() -> None:
    off, stopped = OFF.but(cut=0.6, thinks=0.5), told(64, 0.8, thinks=0.5, tokens=150)
    figure = drawn(off, stopped)
    assert figure is not None
    at_64, at_off = figure.rows
    assert at_64["visible"] > 2 * at_off["visible"]  # of all questions: most have no visible token at off
    assert "goes on thinking" not in figure.advice


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.9, "told to stop at 64 it is "), (0.4, "not decided: told to stop at 64 or cut off at 128")],
)
def test_told_to_stop_against_cut_off_at_the_same_length(accuracy: float, expected: str) -> None:
    found = said(OFF, told(64, accuracy), cut(128))  # 0.8 of the half that is not cut off are right
    assert expected in found
    assert ("more accurate than cut off at 128" in found) == (accuracy == 0.9)


def test_told_to_stop_may_be_the_worse_way() -> None:
    assert "points less accurate than cut off at 128" in said(OFF, told(64, 0.1), cut(128))


@pytest.mark.parametrize("tokens", [80, 120])
def test_answers_of_another_length_are_not_set_against_each_other(tokens: int) -> None:
    found = said(OFF, told(64, 0.9), cut(128, tokens=tokens))
    assert "no two answers are of about the same length" in found


def test_what_cuts_nothing_off_is_not_called_cut_off() -> None:
    assert "no two answers are" in said(OFF, told(64, 0.9), cut(512, share=0))
    few = OFF.but(cut=0.1, tokens=100)  # what the budgets are compared with is no other way
    assert "no two answers are" in said(few, told(64, 0.9), cut(96, tokens=50))


def test_without_other_max_tokens_nothing_is_said_of_being_cut_off() -> None:
    assert "cut off at" not in said(OFF, told(64, 0.9))
    assert "same length" not in said(OFF, told(64, 0.9))


@pytest.mark.slow
def test_of_equal_ways_none_is_called_more_accurate() -> None:
    planted = (OFF, told(64, 0.4), told(32, 0.4), cut(128), cut(96))
    claimed = sum("not decided" not in said(*planted, seed=seed) for seed in range(40))
    assert claimed <= 5  # at 5 %: 5 or fewer in 40 with 98 %


def test_thought_that_was_not_counted_is_no_bar_and_no_claim() -> None:
    runs = runs_of([OFF, told(0, 0.8, thinks=0, tokens=150)])
    uncounted = [
        replace(
            run,
            requests=Requests(
                {**run.requests.columns, "reasoning_tokens": [None] * len(run.requests)}
                if run.requests is not None
                else {}
            ),
        )
        for run in runs
    ]
    figure = of_runs(uncounted)
    assert figure is not None
    assert {row["thinking"] for row in figure.rows} == {None}
    assert {row["tokens"] is None for row in figure.rows} == {False}
    assert "visible tokens" not in figure.advice
    assert len(specification(figure)["hconcat"]) == 1


def test_without_grades_the_tokens_are_drawn_and_grades_asked_for() -> None:
    ungraded = [
        replace(run, row={**run.row, "accuracy": None}, requests=Requests(columns))
        for run in runs_of([OFF, told(64, 0.8)])
        if run.requests is not None
        for columns in [{**run.requests.columns, "correct": [None] * len(run.requests)}]
    ]
    figure = of_runs(ungraded)
    assert figure is not None
    assert {row["accuracy"] for row in figure.rows} == {None}
    assert figure.advice.startswith("Grade the same questions at two thinking budgets")


def test_the_page_has_it_after_the_budgets_from_what_is_stored(tmp_path: Path) -> None:
    store(tmp_path / "results", [OFF, cut(96), told(0, 0.3), told(64, 0.7)])
    made = tmp_path / "out"
    assert main([f"results_dir={tmp_path / 'results'}", "study=planted", f"out={made}"]) == 0
    page = (made / "index.html").read_text()
    assert 0 < page.index('id="budget-title"') < page.index('id="told-to-stop-title"')
    with (made / "files" / "told-to-stop.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["budget"] for row in rows] == ["0", "64", "off", "96", "256"]
    assert all(float(row["thinking"]) >= 0 for row in rows)


def test_cells_without_requests_are_no_line() -> None:
    assert of_runs([replace(run, requests=None) for run in runs_of([OFF, told(64, 0.8)])]) is None


def test_the_view_of_max_tokens_does_not_mix_thinking_budgets() -> None:
    figure = drawn(OFF, cut(96), told(64, 0.7), told(64, 0.5, max_tokens=96), view=budget)
    assert figure is not None
    lines: dict[str, list[int]] = {}
    for row in figure.rows:
        lines.setdefault(row["setting"], []).append(row["budget"])
    assert lines == {
        "math500 · thinking at most 64 tokens": [96, 256],
        "math500 · thinking without a limit": [96, 256],
    }
    assert drawn(OFF, told(64, 0.7, max_tokens=96), view=budget) is None


def test_a_thinking_budget_is_named_where_there_are_several_and_off_among_them() -> None:
    variants, _ = sort_out(runs_of([OFF, told(0, 0.3), told(64, 0.7)]))
    assert [Names(variants).setting(one) for one in variants] == [
        "math500 · thinking at most 0 tokens",
        "math500 · thinking at most 64 tokens",
        "math500 · thinking without a limit",
    ]
    alone, _ = sort_out(runs_of([OFF]))
    assert Names(alone).setting(alone[0]) == "math500"


def test_thinking_budgets_are_no_choices_on_one_frontier() -> None:
    variants, _ = sort_out(runs_of([OFF, told(64, 0.7), OFF.but(concurrency=16)]))
    groups = [point.group for point in pareto_points(variants)]
    assert len(groups) == 3
    assert len(set(groups)) == 2
