"""The released study of a reasoning model and its standard pair, measured on a CPU, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.report.build import find, make_report
from orchestrator.report.findings import Findings
from orchestrator.report.options import Options
from orchestrator.report.read import read_runs
from orchestrator.report.views.waterfalls import SEEN, waterfalls
from orchestrator.store.read import read_cells
from tests.support.cli import ROOT

PAIR = ROOT / "docs/data/pair"
OPTIONS = Options(results_dir=PAIR.parent, studies=("pair",))


@pytest.fixture(scope="module")
def findings() -> Findings:
    return find(read_runs(OPTIONS, map), OPTIONS)


def test_every_cell_of_it_counts_and_was_measured() -> None:
    rows = read_cells(PAIR).to_pylist()
    assert [row["status"] for row in rows] == ["done"] * 24
    assert {row["simulated"] for row in rows} == {False}
    assert {row["gpu_type"] for row in rows} == {"cpu"}


def test_with_one_run_a_side_nothing_is_claimed_of_an_optimization(findings: Findings) -> None:
    lines = [line for line in findings.lines if line.pair.axis.name == "optimizations"]
    assert len({line.pair for line in lines}) == 12
    assert not [line for line in lines if line.verdict == "different"]


def test_thinking_is_more_accurate_where_the_budget_lets_it(findings: Findings) -> None:
    right = {
        (one.variant.facts["model"], one.variant.facts["max_tokens"]): one.value
        for one in findings.accuracies
        if one.variant.facts["concurrency"] == "2" and one.variant.facts["opt"] == "none"
    }
    thinks, answers = "smollm2-135m-think", "smollm2-135m"
    assert right[answers, "256"] == 0.0
    assert right[thinks, "64"] is not None
    assert right[thinks, "256"] is not None
    assert 0 < right[thinks, "64"] < right[thinks, "256"]


def test_bars_too_small_to_be_seen_have_no_number_of_their_own(findings: Findings) -> None:
    figure = waterfalls(findings.lines, findings.names)
    assert figure is not None
    small = [row for row in figure.rows if not row["side"] and row["said"] == "≈ 0"]
    assert small, "the queue of an engine that nothing waits for"
    assert all(abs(row["value"]) < SEEN * 20 for row in small)
    assert not [row for row in figure.rows if "e-" in row["said"]]


@pytest.mark.slow
def test_its_page_can_be_made(tmp_path: Path) -> None:
    made = make_report(
        Options(results_dir=PAIR.parent, studies=("pair",), out=tmp_path / "report"), "a command"
    )
    page = made.page.read_text()
    assert "Should it be switched on?" in page
    assert "Not decided" in page
