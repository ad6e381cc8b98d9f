"""Several attempts at one cell: which of them stands as its row, and where the others are kept.

The standing one has the cell's own paths, ``cells/CELL_ID.parquet`` and so on; the others are in
``attempts/CELL_ID/ATTEMPT_ID/``. The metadata of each file, of the row's too, names the attempt that the file
belongs to. Files of older versions name none: their attempt's name is the first 16 hex digits of SHA-256 over
the row's file.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.files import link, sync_folder, temporary_name
from orchestrator.store.schema import ATTEMPT

FOLDERS = ("requests", "telemetry", "cells")  # the row comes last: its presence is the commit
ATTEMPTS = "attempts"
# Beside its own exceptions pyarrow raises these for bytes that are no Parquet file, or no longer one.
UNREADABLE = (pa.ArrowException, KeyError, ValueError, OSError)


@dataclass(frozen=True)
class Standing:
    """The attempt whose row is the cell's. ``recorded``: what its files say that it is, None where they are
    of an older version; ``attempt_id`` is the name it has in any case. ``status`` is None where the row
    cannot be read; ``measured``: whether it has numbers, or requests that failed."""

    attempt_id: str
    recorded: str | None
    status: str | None
    measured: bool


def new_attempt_id() -> str:
    return secrets.token_hex(8)


def check_attempt_id(attempt_id: str) -> str:
    """Raises ValueError unless it is 1 to 64 letters, digits, - and _, so that it can name a folder."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", attempt_id):
        raise ValueError(f"attempt_id={attempt_id!r}: must be 1 to 64 letters, digits, - or _")
    return attempt_id


def own_path(study_dir: Path, cell_id: str, folder: str) -> Path:
    return study_dir / folder / f"{cell_id}.parquet"


def kept_path(study_dir: Path, cell_id: str, attempt_id: str, folder: str) -> Path:
    return study_dir / ATTEMPTS / cell_id / attempt_id / f"{folder}.parquet"


class UnlessDamaged:
    """Ends the block where a file's content is damaged. An OSError of the system goes on; pyarrow's own for
    damaged content has no errno."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return isinstance(error, UNREADABLE) and not getattr(error, "errno", None)


def recorded_in(path: Path) -> str | None:
    """The attempt that a file says it is of; None where it says nothing. Raises one of `UNREADABLE` where it
    cannot be read."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return recorded(file)


def recorded(file: pq.ParquetFile) -> str | None:
    """As `recorded_in`. The column counts where a tool that copied the file has dropped the metadata."""
    schema = file.schema_arrow
    named = (schema.metadata or {}).get(ATTEMPT.encode())
    if named is not None:
        return str(named.decode())
    if "attempt_id" not in schema.names or not file.metadata.num_rows:
        return None
    values = file.read_row_group(0, ["attempt_id"], use_threads=False)["attempt_id"].unique().to_pylist()
    return values[0] if len(values) == 1 else None


def name_of(path: Path, recorded: str | None) -> str:
    """The name of a row's attempt: what it says, else a digest of the row."""
    return recorded or hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def standing(study_dir: Path, cell_id: str) -> Standing | None:
    """None where the cell has no row. Raises OSError."""
    path = own_path(study_dir, cell_id, "cells")
    if not path.exists():
        return None
    with UnlessDamaged(), pq.ParquetFile(path, page_checksum_verification=True) as file:
        said = recorded(file)
        (status,) = file.read(["status"], use_threads=False)["status"].to_pylist()
        measured = status in ("done", "invalid") or _has_requests(study_dir, cell_id, said)
        return Standing(name_of(path, said), said, status, measured)
    return Standing(name_of(path, None), None, None, False)


def replaces(status: str | None, measured: bool, old: Standing | None) -> bool:
    """Whether a new attempt takes the old one's place: the newest measurement does, but an invalid or failed
    one never that of a done one, and one that measured nothing never that of a measurement."""
    if old is None or old.status is None:
        return True
    if not measured:
        return not old.measured
    return status == "done" or old.status != "done"


def keep(study_dir: Path, cell_id: str, old: Standing) -> None:
    """Makes the standing attempt readable beside the cell too, before its paths are taken. Raises OSError."""
    for folder in FOLDERS:
        source = own_path(study_dir, cell_id, folder)
        if not source.exists():
            continue
        said = old.recorded
        if folder != "cells":
            with UnlessDamaged():
                said = recorded_in(source)
        # Of another attempt: its writer was killed before its row was there. This one's is kept already.
        owner = old.attempt_id if said == old.recorded else said
        if owner is not None:
            link(source, kept_path(study_dir, cell_id, owner, folder))


def begun(study_dir: Path, cell_id: str) -> Standing | None:
    """The standing attempt, where a commit has begun to take its place. Raises OSError."""
    now = standing(study_dir, cell_id)
    return now if now and (study_dir / ATTEMPTS / cell_id / now.attempt_id).is_dir() else None


def unfinished(study_dir: Path, cell_id: str) -> list[Path]:
    """Folders beside the cell that have files of an attempt and no row: a commit that was killed has left
    them. None of them while a commit of the cell may still be at it, which its temporary files tell."""
    folders = [path for path in (study_dir / ATTEMPTS / cell_id).glob("[!.]*") if path.is_dir()]
    # In this order: a live commit's row is under its temporary name until it is in the folder.
    if any((study_dir / "cells").glob(f".{cell_id}.*.tmp")):
        return []
    return [folder for folder in folders if not (folder / "cells.parquet").exists()]


def restore(study_dir: Path, cell_id: str) -> None:
    """Undoes what commits that were killed have begun: gives the standing row's files their own paths again,
    drops their second names, and removes what is `unfinished`. Raises OSError."""
    if (now := begun(study_dir, cell_id)) is not None:
        _give_back(study_dir, cell_id, now)
    for folder in unfinished(study_dir, cell_id):
        shutil.rmtree(folder)


def remove_empty(study_dir: Path, cell_id: str) -> None:
    """The cell's folder of attempts, and that of all cells', where they hold nothing."""
    for empty in (study_dir / ATTEMPTS / cell_id, study_dir / ATTEMPTS):
        with suppress(OSError):
            empty.rmdir()


def _give_back(study_dir: Path, cell_id: str, now: Standing) -> None:
    for folder in ("requests", "telemetry"):
        kept = kept_path(study_dir, cell_id, now.attempt_id, folder)
        own = own_path(study_dir, cell_id, folder)
        if kept.exists() and not is_of(own, now.recorded):
            other = None
            with suppress(FileNotFoundError), UnlessDamaged():
                other = recorded_in(own)
            if other is not None:
                link(own, kept_path(study_dir, cell_id, other, folder))
            between = temporary_name(own)
            link(kept, between)
            between.replace(own)
            sync_folder(own.parent)
    shutil.rmtree(study_dir / ATTEMPTS / cell_id / now.attempt_id)


def kept_attempts(study_dir: Path, cell_id: str) -> list[str]:
    """Names of those that are kept beside the cell, the standing one among them while it is replaced."""
    return [path.parent.name for path in (study_dir / ATTEMPTS / cell_id).glob("[!.]*/cells.parquet")]


def is_of(path: Path, said: str | None) -> bool:
    """Whether the file is there and says so. Raises OSError."""
    with suppress(FileNotFoundError), UnlessDamaged():
        return recorded_in(path) == said
    return False


def _has_requests(study_dir: Path, cell_id: str, said: str | None) -> bool:
    attempt = said or name_of(own_path(study_dir, cell_id, "cells"), None)
    for path in (
        own_path(study_dir, cell_id, "requests"),
        kept_path(study_dir, cell_id, attempt, "requests"),
    ):
        with (
            suppress(FileNotFoundError),
            UnlessDamaged(),
            pq.ParquetFile(path, page_checksum_verification=True) as file,
        ):
            if recorded(file) == said and file.metadata.num_rows:
                return True
    return False
