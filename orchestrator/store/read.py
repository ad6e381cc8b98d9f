"""Reads a study back. A file that cannot be read, is of a newer version than this one, has a column of a
foreign type, or belongs to another attempt than the row beside it, is logged as a warning and counts as not
there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.metrics.validity import Status
from orchestrator.store import attempts
from orchestrator.store.attempts import UNREADABLE, kept_path, own_path
from orchestrator.store.schema import CELLS, REQUESTS
from orchestrator.store.versions import migrated

T = TypeVar("T")

_ONE_ROW = (["done"], ["invalid"], ["failed"])
_LONG_AGO = datetime.fromtimestamp(0, UTC)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeptAttempt:
    """One that is not the cell's row: superseded by a later measurement, or kept beside a better one.
    ``stored_at`` (UTC, by its writer's clock) is when it began where it is of an older version, and None
    where that is not known either. ``requests`` is how many requests it has."""

    cell_id: str
    attempt_id: str
    status: Status
    reason: str | None
    stored_at: datetime | None
    requests: int


@dataclass(frozen=True, slots=True)
class Failure:
    """``at`` is UTC, by the clock of who stored it."""

    reason: str | None
    at: datetime | None
    attempt_id: str


@dataclass(frozen=True, slots=True)
class CellStatus:
    """``corrupt``: the file is there and cannot be read, so the cell counts as not run. How long the cell and
    its engine's start took are for estimates alone. ``last_failure``: the newest attempt that failed after
    the one that stands."""

    status: Status | Literal["corrupt"]
    reason: str | None
    attempts: int | None = None
    duration_s: float | None = field(default=None, compare=False)
    deployment_start_s: float | None = field(default=None, compare=False)
    attempt_id: str | None = field(default=None, compare=False)
    stored_at: datetime | None = field(default=None, compare=False)
    last_failure: Failure | None = None


def statuses(study_dir: Path) -> dict[str, CellStatus]:
    """Status of every stored cell, by cell_id; empty when there is no such study."""
    return {path.stem: _status(study_dir, path) for path in files_of(study_dir, "cells")}


def read_status(study_dir: Path, cell_id: str) -> CellStatus | None:
    """One cell's status; None when it is not stored."""
    path = own_path(study_dir, cell_id, "cells")
    return _status(study_dir, path) if path.exists() else None


def read_statuses(study_dir: Path, cell_ids: Iterable[str]) -> dict[str, CellStatus]:
    """Status of those of these cells that are stored, by cell_id. One after another they are read in a
    quarter less time than between other work."""
    found = {cell_id: read_status(study_dir, cell_id) for cell_id in dict.fromkeys(cell_ids)}
    return {cell_id: status for cell_id, status in found.items() if status is not None}


def read_cells(study_dir: Path) -> pa.Table:
    """One row per stored cell, with the columns of `CELLS` and any that another version added."""
    return _concatenate({path: _read_cell(path) for path in files_of(study_dir, "cells")}, CELLS)


def read_cell(study_dir: Path, cell_id: str, attempt_id: str | None = None) -> dict[str, Any] | None:
    """One cell's row, or that of one attempt at it; None when it is not stored or cannot be read."""
    if attempt_id is None:
        path = own_path(study_dir, cell_id, "cells")
        table = _read_cell(path) if path.exists() else None
    else:
        row = _row(study_dir, cell_id, attempt_id)
        table = None if row is None else _read_cell(row.path)
    return None if table is None else table.to_pylist()[0]


def read_attempts(study_dir: Path, cell_id: str) -> list[KeptAttempt]:
    """The cell's attempts but the one that stands, oldest first."""
    found = _kept(study_dir, cell_id)
    return [replace(attempt, requests=_requests(study_dir, attempt)) for attempt in found]


def read_requests(
    study_dir: Path, cell_ids: Collection[str] | None = None, attempt_id: str | None = None
) -> pa.Table:
    """Requests of these cells, or of all, by the attempts that their rows name; never of a cell that was not
    committed. ``attempt_id``: of this attempt at one of them."""
    if cell_ids is None:
        wanted = [path.stem for path in files_of(study_dir, "cells")]
    else:
        wanted = sorted(one for one in set(cell_ids) if own_path(study_dir, one, "cells").exists())
    tables = {
        own_path(study_dir, cell_id, "requests"): _belonging(
            study_dir, cell_id, "requests", attempt_id, partial(_whole, "requests")
        )
        for cell_id in wanted
    }
    return _concatenate(tables, REQUESTS)


def read_telemetry(study_dir: Path, cell_id: str, attempt_id: str | None = None) -> pa.Table:
    """Samples of one cell, in the order taken; those of a GPU are lists with one entry a GPU, whatever
    version stored them. Raises FileNotFoundError."""
    table = _belonging(study_dir, cell_id, "telemetry", attempt_id, partial(_whole, "telemetry"))
    if table is None:
        raise FileNotFoundError(f"{own_path(study_dir, cell_id, 'telemetry')}: no samples of this cell's row")
    return table


def files_of(study_dir: Path, folder: str) -> list[Path]:
    return sorted((study_dir / folder).glob("[!.]*.parquet"))


def _status(study_dir: Path, path: Path) -> CellStatus:
    names = ["status", "reason", "attempts", "duration_s", "deployment_start_s", "attempt_id", "stored_at"]
    table = _read_cell(path, names)
    if table is None:
        return CellStatus("corrupt", f"{path} cannot be read")
    row = table.to_pylist()[0]
    failed = [
        attempt
        for attempt in _kept(study_dir, path.stem)
        if attempt.status == "failed"
        and (attempt.stored_at or _LONG_AGO) > (row.get("stored_at") or _LONG_AGO)
    ]
    last = Failure(failed[-1].reason, failed[-1].stored_at, failed[-1].attempt_id) if failed else None
    return CellStatus(**{name: row.get(name) for name in names}, last_failure=last)


def _kept(study_dir: Path, cell_id: str) -> list[KeptAttempt]:
    """As `read_attempts`, by their rows alone: ``requests`` is still to be counted."""
    kept = attempts.kept_attempts(study_dir, cell_id)
    stands = _identity(own_path(study_dir, cell_id, "cells")) if kept else None
    found = []
    for attempt_id in kept:
        if stands is not None and attempt_id == stands.attempt_id:
            continue
        path = kept_path(study_dir, cell_id, attempt_id, "cells")
        table = _read_cell(path, ["status", "reason", "stored_at", "started_at"])
        if table is not None:
            row = table.to_pylist()[0]
            at = row.get("stored_at") or row.get("started_at")
            found.append(KeptAttempt(cell_id, attempt_id, row["status"], row.get("reason"), at, 0))
    return sorted(found, key=lambda attempt: (attempt.stored_at or _LONG_AGO, attempt.attempt_id))


def _requests(study_dir: Path, of: KeptAttempt) -> int:
    return _belonging(study_dir, of.cell_id, "requests", of.attempt_id, _rows) or 0


@dataclass(frozen=True, slots=True)
class Row:
    """Where an attempt's row is, its name, and what its files say that they are of."""

    path: Path
    attempt_id: str
    said: str | None


def _identity(path: Path) -> Row | None:
    """None where there is no row, or none that can be read."""
    try:
        said = attempts.recorded_in(path)
        return Row(path, attempts.name_of(path, said), said)
    except UNREADABLE:
        return None


def _row(study_dir: Path, cell_id: str, attempt_id: str | None) -> Row | None:
    """Of the standing attempt if ``attempt_id`` is None."""
    stands = _identity(own_path(study_dir, cell_id, "cells"))
    if attempt_id is None or (stands is not None and stands.attempt_id == attempt_id):
        return stands
    kept = _identity(kept_path(study_dir, cell_id, attempt_id, "cells"))
    return None if kept is None else replace(kept, attempt_id=attempt_id)


def _belonging(
    study_dir: Path, cell_id: str, folder: str, attempt_id: str | None, take: Callable[[pq.ParquetFile], T]
) -> T | None:
    """What ``take`` makes of an attempt's requests or telemetry: they are at the cell's own path or, once
    another attempt has begun to take its place, among those that are kept."""
    row = _row(study_dir, cell_id, attempt_id)
    if row is None:
        return None
    found = of_attempt(study_dir, cell_id, folder, row, take)
    if found is None:
        own = own_path(study_dir, cell_id, folder)
        logger.warning("%s: nothing there belongs to attempt %s of the cell", own, row.attempt_id)
    return found


def of_attempt(
    study_dir: Path, cell_id: str, folder: str, row: Row, take: Callable[[pq.ParquetFile], T]
) -> T | None:
    """As `_belonging`, of the attempt that a row which was read already is of."""
    own, kept = own_path(study_dir, cell_id, folder), kept_path(study_dir, cell_id, row.attempt_id, folder)
    for path in (own, kept, own):  # again: it may just have been given back what a killed writer took
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                if attempts.recorded(file) == row.said:
                    return take(file)
        except FileNotFoundError:
            continue
        except UNREADABLE as error:
            logger.warning("%s cannot be read: %s", path, error)
            break
    return None


def _whole(folder: str, file: pq.ParquetFile) -> pa.Table:
    return migrated(file.read(use_threads=False), folder)


def _rows(file: pq.ParquetFile) -> int:
    return int(file.metadata.num_rows)


def _concatenate(tables: Mapping[Path, pa.Table | None], schema: pa.Schema) -> pa.Table:
    """All in one, with the columns of any. One whose column has another type than in those before it is
    logged as a warning and left out."""
    known = []
    for path, table in tables.items():
        if table is not None:
            try:
                schema = pa.unify_schemas([schema, table.schema])
                known.append(table)
            except pa.ArrowException as error:
                logger.warning("%s cannot be read with the others: %s", path, error)
    return pa.concat_tables([schema.empty_table(), *known], promote_options="default")


def checked_cell(path: Path, table: pa.Table) -> pa.Table | None:
    """The row of a cell as this version would have stored it; None, with a warning, for what is none. Raises
    one of `UNREADABLE`."""
    # What would else be found where it is used: text that is not UTF-8, columns of another type.
    table.validate(full=True)
    table = migrated(table, "cells")
    if "status" in table.column_names and table["status"].to_pylist()[:2] in _ONE_ROW:
        return table
    logger.warning("%s is not the row of a cell", path)
    return None


def _read_cell(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    try:
        # One row is so short that the whole file is read faster than the places of its columns are sought.
        whole = pa.BufferReader(path.read_bytes())
        with pq.ParquetFile(whole, page_checksum_verification=True, pre_buffer=False) as file:
            return checked_cell(path, file.read(columns, use_threads=False))
    except UNREADABLE as error:
        logger.warning("%s cannot be read: %s", path, error)
        return None
