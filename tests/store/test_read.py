from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.store.read import CellStatus, read_cell, read_cells, read_requests, read_telemetry, statuses
from orchestrator.store.schema import CELLS
from orchestrator.store.write import commit
from tests.support.timelines import record


def store(study: Path, cell_id: str, status: str = "done", reason: str | None = None) -> Path:
    row = {"status": status, "reason": reason, "attempts": 1, "output_token_per_s": 5.0}
    return commit(study, cell_id, row, [record(0.0, [(1.0, 1, 0)], request_id=cell_id)], None, [])


def test_a_study_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert statuses(tmp_path / "none") == {}
    assert read_cells(tmp_path / "none").schema == CELLS
    assert read_requests(tmp_path / "none").num_rows == 0


def test_statuses_with_their_reasons(tmp_path: Path) -> None:
    store(tmp_path, "a")
    store(tmp_path, "b", "failed", "out of memory")
    assert statuses(tmp_path) == {
        "a": CellStatus("done", None, 1),
        "b": CellStatus("failed", "out of memory", 1),
    }


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other columns", "no row"])
def test_a_damaged_cell_is_reported_and_does_not_count(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store(tmp_path, "a")
    bad = store(tmp_path, "b")
    match damage:
        case "cut":
            bad.write_bytes(bad.read_bytes()[:-100])
        case "empty":
            bad.write_bytes(b"")
        case "text":
            bad.write_text("hello")
        case "other columns":
            pq.write_table(pa.table({"x": [1]}), bad)
        case "no row":
            pq.write_table(CELLS.empty_table(), bad)
    found = statuses(tmp_path)
    assert found["a"].status == "done"
    assert found["b"].status == "corrupt"
    assert str(bad) in (found["b"].reason or "")
    assert str(bad) in caplog.text
    assert read_cells(tmp_path)["cell_id"].to_pylist() == ["a"]


def test_requests_of_some_cells_and_never_of_one_that_was_not_committed(tmp_path: Path) -> None:
    for cell_id in ("a", "b", "c"):
        store(tmp_path, cell_id)
    (tmp_path / "cells" / "b.parquet").unlink()
    assert read_requests(tmp_path)["cell_id"].to_pylist() == ["a", "c"]
    assert read_requests(tmp_path, ["c", "b"])["cell_id"].to_pylist() == ["c"]


def test_cells_of_another_version_read_together(tmp_path: Path) -> None:
    store(tmp_path, "a")
    older = pa.table({"cell_id": ["b"], "status": ["done"], "retired": [1.5]})
    pq.write_table(older, tmp_path / "cells" / "b.parquet")
    cells = read_cells(tmp_path)
    assert cells["cell_id"].to_pylist() == ["a", "b"]
    assert cells["output_token_per_s"].to_pylist() == [5.0, None]
    assert cells["retired"].to_pylist() == [None, 1.5]


def test_telemetry_of_a_cell_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_telemetry(tmp_path, "a")


def test_one_cell_by_its_id(tmp_path: Path) -> None:
    store(tmp_path, "a")
    row = read_cell(tmp_path, "a")
    assert row is not None
    assert (row["cell_id"], row["output_token_per_s"]) == ("a", 5.0)
    assert read_cell(tmp_path, "b") is None
