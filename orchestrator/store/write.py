"""Writes a cell so that it is either wholly there or not at all."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import ConfigError
from orchestrator.records import Grade, Record, Sample
from orchestrator.store.schema import cell_row as cell_table
from orchestrator.store.schema import request_rows, telemetry_rows

FOLDERS = ("requests", "telemetry", "cells")
# One row of many columns is read several times faster without the machinery for long columns.
PARQUET: dict[str, dict[str, Any]] = {
    "requests": {"compression": "zstd"},
    "telemetry": {"compression": "zstd"},
    "cells": {"compression": "none", "use_dictionary": False, "write_statistics": False},
}
# A temporary file of another host is stale when it is older than any write could take.
STALE_S = 24 * 3600.0


def commit(
    study_dir: Path,
    cell_id: str,
    cell_row: Mapping[str, Any],
    records: Sequence[Record],
    grades: Sequence[Grade] | None,
    samples: Sequence[Sample],
    references: Mapping[str, str] | None = None,
) -> Path:
    """Stores one cell and returns the path of its ``cells`` file, whose presence is the commit.

    All three files are on the disk under temporary names before the first one gets its own, the cell's
    file last. A cell that is stored again loses its old row first, so an old row never stands beside new
    requests. Raises OSError when the disk is full, say, ValueError when a row does not fit the schema; then
    what was stored before is untouched.
    """
    row = {**cell_row, "cell_id": cell_id}
    simulated = bool(row.get("simulated"))
    tables = {
        "requests": request_rows(cell_id, records, grades, references, simulated=simulated),
        "telemetry": telemetry_rows(cell_id, samples, int(row.get("gpus") or 0), simulated=simulated),
        "cells": cell_table(row),
    }
    targets = {folder: study_dir / folder / f"{cell_id}.parquet" for folder in FOLDERS}
    temporary = {folder: _temporary(target) for folder, target in targets.items()}
    try:
        for folder, table in tables.items():
            temporary[folder].parent.mkdir(parents=True, exist_ok=True)
            _write(table, temporary[folder], **PARQUET[folder])
        targets["cells"].unlink(missing_ok=True)
        _sync_folder(targets["cells"].parent)
        for folder in FOLDERS:
            temporary[folder].replace(targets[folder])
            _sync_folder(targets[folder].parent)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    return targets["cells"]


def prepare() -> None:
    """Does once what a process's first commit would wait a quarter of a second for: with its first array
    pyarrow imports pandas, where that is installed."""
    pa.array([None])


def clean_partial(study_dir: Path) -> list[Path]:
    """Removes what commits that were killed left behind, and returns it. Files of a live process stay."""
    stale = [path for folder in FOLDERS for path in (study_dir / folder).glob(".*.tmp") if _is_stale(path)]
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def check_writable(path: Path) -> None:
    """Makes the folder and tries a write in it. Raises ConfigError in one line."""
    probe = path / f".writable.{uuid4().hex}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"results_dir={path} cannot be written ({error.strerror}): name a folder that can be"
        ) from error


def _temporary(target: Path) -> Path:
    """Hidden, and named by its writer: ``.CELL_ID.PID@HOST.tmp``."""
    return target.with_name(f".{target.stem}.{os.getpid()}@{socket.gethostname()}.tmp")


def _is_stale(path: Path) -> bool:
    writer = re.search(r"\.(\d+)@(.+)\.tmp$", path.name)
    if writer and writer[2] == socket.gethostname() and not psutil.pid_exists(int(writer[1])):
        return True
    try:
        return time.time() - path.stat().st_mtime > STALE_S
    except FileNotFoundError:  # its writer has just finished
        return False


def _write(table: pa.Table, path: Path, **options: Any) -> None:
    with path.open("wb") as file:
        pq.write_table(table, file, **options)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
