"""The released cells of a reasoning model with its own weights, and the tables made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu.own import levels, table
from orchestrator.store.read import read_cells
from tests.support.cli import ROOT

RELEASED = ROOT / "docs/data/own-weights"
DOC = ROOT / "docs/own-weights.md"


@pytest.mark.parametrize(("study", "cells"), [("vllm", 20), ("vllm-earlier", 16), ("sglang", 16)])
def test_what_was_released_is_measured_and_says_which_weights_it_had(study: str, cells: int) -> None:
    rows = read_cells(RELEASED / study).to_pylist()
    assert len(rows) == cells
    assert {row["status"] for row in rows} == {"done"}
    assert {row["simulated"] for row in rows} == {False}
    assert len({row["model_revision"] for row in rows}) == 1


@pytest.mark.parametrize("study", ["vllm", "sglang"])
def test_the_page_has_the_table_of_the_released_cells(study: str) -> None:
    page = DOC.read_text()
    for line in table(RELEASED / study)[2:]:
        assert line in page


def test_the_page_has_accuracy_and_thinking_by_level() -> None:
    page = DOC.read_text()
    for line in levels(RELEASED / "vllm")[2:]:
        assert line in page


def test_a_study_without_cells_has_no_levels(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    assert levels(tmp_path) == []
