"""A whole study read for a report, beside what reads one cell after another."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.errors import ConfigError
from orchestrator.store.bulk import PART, requests_in_parts, rows_in_parts, stored_cells, stored_requests
from orchestrator.store.read import read_cells, read_requests
from tests.store.commits import store

COLUMNS = ("item_id", "outcome", "ttft_s", "level")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for name, requests in (("c1", 3), ("c2", 2), ("c3", 0)):
        store(tmp_path, name, requests=requests)
    return tmp_path


def test_rows_are_those_that_are_read_one_by_one(study: Path) -> None:
    (part,) = rows_in_parts(study)
    assert [cell.values for cell in stored_cells(part)] == read_cells(study).to_pylist()


def test_requests_are_those_that_are_read_one_by_one(study: Path) -> None:
    (part,) = rows_in_parts(study)
    cells = stored_cells(part)
    (asked,) = requests_in_parts(study, cells, COLUMNS)
    table, counts = stored_requests(asked)
    assert counts == [("c1", 3), ("c2", 2)]
    assert table.equals(read_requests(study, ["c1", "c2", "c3"]).select(COLUMNS).combine_chunks())


def test_requests_of_a_superseded_attempt_are_not_read(study: Path) -> None:
    """The file that lies there is not the row's."""
    store(study, "c2", requests=1, attempt_id="another")
    cells = stored_cells(rows_in_parts(study)[0])
    assert stored_requests(requests_in_parts(study, cells, COLUMNS)[0])[1] == [("c1", 3), ("c2", 1)]


def test_a_column_that_an_older_version_did_not_store_is_null(study: Path) -> None:
    path = study / "requests" / "c1.parquet"
    table = pq.ParquetFile(path).read()
    pq.write_table(table.drop_columns(["level"]), path)
    cells = stored_cells(rows_in_parts(study)[0])
    read, counts = stored_requests(requests_in_parts(study, cells, COLUMNS)[0])
    assert counts == [("c1", 3), ("c2", 2)]
    assert read["level"].null_count == 5


def test_a_damaged_row_is_left_out_with_a_warning(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    (study / "cells" / "c2.parquet").write_bytes(b"PAR1 no longer")
    with caplog.at_level(logging.WARNING):
        assert [cell.cell_id for cell in stored_cells(rows_in_parts(study)[0])] == ["c1", "c3"]
    assert "c2.parquet cannot be read" in caplog.text


def test_a_row_of_a_newer_version_is_refused_by_name(study: Path) -> None:
    path = study / "cells" / "c2.parquet"
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({"schema_version": "999"}), path)
    with pytest.raises(ConfigError, match=r"c2\.parquet: .*999"):
        stored_cells(rows_in_parts(study)[0])


def test_a_large_study_is_read_in_parts(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    for number in range(2 * PART + 1):
        (tmp_path / "cells" / f"{number:04}.parquet").touch()
    parts = rows_in_parts(tmp_path)
    assert list(map(len, parts)) == [PART, PART, 1]
    assert len({path for part in parts for path in part}) == 2 * PART + 1
