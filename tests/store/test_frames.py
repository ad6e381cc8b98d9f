"""A study as lazy frames."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import polars as pl
import pytest

from orchestrator.errors import ConfigError
from orchestrator.store import load
from orchestrator.store.attempts import own_path
from tests.store.commits import store

DOCS = Path(__file__).parents[2] / "docs" / "report.md"


def test_cells_requests_and_telemetry_are_joined_by_cell(tmp_path: Path) -> None:
    store(tmp_path / "s", "c1", requests=3)
    store(tmp_path / "s", "c2", requests=2)
    frames = load(tmp_path, "s")
    assert isinstance(frames.requests, pl.LazyFrame)
    assert frames.cells.select("cell_id", "study").collect().rows() == [("c1", "s"), ("c2", "s")]
    counted = frames.requests.group_by("cell_id").len().sort("cell_id").collect()
    assert counted.rows() == [("c1", 3), ("c2", 2)]
    assert frames.telemetry.select("cell_id", "running").collect().height == 4


def test_several_studies_keep_their_names(tmp_path: Path) -> None:
    store(tmp_path / "a", "c1")
    store(tmp_path / "b", "c1")
    assert load(tmp_path, ["a", "b"]).requests.select("study").unique().collect().height == 2


def test_requests_of_another_attempt_are_left_out(tmp_path: Path) -> None:
    store(tmp_path / "s", "c1", attempt_id="one")
    store(tmp_path / "s", "c2", attempt_id="two")
    own_path(tmp_path / "s", "c2", "requests").replace(own_path(tmp_path / "s", "c1", "requests"))
    frames = load(tmp_path, "s")
    assert frames.requests.collect().is_empty()
    assert frames.cells.collect().height == 2


def test_what_an_older_version_has_not_is_null(tmp_path: Path) -> None:
    store(tmp_path / "s", "c1")
    path = own_path(tmp_path / "s", "c1", "requests")
    pl.read_parquet(path).drop("retries", "vote").write_parquet(path)
    frame = load(tmp_path, "s").requests.select("retries", "outcome").collect()
    assert frame["retries"].null_count() == 3


def test_a_study_that_is_not_there_is_said(tmp_path: Path) -> None:
    store(tmp_path / "known", "c1")
    with pytest.raises(ConfigError, match=r"study=other: no cell of such a study .* there are known"):
        load(tmp_path, "other")


def test_the_lines_of_the_docs_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "results" / "demo", "c1")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(block, {"duckdb": duckdb})
