"""Frontiers of throughput, cost and energy: what is on them, per GPU, and never what was not measured."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.__main__ import main
from orchestrator.report.accuracy import accuracy_rows
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.pareto import cost_per_million, joules_per_million
from orchestrator.report.theme import MOST_ROWS, Figure, specification, svg
from orchestrator.report.variants import sort_out
from orchestrator.report.views.frontiers import frontiers
from tests.report.studies import Planted, runs_of

pytestmark = pytest.mark.slow

BASE = Planted(runs=1, items=4, noise=0.0)
PRICE = Options(price_gpu_hour=3.6)


def joules(value: float | None) -> tuple[tuple[str, Any], ...]:
    return (("joule_per_output_token", value),)


def drawn(*planted: Planted, options: Options = PRICE) -> dict[str, Figure]:
    variants, _ = sort_out(runs_of(planted))
    found = {
        figure.name: figure
        for figure in frontiers(variants, accuracy_rows(variants), Names(variants), options)
    }
    assert all(svg(specification(figure)) for figure in found.values())
    return found


def test_a_million_tokens_cost_what_all_gpus_of_the_deployment_cost() -> None:
    for gpus in (1, 8):
        (variant,), _ = sort_out(runs_of([BASE.but(gpus=gpus)]))
        # eight users at 50 tokens/s each are 400 tokens/s: 2,500 s, at 0.001 a second and GPU
        assert cost_per_million(variant, 3.6) == pytest.approx([2.5 * gpus])


def test_energy_of_a_million_tokens_is_that_of_all_gpus_as_it_is_stored() -> None:
    (variant,), _ = sort_out(runs_of([BASE.but(gpus=8, changes=joules(1.5))]))
    assert joules_per_million(variant) == pytest.approx([1.5e6])


@pytest.mark.parametrize("missing", [None, 0.0])
def test_energy_that_is_not_known_is_no_point_and_not_zero(missing: float | None) -> None:
    known = [BASE.but(concurrency=at, changes=joules(9 / at)) for at in (4, 8)]
    figure = drawn(*known, BASE.but(opt=("fp8",), changes=joules(missing)))["frontier-energy"]
    assert len(figure.rows) == 2
    assert min(row["y"] for row in figure.rows) == pytest.approx(9e6 / 8)
    assert "frontier-energy" not in drawn(BASE, BASE.but(opt=("fp8",)))


def test_there_is_no_cost_without_a_price_or_without_a_gpu() -> None:
    two = [BASE, BASE.but(concurrency=16)]
    assert set(drawn(*two, options=Options())) == {"pareto"}
    assert set(drawn(*two)) == {"pareto", "frontier-cost"}
    assert set(drawn(*(one.but(gpus=0) for one in two))) == {"pareto"}


def test_thinking_budgets_have_a_frontier_each_and_its_heading_says_which() -> None:
    planted = [BASE.but(thinking_budget=budget, concurrency=at) for budget in (None, 64) for at in (4, 8)]
    figure = drawn(*planted)["pareto"]
    assert {(row["group"].split(", ", 4)[-1], row["label"]) for row in figure.rows} == {
        (thinking, f"vllm · no optimization · {at} in flight")
        for thinking in ("thinking without a limit", "thinking at most 64 tokens")
        for at in (4, 8)
    }
    assert {row["group"] for row in drawn(*planted[:2])["pareto"].rows} == {
        "r1-7b, h100, math500, budget 4096"
    }


@pytest.mark.parametrize("status", ["invalid", "failed"])
def test_a_cell_that_does_not_count_is_on_no_frontier(status: str) -> None:
    best = BASE.but(opt=("awq",), tpot_s=0.001, changes=(("status", status), *joules(0.1)))
    known = [BASE.but(concurrency=at, tpot_s=0.01 * at**0.5, changes=joules(9 / at)) for at in (4, 8)]
    for figure in drawn(*known, best).values():
        assert len(figure.rows) == 2
        assert all(row["frontier"] for row in figure.rows)


def test_a_frontier_of_cost_rises_with_the_speed_and_has_no_dominated_point() -> None:
    speeds = [0.01, 0.012, 0.03, 0.011, 0.02, 0.05]
    planted = [
        BASE.but(concurrency=at, tpot_s=tpot, changes=joules(5 / at))
        for at, tpot in zip((1, 2, 4, 8, 16, 32), speeds, strict=True)
    ]
    for name in ("frontier-cost", "frontier-energy"):
        rows = drawn(*planted)[name].rows
        kept = sorted((row for row in rows if row["frontier"]), key=lambda row: float(row["x"]))
        assert all(a["y"] < b["y"] for a, b in pairwise(kept))
        assert [row["number"] for row in kept] == list(range(1, len(kept) + 1))
        for row in rows:
            beaten = any(
                other["x"] >= row["x"] and other["y"] <= row["y"] and other is not row for other in rows
            )
            assert row["frontier"] == (not beaten)
            assert (row["number"] is not None) == row["frontier"]


def test_the_ends_of_the_frontier_are_told() -> None:
    slow, fast = BASE.but(concurrency=32, tpot_s=0.05), BASE.but(concurrency=1, tpot_s=0.01)
    figure = drawn(slow, fast)["frontier-cost"]
    assert figure.advice == (
        "Take the cheapest configuration that is fast enough for your users: from vllm · no optimization · "
        "32 in flight with 1.56 per million tokens at 20.0 tokens/s a user to vllm · no optimization · 1 in "
        "flight with 10.0 per million tokens at 100 tokens/s a user."
    )
    best = drawn(BASE, BASE.but(opt=("fp8",), tpot_s=0.01))["pareto"]
    assert best.advice.startswith(
        "Take what is best in both by the means: vllm · fp8 with 800 tokens/s per GPU"
    )
    apart = drawn(BASE, BASE.but(model="r1-70b", tpot_s=0.1))["pareto"]
    assert "there is no choice yet" in apart.advice


@pytest.mark.parametrize("price", ["free", "0", "-1", "nan", "inf", ""])
def test_a_price_is_a_number_above_zero(
    price: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"results_dir={tmp_path}", "study=planted", f"price.gpu_hour={price}"]) == 2
    error = capsys.readouterr().err.strip()
    assert error == f"error: price.gpu_hour={price}: must be the price of a GPU hour, above 0"


SLOW = BASE.but(items=200, accuracy=0.95)
FAST = SLOW.but(opt=("fp8",), tpot_s=0.01, accuracy=0.5, changes=joules(0.5))


def encodings(figure: Figure, channel: str) -> list[dict[str, Any]]:
    layers = specification(figure)["vconcat"][0]["layer"]
    return [found for layer in layers if (found := layer.get("encoding", {}).get(channel)) is not None]


def listed_points(figure: Figure) -> list[str]:
    whole = specification(figure)
    return [value["line"] for value in whole["datasets"][whole["vconcat"][1]["data"]["name"]]]


def test_accuracy_is_the_size_of_a_point_stands_in_the_list_and_keeps_what_is_slower() -> None:
    figures = drawn(SLOW.but(changes=joules(1.0)), FAST)
    for name in ("pareto", "frontier-energy", "frontier-cost"):
        figure = figures[name]
        assert [one["field"] for one in encodings(figure, "size")] == ["accuracy"]
        rows = {row["mark"]: row for row in figure.rows}
        assert {mark: row["by_accuracy"] for mark, row in rows.items()} == {"1": None, "A1": "more accurate"}
        assert rows["A1"]["accuracy"] > 85 > 65 > rows["1"]["accuracy"]
        assert rows["A1"]["accuracy_low"] < rows["A1"]["accuracy"] < rows["A1"]["accuracy_high"]
        first, second = listed_points(figure)
        assert first.startswith("1  vllm · fp8, ")
        assert second.startswith("A1  vllm · no optimization, ")
        assert second.endswith("): more accurate")
        assert "Where accuracy counts, also: A1, vllm · no optimization (9" in figure.advice


def test_that_it_is_more_accurate_may_be_undecided_and_is_said_to_be() -> None:
    close = [one.but(changes=(("accuracy", value),)) for one, value in ((SLOW, 0.95), (FAST, 0.94))]
    figure = drawn(close[0], close[1].but(accuracy=0.94))["pareto"]
    assert {row["mark"]: row["by_accuracy"] for row in figure.rows} == {"1": None, "A1": "not decided"}
    assert listed_points(figure)[1].endswith("): not decided")
    assert "Not decided is whether" in figure.advice
    (size,) = encodings(figure, "size")
    assert size["scale"]["domain"] == pytest.approx([84.5, 104.5])  # a point looks like one


def test_what_was_not_graded_is_drawn_dashed_and_has_no_accuracy() -> None:
    figure = drawn(SLOW, FAST.but(changes=(("accuracy", None),)))["pareto"]
    assert [row["accuracy"] for row in figure.rows if row["mark"] == "1"] == [None]
    assert listed_points(figure)[0] == "1  vllm · fp8"
    dashed = [one for one in specification(figure)["vconcat"][0]["layer"] if "strokeDash" in one["mark"]]
    assert [one["transform"] for one in dashed] == [[{"filter": "!isValid(datum.accuracy)"}]]
    plain = drawn(*(one.but(changes=(("accuracy", None),)) for one in (SLOW, FAST)))["pareto"]
    assert encodings(plain, "size") == []


def test_a_budget_that_is_not_known_is_no_part_of_a_name() -> None:
    figure = drawn(*(one.but(changes=(("max_tokens", None),)) for one in (SLOW, FAST)))["pareto"]
    assert {row["group"] for row in figure.rows} == {"r1-7b, h100, math500"}


def test_of_a_long_frontier_the_list_says_what_it_leaves_out() -> None:
    many = [BASE.but(concurrency=at, tpot_s=0.01 * at**0.5) for at in range(1, MOST_ROWS + 3)]
    figure = drawn(*many)["pareto"]
    assert len(listed_points(figure)) == MOST_ROWS
    assert f"The list has the first {MOST_ROWS} of {MOST_ROWS + 2}." in figure.caption
    assert "The list has" not in drawn(*many[:MOST_ROWS])["pareto"].caption
