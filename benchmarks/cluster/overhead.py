"""What a sweep adds around its engines' own time, from what it stored.

An engine's time on a cell is the time in which it has requests: from the first warm-up request sent to the
last one ended, and the same of the measured ones. From the moment it is ready until the last cell is on the
disk, all other time is overhead. Each cell's share lies between the previous cell's commit (or the engine's
being ready) and its own, in five parts:

    scheduling  previous commit, or engine ready → the cell begins: Ray, the driver, the next call
    preparing   → first warm-up request sent: dataset, prompts, the load client's start
    turning     last warm-up request ended → first measured request sent: cache reset, telemetry, the client
    grading     last measured request ended → the row is made: collecting, last telemetry, grades, metrics
    storing     → the cell's file has its name, after everything was synced to the disk

The parts of an engine's cells add up to its whole time less its own, so nothing is left out but its start and
stop. Needs every process on one machine's clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Overhead:
    """One cell's, in seconds."""

    scheduling: float
    preparing: float
    turning: float
    grading: float
    storing: float

    @property
    def total(self) -> float:
        return float(sum(astuple(self)))


PARTS = tuple(field.name for field in fields(Overhead))


@dataclass(frozen=True)
class Cell:
    """When what happened, in seconds since the epoch but for ``warmup_s`` and ``measured_s`` (first request
    sent, last one ended), ``duration_s`` (until the row was made), which count from ``began``."""

    engine: tuple[str, str]
    gpus: int
    engine_start_s: float
    engine_ready: float
    began: float
    warmup_s: tuple[float, float]
    measured_s: tuple[float, float]
    duration_s: float
    committed: float

    @property
    def engine_s(self) -> float:
        return self.warmup_s[1] - self.warmup_s[0] + self.measured_s[1] - self.measured_s[0]

    def overhead(self, free: float) -> Overhead:
        """``free``: since when the engine could have begun with it."""
        return Overhead(
            scheduling=self.began - free,
            preparing=self.warmup_s[0],
            turning=self.measured_s[0] - self.warmup_s[1],
            grading=self.duration_s - self.measured_s[1],
            storing=self.committed - self.began - self.duration_s,
        )


def read(study_dir: Path) -> list[Cell]:
    """The study's cells, in the order of their commits. Raises ValueError for one that sent nothing."""
    cells = [_cell(path) for path in (study_dir / "cells").glob("[!.]*.parquet")]
    return sorted(cells, key=lambda cell: cell.committed)


def _cell(path: Path) -> Cell:
    row: Mapping[str, Any] = pq.read_table(path).to_pylist()[0]
    provenance = json.loads(row["provenance"])
    requests = pq.read_table(path.parents[1] / "requests" / path.name, columns=["sent_s", "end_s"])
    first, last = pc.min(requests["sent_s"]).as_py(), pc.max(requests["end_s"]).as_py()
    if first is None or (warmup := provenance["warmup_window_s"]) is None:
        raise ValueError(f"cell {row['cell_id']} is {row['status']} and sent nothing: {row['reason']}")
    ready = provenance["engine_ready_at"]
    return Cell(
        engine=(row["deployment_id"], ready),
        gpus=row["gpus"],
        engine_start_s=row["deployment_start_s"],
        engine_ready=datetime.fromisoformat(ready).timestamp(),
        began=row["started_at"].timestamp(),
        warmup_s=(warmup[0], warmup[1]),
        measured_s=(first, last),
        duration_s=row["duration_s"],
        committed=path.stat().st_ctime,  # of the rename
    )


def overheads(cells: list[Cell]) -> list[Overhead]:
    """Each cell's, in the order of ``cells``, which is that of their commits."""
    free: dict[tuple[str, str], float] = {}
    found = []
    for cell in cells:
        found.append(cell.overhead(free.get(cell.engine, cell.engine_ready)))
        free[cell.engine] = cell.committed
    return found


def served_s(cells: list[Cell]) -> float:
    """Seconds from ready to the last commit, summed over the engines."""
    last: dict[tuple[str, str], float] = {}
    for cell in cells:
        last[cell.engine] = cell.committed - cell.engine_ready
    return sum(last.values())


def at_once(cells: list[Cell]) -> float:
    """How many engines served on average, from the first one ready to the last commit."""
    return served_s(cells) / (cells[-1].committed - min(cell.engine_ready for cell in cells))


def summary(seconds: list[float]) -> tuple[float, float, float, float]:
    """Median, p90, maximum, mean."""
    found = np.array(seconds)
    return float(np.median(found)), float(np.quantile(found, 0.9)), float(found.max()), float(found.mean())
