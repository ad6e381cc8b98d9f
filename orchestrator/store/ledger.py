"""What a study has held of the cluster, one JSON line per reservation: how much of it was spent measuring?

A log, not a state: nothing is decided by it, and a driver that was killed leaves out what it held then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

FILE = "reservations.jsonl"


@dataclass(frozen=True)
class Reservation:
    """Resources that were held for ``duration_s`` from ``started_at`` (UTC): ``gpus`` and ``cpus`` on each of
    ``nodes``. ``deployments`` were served in them, one after another; ``simulated``: by engines that only
    pretended."""

    started_at: datetime
    duration_s: float
    gpus: float
    cpus: float
    nodes: tuple[str, ...]
    deployments: tuple[str, ...]
    simulated: bool

    @property
    def gpu_s(self) -> float:
        return self.gpus * len(self.nodes) * self.duration_s


def record(study_dir: Path, reservation: Reservation) -> None:
    """Appends one line in one write, so that two drivers of one study do not mix theirs. Raises OSError."""
    row = asdict(reservation) | {"started_at": reservation.started_at.isoformat()}
    file = os.open(study_dir / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(row, separators=(",", ":")) + "\n").encode())
    finally:
        os.close(file)


def reservations(study_dir: Path) -> Sequence[Reservation]:
    """Every reservation of the study, in the order of their ends. A line cut short is left out."""
    path = study_dir / FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return [found for line in lines if (found := _parsed(line)) is not None]


def _parsed(line: str) -> Reservation | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    row["started_at"] = datetime.fromisoformat(row["started_at"])
    return Reservation(**row | {name: tuple(row[name]) for name in ("nodes", "deployments")})
