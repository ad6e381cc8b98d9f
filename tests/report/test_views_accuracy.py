"""Budgets, domains and the paper's table: what is drawn, and what the sentence says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.accuracy import accuracy_rows
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.read import read_runs
from orchestrator.report.tables import Table
from orchestrator.report.theme import Figure, specification, svg
from orchestrator.report.variants import sort_out
from orchestrator.report.views.asu import asu_table
from orchestrator.report.views.budget import budget
from orchestrator.report.views.difficulty import difficulty
from orchestrator.report.views.domains import domains
from tests.report.studies import Planted, runs_of, store
from tests.store.test_versions import rewrite

BASE = Planted(items=100, runs=1)
FAMILIES = ("algebra", "geometry", "number theory")
INVALID = (("status", "invalid"),)


def at(tokens: int, accuracy: float, cut: float | None = 0.0, **changes: Any) -> Planted:
    return BASE.but(
        max_tokens=tokens,
        accuracy=accuracy,
        changes=(("truncated_rate", cut),),
        tokens=tokens / 10,
        **changes,
    )


def drawn(*planted: Planted, view: Any) -> Figure | None:
    variants, _ = sort_out(runs_of(planted))
    given = (variants, accuracy_rows(variants)) if view is budget else (variants,)
    figure: Figure | None = view(*given, Names(variants))
    assert figure is None or svg(specification(figure))
    return figure


def table(*planted: Planted) -> Table | None:
    variants, _ = sort_out(runs_of(planted))
    return asu_table(variants, accuracy_rows(variants), Names(variants))


def test_a_budget_is_drawn_with_what_it_cut_off_and_the_time_it_takes() -> None:
    figure = drawn(at(1024, 0.2, 0.7), at(512, 0.1, 0.9), at(8192, 0.8, 0.02), view=budget)
    assert figure is not None
    assert [row["budget"] for row in figure.rows] == [512, 1024, 8192]  # as numbers go
    assert [row["cut_off"] for row in figure.rows] == [90, 70, 2]
    assert figure.rows[0]["e2e"] < figure.rows[1]["e2e"] < figure.rows[2]["e2e"]
    assert figure.rows[2]["accuracy_low"] < figure.rows[2]["accuracy"] < figure.rows[2]["accuracy_high"]


def test_what_was_not_measured_at_a_budget_is_not_zero() -> None:
    figure = drawn(at(1024, 0.2, None), at(2048, 0.2, None), view=budget)
    assert figure is not None
    assert {row["cut_off"] for row in figure.rows} == {None}


def test_a_view_of_budgets_needs_two_of_one_configuration() -> None:
    assert drawn(at(1024, 0.2), at(2048, 0.2, opt=("fp8",)), view=budget) is None
    assert drawn(at(1024, 0.2), at(2048, 0.2, concurrency=16), view=budget) is None
    invalid = at(2048, 0.2).but(changes=INVALID)
    assert drawn(at(1024, 0.2), invalid, view=budget) is None


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ([at(1024, 0.3, 0.6), at(2048, 0.5, 0.3)], "Even at 2,048 tokens 30.0 % of the answers of vllm"),
        ([at(1024, 0.1), at(2048, 0.9), at(4096, 0.9)], "(math500) with 2,048 tokens instead of 4,096"),
        ([at(1024, 0.1), at(2048, 0.9)], "Keep the largest budget: vllm · no optimization (math500) loses"),
        ([at(1024, 0.95), at(2048, 0.3)], "with 1,024 tokens instead of 2,048"),  # thinking too long loses
    ],
)
def test_the_smallest_budget_that_is_not_shown_to_lose(planted: list[Planted], said: str) -> None:
    figure = drawn(*planted, view=budget)
    assert figure is not None
    assert said in figure.advice


def test_the_configuration_that_saves_most_time_is_told_first() -> None:
    saving = [at(1024, 0.9, opt=("fp8",)), at(8192, 0.9, opt=("fp8",))]
    same = [at(2048, 0.9), at(8192, 0.9).but(tokens=200)]
    figure = drawn(*same, *saving, view=budget)
    assert figure is not None
    assert figure.advice.startswith("Take the smaller budget where that loss is small enough: vllm · fp8")


def test_budgets_that_nobody_graded_are_told_by_their_time() -> None:
    ungraded = (("accuracy", None),)
    few = [
        BASE.but(max_tokens=1024, tokens=50, changes=ungraded),
        BASE.but(max_tokens=2048, changes=ungraded),
    ]
    runs = [replace(run, requests=None) for run in runs_of(few)]
    variants, _ = sort_out(runs)
    figure = budget(variants, accuracy_rows(variants), Names(variants))
    assert figure is not None
    assert {row["accuracy"] for row in figure.rows} == {None}
    assert "grade the same questions at both" in figure.advice


def test_domains_that_differ_in_length_are_told_and_those_that_do_not_are_not() -> None:
    # three levels and three families by turns: each family has a level of its own
    figure = drawn(BASE.but(levels=3, families=FAMILIES), view=domains)
    assert figure is not None
    tokens = {row["domain"]: row["tokens"] for row in figure.rows}
    assert tokens["number theory"] == pytest.approx(3 * tokens["algebra"], rel=0.5)
    assert {row["questions"] for row in figure.rows} == {33, 34}
    assert "length of answers of vllm · no optimization (math500) goes from" in figure.advice
    assert "tokens in algebra to" in figure.advice


@pytest.mark.slow
def test_over_equal_domains_nothing_is_claimed() -> None:
    claimed = 0
    for seed in range(40):
        variants, _ = sort_out(runs_of([BASE.but(items=60, families=FAMILIES, accuracy=0.5)], seed))
        figure = domains(variants, Names(variants))
        assert figure is not None
        claimed += not figure.advice.startswith("Read the mean over all domains alone")
    assert claimed <= 5  # at 5 %, and lengths are the same in all seeds: 5 or fewer in 40 with 98 %


def test_domains_are_of_the_largest_budget_and_need_two() -> None:
    figure = drawn(at(1024, 0.5, families=FAMILIES), at(4096, 0.5, families=FAMILIES), view=domains)
    assert figure is not None
    assert {row["setting"] for row in figure.rows} == {"math500 · budget 4096"}
    assert drawn(BASE.but(families=FAMILIES[:1]), view=domains) is None
    assert drawn(BASE, view=domains) is None


def test_the_papers_table_has_its_three_sides_and_budgets_as_numbers_go() -> None:
    found = table(
        at(512, 0.2), at(4096, 0.8, runs=2), at(1024, 0.4), at(4096, 0.8, opt=("fp8",), tpot_s=0.01)
    )
    assert found is not None
    assert [row[0].rsplit(" ", 1)[1] for row in found.cells] == ["512", "1024", "4096", "4096"]
    assert "Service: tokens/s/GPU" in found.head
    assert "User: whole answer (E2E), s" in found.head
    one = {row["configuration"]: row for row in found.rows if row["max_tokens"] == "4096"}
    assert one["vllm · fp8"]["output_token_per_s"] > one["vllm · no optimization"]["output_token_per_s"]
    runs = {row[1]: row for row in found.cells if row[0].endswith("4096")}
    assert " ± " in runs["vllm · no optimization"][-1]
    assert " ± " not in runs["vllm · fp8"][-1]  # of one run no interval is known


@pytest.mark.parametrize(
    ("tpot_s", "accuracy", "said"),
    [
        (0.01, 1.0, "look first at what leads on all three sides, vllm · fp8 (r1-7b on math500);"),
        (0.01, 0.1, "no configuration leads on all three;"),
    ],
)
def test_what_leads_on_all_sides_is_named(tpot_s: float, accuracy: float, said: str) -> None:
    found = table(BASE, BASE.but(opt=("fp8",), tpot_s=tpot_s, accuracy=accuracy))
    assert found is not None
    assert said in found.note


def test_the_papers_table_needs_accuracy_and_leaves_out_what_does_not_count() -> None:
    assert table(BASE.but(changes=(("accuracy", None),))) is None
    found = table(BASE, BASE.but(opt=("awq",), changes=INVALID))
    assert found is not None
    assert len(found.cells) == 1
    assert "nothing to choose yet" in found.note


def test_requests_of_an_older_version_have_neither_level_nor_domain(tmp_path: Path) -> None:
    planted = BASE.but(levels=5, families=FAMILIES)
    store(tmp_path, [planted])
    options = Options(results_dir=tmp_path, studies=("planted",))
    for view in (difficulty, domains):
        variants, _ = sort_out(read_runs(options))
        assert view(variants, Names(variants)) is not None
    for path in (tmp_path / "planted" / "requests").glob("*.parquet"):
        rewrite(path, lambda table: table.drop_columns(["family", "level"]))
    for view in (difficulty, domains):
        variants, _ = sort_out(read_runs(options))
        assert view(variants, Names(variants)) is None
