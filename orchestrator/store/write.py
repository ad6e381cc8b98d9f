"""Writes a cell so that one attempt at it, the old one or the new one, is wholly there at every instant."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import ConfigError
from orchestrator.records import Grade, Item, Record, Sample
from orchestrator.store import attempts
from orchestrator.store.attempts import FOLDERS, kept_path, own_path
from orchestrator.store.files import LocalFiles, link, make_folder, sync_folder, temporary_name, writer_of
from orchestrator.store.lease import Lease, Leases, Watch
from orchestrator.store.process import machine
from orchestrator.store.schema import cell_table, request_rows, telemetry_rows

# One row of many columns is read several times faster without the machinery for long columns, and its columns
# are of types that Parquet's own schema tells: Arrow's beside it would be a third of the file.
_OPTIONS: dict[str, dict[str, Any]] = {
    "requests": {"compression": "zstd"},
    "telemetry": {"compression": "zstd"},
    "cells": {
        "compression": "none",
        "use_dictionary": False,
        "write_statistics": False,
        "store_schema": False,
    },
}
# So few rows of requests in a group that the reader's 32-bit offsets hold all their chunks, up to 262,000
# each.
_GROUP_ROWS = {"requests": 8192}
# A temporary file of another host is stale when it is older than any write could take.
STALE_S = 24 * 3600.0
# A commit takes milliseconds: a writer on another machine that holds a cell's lock for this long is gone.
LOCK_STALE_S = 60.0
LOCK_WAIT_S = 150.0


def commit(
    study_dir: Path,
    cell_id: str,
    cell_row: Mapping[str, Any],
    records: Sequence[Record],
    grades: Sequence[Grade] | None,
    samples: Sequence[Sample],
    references: Mapping[str, str] | None = None,
    questions: Mapping[str, str] | None = None,
    *,
    items: Mapping[str, Item] | None = None,
    attempt_id: str | None = None,
) -> Path:
    """Stores one attempt at a cell and returns the path of its row, whose presence is the commit.

    The attempt becomes the cell's row, and what stood before is kept beside it (`attempts`); or it is itself
    kept beside, where `attempts.replaces` says that the row stays. All three files are on the disk under
    temporary names before the first one gets its own, the row last. Writers of one cell follow one another.
    ``attempt_id`` is 1 to 64 letters, digits, - and _; where it is not given, 16 hex digits are drawn. Raises
    OSError when the disk is full, say, ValueError for another ``attempt_id`` and when a row does not fit the
    schema; then what was stored before is as it was.
    """
    attempt = attempts.new_attempt_id() if attempt_id is None else attempts.check_attempt_id(attempt_id)
    row = {**cell_row, "cell_id": cell_id, "attempt_id": attempt, "stored_at": datetime.now(UTC)}
    said: dict[str, Any] = {"simulated": bool(row.get("simulated")), "attempt_id": attempt}
    tables = {
        "requests": request_rows(cell_id, records, grades, references, questions, items=items, **said),
        "telemetry": telemetry_rows(cell_id, samples, int(row.get("gpus") or 0), **said),
        "cells": cell_table(row),
    }
    temporary = {folder: temporary_name(own_path(study_dir, cell_id, folder)) for folder in FOLDERS}
    try:
        for folder, table in tables.items():
            temporary[folder].parent.mkdir(parents=True, exist_ok=True)
            _write(table, temporary[folder], folder)
        measured = bool(records) or row.get("status") in ("done", "invalid")
        return _name(study_dir, cell_id, attempt, row.get("status"), measured, temporary)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def forget(study_dir: Path, cell_id: str) -> Path:
    """Takes the cell's row, requests and telemetry out of the study, so that it counts as not run, and
    returns the folder among its `attempts` where they are kept. Raises OSError; FileNotFoundError where the
    cell has no row."""
    own = {folder: own_path(study_dir, cell_id, folder) for folder in FOLDERS}
    with _locked(_locks(study_dir), f".{cell_id}.lock"):
        old = attempts.standing(study_dir, cell_id)
        if old is None:
            raise FileNotFoundError(errno.ENOENT, "the cell has no row", str(own["cells"]))
        attempts.keep(study_dir, cell_id, old)
        if old.status is None:  # damaged: that these are its own cannot be told, and they are all there is
            for folder in FOLDERS[:-1]:
                with suppress(FileNotFoundError):
                    link(own[folder], kept_path(study_dir, cell_id, old.attempt_id, folder))
        for folder in reversed(FOLDERS):  # the row first, whose presence is the commit
            own[folder].unlink(missing_ok=True)
            if own[folder].parent.is_dir():
                sync_folder(own[folder].parent)
    return kept_path(study_dir, cell_id, old.attempt_id, "cells").parent


def prepare() -> None:
    """Does once what a process's first commit would wait a quarter of a second for: with its first array
    pyarrow imports pandas, where that is installed."""
    pa.array([None])


def clean_partial(study_dir: Path) -> list[Path]:
    """Removes what commits that were killed left behind, and returns it; ends what they had begun. Files of
    a live process stay."""
    stale = [path for folder in FOLDERS for path in (study_dir / folder).glob(".*.tmp") if _is_stale(path)]
    stale += [path for path in (study_dir / attempts.ATTEMPTS).glob("*/*/.*.tmp") if _is_stale(path)]
    for path in stale:
        path.unlink(missing_ok=True)
    if (study_dir / "cells").is_dir():
        locks, files = _locks(study_dir), LocalFiles(study_dir / "cells")
        for name in files.list():
            if name.endswith(".lock") and not name.startswith("..") and (lease := locks.read(name)):
                locks.drop(name, lease, only_if_gone=True)
        locks.sweep_markers()
        for folder in (study_dir / attempts.ATTEMPTS).glob("[!.]*"):
            _restore(study_dir, folder.name, locks)
            attempts.remove_empty(study_dir, folder.name)
    return stale


def check_possible(path: Path) -> None:
    """What can be known without making the folder. Raises ConfigError in one line where it cannot be made."""
    # Of `os.path`: what may not be looked at, or has too long a name, is not there, and no error.
    there = next(one for one in (path.absolute(), *path.absolute().parents) if os.path.lexists(one))
    if not there.is_dir():
        raise _unwritable(path, f"{there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(path, f"{there} cannot be written to")


def check_writable(path: Path) -> None:
    """Makes the folder and tries a write in it. Raises ConfigError in one line."""
    probe = path / f".writable.{uuid4().hex}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, str(error.strerror)) from error


def _unwritable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"results_dir={path} cannot be written ({why}): name a folder that can be")


def _name(
    study_dir: Path,
    cell_id: str,
    attempt: str,
    status: str | None,
    measured: bool,
    temporary: Mapping[str, Path],
) -> Path:
    """Gives the files their names, under the cell's lock; without it, beside the cell, whatever they are."""
    own = {folder: own_path(study_dir, cell_id, folder) for folder in FOLDERS}
    beside = {folder: kept_path(study_dir, cell_id, attempt, folder) for folder in FOLDERS}
    locks, name = _locks(study_dir), f".{cell_id}.lock"
    try:
        with _locked(locks, name) as lease:
            old = attempts.standing(study_dir, cell_id)
            if attempts.replaces(status, measured, old):
                if old is not None and old.attempt_id != attempt:
                    attempts.keep(study_dir, cell_id, old)
                for folder in FOLDERS:
                    if locks.read(name) != lease:
                        raise _lock_lost(own["cells"])
                    temporary[folder].replace(own[folder])
                    sync_folder(own[folder].parent)
                return own["cells"]
    except TimeoutError:
        _keep_beside(temporary, own, beside, attempt)
        raise
    _keep_beside(temporary, own, beside, attempt)
    return beside["cells"]


def _keep_beside(
    temporary: Mapping[str, Path], own: Mapping[str, Path], beside: Mapping[str, Path], attempt: str
) -> None:
    make_folder(beside["cells"].parent)
    for folder in FOLDERS:
        if temporary[folder].exists():
            temporary[folder].replace(beside[folder])
            sync_folder(beside[folder].parent)
        elif attempts.is_of(own[folder], attempt):
            link(own[folder], beside[folder])


def _locks(study_dir: Path) -> Leases:
    watch = Watch(time.monotonic, LOCK_STALE_S / 2)

    def gone(lease: Lease) -> bool:
        """A process of this machine that lives keeps its lock, even one that was stopped."""
        if lease.process.machine == machine() != "":
            return lease.process.is_gone()
        return watch.unchanged_s(lease.nonce, b"") >= LOCK_STALE_S

    return Leases(LocalFiles(study_dir / "cells"), "commit", gone)


@contextmanager
def _locked(locks: Leases, name: str) -> Iterator[Lease]:
    """Raises TimeoutError when another process holds the lock all the time."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while (lease := locks.take(name)) is None:
        if time.monotonic() > deadline:
            holder = locks.read(name)
            who = f"process {holder.process}" if holder else "other processes"
            raise TimeoutError(
                errno.ETIMEDOUT, f"{who} kept the lock of the cell for {LOCK_WAIT_S:.0f} s", name
            )
        time.sleep(0.005)
    try:
        yield lease
    finally:
        locks.drop(name, lease)


def _lock_lost(path: Path) -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, "this process was stopped while it stored the cell", str(path))


def _restore(study_dir: Path, cell_id: str, locks: Leases) -> None:
    if attempts.begun(study_dir, cell_id) is None and not attempts.unfinished(study_dir, cell_id):
        return
    name = f".{cell_id}.lock"
    if (lease := locks.take(name)) is not None:  # else somebody is storing it now
        try:
            attempts.restore(study_dir, cell_id)
        finally:
            locks.drop(name, lease)


def _is_stale(path: Path) -> bool:
    """By its writer's process where that would be seen here, else by its age."""
    writer = writer_of(path.name)
    if writer is not None and writer.machine == machine() != "":
        return writer.is_gone()
    older = re.search(r"\.(\d+)@([^@]+)\.tmp$", path.name)  # as versions without attempts named them
    if older and older[2] == socket.gethostname() and not psutil.pid_exists(int(older[1])):
        return True
    try:
        return _clock_of(path.parent) - path.stat().st_mtime > STALE_S
    except FileNotFoundError:  # its writer has just finished
        return False


def _clock_of(folder: Path) -> float:
    """The time by the clock that files there are dated by, which may be a file server's."""
    probe = temporary_name(folder / "clock")
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def write_parquet(table: pa.Table, file: BinaryIO, folder: str) -> None:
    """``table`` as one of the three files of a cell, named by its ``folder``. Raises OSError."""
    options = _OPTIONS[folder]
    with pq.ParquetWriter(file, table.schema, write_page_checksum=True, **options) as writer:
        writer.write_table(table, _GROUP_ROWS.get(folder))
        if not options.get("store_schema", True):  # with which the metadata would go
            writer.add_key_value_metadata(table.schema.metadata)


def _write(table: pa.Table, path: Path, folder: str) -> None:
    with path.open("wb") as file:
        write_parquet(table, file, folder)
        file.flush()
        os.fsync(file.fileno())
