"""Reads a study back. A file that cannot be read is logged as a warning and counts as not there."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.schema import CELLS, REQUESTS

_ONE_ROW = (["done"], ["invalid"], ["failed"])

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CellStatus:
    """``corrupt``: the file is there and cannot be read, so the cell counts as not run. How long the cell and
    its engine's start took are for estimates alone."""

    status: Literal["done", "invalid", "failed", "corrupt"]
    reason: str | None
    attempts: int | None = None
    duration_s: float | None = field(default=None, compare=False)
    deployment_start_s: float | None = field(default=None, compare=False)


def statuses(study_dir: Path) -> dict[str, CellStatus]:
    """Status of every stored cell, by cell_id; empty when there is no such study."""
    return {path.stem: _status(path) for path in _files(study_dir, "cells")}


def read_status(study_dir: Path, cell_id: str) -> CellStatus | None:
    """One cell's status; None when it is not stored."""
    path = study_dir / "cells" / f"{cell_id}.parquet"
    return _status(path) if path.exists() else None


def read_cells(study_dir: Path) -> pa.Table:
    """One row per stored cell, with the columns of `CELLS` and any that another version added."""
    return _concatenate([_read_cell(path) for path in _files(study_dir, "cells")], CELLS)


def read_cell(study_dir: Path, cell_id: str) -> dict[str, Any] | None:
    """One cell's row; None when it is not stored or cannot be read."""
    path = study_dir / "cells" / f"{cell_id}.parquet"
    table = _read_cell(path) if path.exists() else None
    return None if table is None else table.to_pylist()[0]


def read_requests(study_dir: Path, cell_ids: Collection[str] | None = None) -> pa.Table:
    """Requests of these cells, or of all; never of a cell that was not committed."""
    committed = [path.stem for path in _files(study_dir, "cells")]
    wanted = [cell_id for cell_id in committed if cell_ids is None or cell_id in cell_ids]
    paths = [study_dir / "requests" / f"{cell_id}.parquet" for cell_id in wanted]
    return _concatenate([_read(path) for path in paths], REQUESTS)


def read_telemetry(study_dir: Path, cell_id: str) -> pa.Table:
    """Samples of one cell, in the order taken. Raises FileNotFoundError."""
    return pq.ParquetFile(study_dir / "telemetry" / f"{cell_id}.parquet").read()


def _files(study_dir: Path, folder: str) -> list[Path]:
    return sorted((study_dir / folder).glob("[!.]*.parquet"))


def _status(path: Path) -> CellStatus:
    names = ["status", "reason", "attempts", "duration_s", "deployment_start_s"]
    table = _read_cell(path, names)
    if table is None:
        return CellStatus("corrupt", f"{path} cannot be read")
    row = table.to_pylist()[0]
    return CellStatus(**{name: row.get(name) for name in names})


def _concatenate(tables: Sequence[pa.Table | None], schema: pa.Schema) -> pa.Table:
    known = [table for table in tables if table is not None]
    return pa.concat_tables([schema.empty_table(), *known], promote_options="default")


def _read_cell(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    table = _read(path, columns)
    if table is None or ("status" in table.column_names and table["status"].to_pylist()[:2] in _ONE_ROW):
        return table
    logger.warning("%s is not the row of a cell", path)
    return None


def _read(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return None
