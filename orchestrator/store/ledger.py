"""What a study has held of the cluster, one JSON line per reservation: how much of it was spent measuring?

A log, not a state: nothing is decided by it, and a driver that was killed leaves out what it held then.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

FILE = "reservations.jsonl"

logger = logging.getLogger(__name__)


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
    """Every reservation of the study, in the order of their ends. A line that is none, cut short or of
    another version, is logged as a warning and left out."""
    path = study_dir / FILE
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_parsed(line))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            logger.warning("%s, line %d is no reservation: %s", path, number, " ".join(f"{error}".split()))
    return found


def _parsed(line: bytes) -> Reservation:
    """Raises ValueError, TypeError or KeyError for anything but a line that `record` could have written; what
    a later version adds to one is passed over."""
    row = json.loads(line)
    started_at = datetime.fromisoformat(row["started_at"])
    if started_at.tzinfo is None:
        raise ValueError("started_at has no time zone")
    numbers = [row[name] for name in ("duration_s", "gpus", "cpus")]
    if not all(type(one) in (int, float) and math.isfinite(one) and one >= 0 for one in numbers):
        raise ValueError(f"one of {numbers} is no amount")
    names = [row[name] for name in ("nodes", "deployments")]
    if not all(type(some) is list and all(type(one) is str for one in some) for some in names):
        raise ValueError(f"one of {names} is no list of names")
    if type(row["simulated"]) is not bool:
        raise ValueError(f"simulated={row['simulated']}")
    (duration_s, gpus, cpus), (nodes, deployments) = numbers, map(tuple, names)
    return Reservation(started_at, duration_s, gpus, cpus, nodes, deployments, row["simulated"])
