"""Goodput under limits other than those a cell was stored with: it follows from the stored requests, so
nothing is measured again for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.goodput import goodput
from orchestrator.metrics.interval import rate_intervals
from orchestrator.metrics.window import measured_window
from orchestrator.records import Record
from orchestrator.store.read import read_requests

_LIMITS = tuple(field.name for field in fields(SloConfig))
_COLUMNS = {
    "chunk_reasoning": "chunk_reasoning_tokens"
}  # where a record's field has another name when stored


def under(row: Mapping[str, Any], slo: SloConfig, study_dir: Path) -> dict[str, Any]:
    """A cell's stored row with the limits ``slo``, and the goodput that follows from its requests; as it is
    where the limits are those it was stored with, and where it failed."""
    limits = {f"slo_{name}": value for name, value in asdict(slo).items()}
    if row["status"] == "failed" or all(row.get(name) == value for name, value in limits.items()):
        return dict(row)
    records = stored_records(study_dir, str(row["cell_id"]))
    window = measured_window(records)
    now = dict(row) | limits | goodput(records, window, slo)
    return now | rate_intervals(records, window, slo, now)


def stored_records(study_dir: Path, cell_id: str) -> list[Record]:
    """The cell's requests as the load client left them. Empty where none are stored."""
    table = read_requests(study_dir, [cell_id])
    return [_record(row) for row in table.to_pylist()]


def _record(row: Mapping[str, Any]) -> Record:
    values = {field.name: row[_COLUMNS.get(field.name, field.name)] for field in fields(Record)}
    values["chunk_s"] = np.asarray(values["chunk_s"], np.float64)
    for name in ("chunk_tokens", "chunk_reasoning"):
        if values[name] is not None:
            values[name] = np.asarray(values[name], np.int32)
    return Record(**values)
