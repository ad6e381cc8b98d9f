"""A study that several drivers fill: who takes which cell, and what others have stored meanwhile."""

from __future__ import annotations

import os
import socket
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.cell import Cell
from orchestrator.search.source import Taken
from orchestrator.store.claims import Claims
from orchestrator.store.files import or_storage_error
from orchestrator.store.read import CellStatus, read_status


class SharedStudy:
    """Cells by claims. ``planned`` is what was stored of each cell when the plan was made: what is stored
    since then, and not by this driver, is another one's measurement."""

    def __init__(self, study_dir: Path, claims: Claims, planned: Mapping[str, CellStatus | None]) -> None:
        self._study_dir, self._claims, self._planned = study_dir, claims, planned
        self._ours: set[str] = set()
        self._known: dict[str, int] = {}  # inodes of rows that are the plan's own

    def take(self, cell: Cell) -> Taken:
        """Raises StorageError."""
        cell_id = cell.cell_id
        kept = cell_id in self._ours and self._claims.ours(cell_id)
        if kept:
            return "ours"
        self._ours.discard(cell_id)
        if not self._claims.take(cell_id):
            return "elsewhere"
        if self._stored_since(cell_id):
            self._claims.release(cell_id)
            return "settled"
        self._ours.add(cell_id)
        return "ours"

    def look(self, cells: Sequence[Cell]) -> Mapping[str, Taken]:
        """Raises StorageError."""
        taken = self._claims.taken_elsewhere([cell.cell_id for cell in cells])
        rows: dict[str, int] = {}
        with or_storage_error(self._study_dir):
            with suppress(FileNotFoundError), os.scandir(self._study_dir / "cells") as files:
                rows = {Path(file.name).stem: file.inode() for file in files}
            return {cell.cell_id: self._seen(cell.cell_id, taken, rows) for cell in cells}

    def _seen(self, cell_id: str, taken: Container[str], rows: Mapping[str, int]) -> Taken:
        if cell_id in self._ours:
            return "ours"
        if cell_id in taken:
            return "elsewhere"
        if cell_id not in rows or rows[cell_id] == self._known.get(cell_id):
            return "ours"
        if self._stored_since(cell_id):
            return "settled"
        self._known[cell_id] = rows[cell_id]
        return "ours"

    def leave(self, cell: Cell) -> None:
        """Raises StorageError."""
        self._ours.discard(cell.cell_id)
        self._claims.release(cell.cell_id)

    def claim(self, cell: Cell) -> str | None:
        """What a worker shows that it measures for the driver that has the cell."""
        return self._claims.nonce(cell.cell_id)

    def _stored_since(self, cell_id: str) -> bool:
        with or_storage_error(self._study_dir):
            now = read_status(self._study_dir, cell_id)
        then = self._planned.get(cell_id)
        if now is None or now.status == "corrupt":
            return False
        return then is None or now.attempt_id != then.attempt_id


def driver_name() -> str:
    """This driver as others are told of it: its batch job where there is one."""
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID")
    return f"{socket.gethostname()}-{f'job-{job}' if job else os.getpid()}"
