"""Reads a whole study for a report: each file is opened once, and of the requests only some columns are
read. In parts, which several processes can share."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import ConfigError
from orchestrator.store import attempts
from orchestrator.store.attempts import UNREADABLE
from orchestrator.store.read import Row, checked_cell, files_of, of_attempt
from orchestrator.store.schema import CELLS, REQUESTS
from orchestrator.store.versions import NewerError, check_version, migrated

PART = 50  # cells

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredCell:
    """``values``: every column of `CELLS` and any that another version added. ``row``: where they are stored,
    and of which attempt."""

    values: Mapping[str, Any]
    row: Row

    @property
    def cell_id(self) -> str:
        return self.row.path.stem


@dataclass(frozen=True)
class RequestsOf:
    """``columns`` of the requests of these cells of a study."""

    study_dir: Path
    cells: Sequence[tuple[str, Row]]
    columns: Sequence[str]


def rows_in_parts(study_dir: Path) -> list[list[Path]]:
    """Where the rows of the study's cells are, for `stored_cells`."""
    paths = files_of(study_dir, "cells")
    return [paths[start : start + PART] for start in range(0, len(paths), PART)]


def requests_in_parts(
    study_dir: Path, cells: Sequence[StoredCell], columns: Sequence[str]
) -> list[RequestsOf]:
    """What to ask `stored_requests` for, to have all of these cells."""
    named = [(cell.cell_id, cell.row) for cell in cells]
    return [
        RequestsOf(study_dir, named[start : start + PART], columns) for start in range(0, len(named), PART)
    ]


def stored_cells(paths: Sequence[Path]) -> list[StoredCell]:
    """One for each row, as `store.read.read_cells` has them. Raises ConfigError for the first row that only a
    newer version of the program can read."""
    found = [one for path in paths if (one := _cell(path)) is not None]
    alike = [table for table, _ in found if table.schema.equals(CELLS)]
    rows = iter(pa.concat_tables([CELLS.empty_table(), *alike]).combine_chunks().to_pylist())
    return [
        StoredCell(
            next(rows) if table.schema.equals(CELLS) else dict.fromkeys(CELLS.names) | table.to_pylist()[0],
            row,
        )
        for table, row in found
    ]


def stored_requests(part: RequestsOf) -> tuple[pa.Table, list[tuple[str, int]]]:
    """The columns of the attempts that the cells' rows name, null where an older version did not store one,
    all cells' in one; and the cells that have requests, in the table's order, each with how many."""
    schema = pa.schema([REQUESTS.field(name) for name in part.columns])
    tables = {}
    for cell_id, row in part.cells:
        table = of_attempt(part.study_dir, cell_id, "requests", row, lambda file: _columns(file, schema))
        if table is not None and len(table):
            tables[cell_id] = table
    whole = pa.concat_tables([schema.empty_table(), *tables.values()]).combine_chunks()
    return whole, [(cell_id, len(table)) for cell_id, table in tables.items()]


def _cell(path: Path) -> tuple[pa.Table, Row] | None:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            check_version(file.metadata.metadata)
            said = attempts.recorded(file)
            table = checked_cell(path, file.read(use_threads=False))
        return None if table is None else (table, Row(path, attempts.name_of(path, said), said))
    except NewerError as error:
        raise ConfigError(f"{path}: {error}; use the version that stored it, or another study") from None
    except UNREADABLE as error:
        logger.warning("%s cannot be read: %s", path, error)
        return None


def _columns(file: pq.ParquetFile, schema: pa.Schema) -> pa.Table:
    there = set(file.schema_arrow.names)
    table = migrated(
        file.read([name for name in schema.names if name in there], use_threads=False), "requests"
    )
    for field in schema:
        if field.name not in there:
            table = table.append_column(field, pa.nulls(file.metadata.num_rows, field.type))
    return table.select(schema.names).cast(schema)
