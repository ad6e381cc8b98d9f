"""What `make demo` runs, for real: a reasoning model beside its standard pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.metrics.compare import compare_accuracy
from orchestrator.store.read import read_cells, read_requests
from tests.support.cli import TAKEN, sweep, undisturbed

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

SMALL, LARGE = 96, 512
THINKING, STANDARD = "smollm2-135m-think", "smollm2-135m"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    asked = ("-m", "+study=demo", "tracker=none")
    folder, said = undisturbed(*asked, folder=tmp_path_factory.mktemp("results"), timeout_s=850)
    assert "cut thinking" in said
    return folder / "demo"


@pytest.fixture(scope="module")
def cells(study: Path) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["model"], row["max_tokens"]): row for row in read_cells(study).to_pylist()}


def test_both_models_are_measured_at_both_budgets(cells: dict[tuple[str, int], dict[str, Any]]) -> None:
    assert set(cells) == {(model, budget) for model in (THINKING, STANDARD) for budget in (SMALL, LARGE)}
    assert {row["status"] for row in cells.values()} == {"done"}


def test_thinking_pays_where_the_budget_lets_it(cells: dict[tuple[str, int], dict[str, Any]]) -> None:
    assert cells[THINKING, LARGE]["accuracy"] > cells[STANDARD, LARGE]["accuracy"] + 0.3
    assert cells[THINKING, LARGE]["accuracy"] > cells[THINKING, SMALL]["accuracy"]


def test_a_small_budget_cuts_it_while_it_thinks(cells: dict[tuple[str, int], dict[str, Any]]) -> None:
    small, large = (cells[THINKING, budget] for budget in (SMALL, LARGE))
    assert small["truncated_thinking_rate"] > 0.2
    assert large["truncated_thinking_rate"] < 0.1
    assert cells[STANDARD, LARGE]["truncated_thinking_rate"] == 0


def test_its_users_wait_for_the_thought_before_they_see_a_word(
    cells: dict[tuple[str, int], dict[str, Any]],
) -> None:
    large, standard = cells[THINKING, LARGE], cells[STANDARD, LARGE]
    assert large["ttfvt_s_p50"] > 3 * large["ttft_s_p50"]
    assert large["thinking_token_share"] > 0.5
    assert standard["ttfvt_s_p50"] == standard["ttft_s_p50"]
    assert not standard["thinking_token_share"]


def test_each_request_has_its_level_and_what_was_thought(study: Path) -> None:
    ids = [row["cell_id"] for row in read_cells(study).to_pylist()]
    requests = read_requests(study, ids).to_pylist()
    assert {request["level"] for request in requests} == set(range(1, 8))
    thought = [request for request in requests if request["reasoning_text"]]
    assert thought
    assert all("</think>" not in (request["response_text"] or "") for request in thought)
    assert all(request["reasoning_tokens"] <= request["output_tokens"] for request in thought)


@pytest.fixture(scope="module")
def optimized(study: Path) -> dict[str, dict[str, Any]]:
    """The thinking model at the large budget in the same study: without optimizations, and with two."""
    asked = (f"model={THINKING}", f"max_tokens={LARGE}", "opt=none,[kv-fp8,prefix-cache]")
    done = sweep(*("-m", "+study=demo", "tracker=none", *asked, f"results_dir={study.parent}"), timeout_s=500)
    assert done.returncode == 0 or TAKEN in done.stdout, done.stdout + done.stderr
    rows = [
        row for row in read_cells(study).to_pylist() if (row["model"], row["max_tokens"]) == (THINKING, LARGE)
    ]
    return {"+".join(row["opt"]) or "none": row for row in rows}


def test_accuracy_under_an_optimization_is_compared_question_by_question(
    optimized: dict[str, dict[str, Any]], study: Path
) -> None:
    opt = "kv-fp8+prefix-cache"
    plain, other = (answers(study, optimized[one]) for one in ("none", opt))
    found = compare_accuracy(*plain, *other)
    assert found is not None
    assert (found.items, found.unit, found.method) == (len(plain[0]), "item", "mcnemar")
    assert found.difference == pytest.approx(optimized[opt]["accuracy"] - optimized["none"]["accuracy"])
    assert found.p is not None
    assert found.p > 0.01, "the weights are the same and 14 questions are few"


def answers(study: Path, row: dict[str, Any]) -> tuple[list[str], list[bool]]:
    asked = read_requests(study, [row["cell_id"]]).to_pylist()
    return [one["item_id"] for one in asked], [one["correct"] for one in asked]
