"""Reads the studies of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.config.schema import SloConfig
from orchestrator.errors import ConfigError
from orchestrator.metrics.stats import without_nan
from orchestrator.report.options import Options, as_text
from orchestrator.report.requests import COLUMNS, Requests
from orchestrator.report.variants import Run
from orchestrator.store.frames import check_studies, load
from orchestrator.store.limits import under
from orchestrator.store.read import read_cells


def read_runs(options: Options) -> list[Run]:
    """Every stored cell that the filters let through, with its requests. Raises ConfigError for a study that
    is not there, and for a filter that no cell passes."""
    check_studies(options.results_dir, options.studies)
    rows = [
        (study, row)
        for study in options.studies
        for row in map(without_nan, read_cells(options.results_dir / study).to_pylist())
    ]
    for key, values in options.filters.items():
        kept = [(study, row) for study, row in rows if as_text(row.get(key)) in values]
        if not kept:
            there = ", ".join(sorted({as_text(row.get(key)) for _, row in rows}))
            raise ConfigError(f"{key}={','.join(values)}: no cell has it; there are {there}")
        rows = kept
    if not rows:
        raise ConfigError(f"study={','.join(options.studies)}: none of its cells can be read")
    requests = _requests(options)
    return [
        Run(study, _limited(options, study, row), requests.get((study, str(row["cell_id"]))))
        for study, row in rows
    ]


def _limited(options: Options, study: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """With goodput under the limits asked for, where those are others than the cell's own."""
    slo: SloConfig | None = options.slo
    return row if slo is None else under(row, slo, options.results_dir / study)


def _requests(options: Options) -> dict[tuple[str, str], Requests]:
    """By study and cell."""
    import polars as pl
    from polars import selectors

    frame = (
        load(options.results_dir, options.studies)
        .requests.select("study", "cell_id", *COLUMNS)
        .with_columns(pl.when(selectors.float().is_finite()).then(selectors.float()).name.keep())
        .collect()
        .partition_by("study", "cell_id", as_dict=True, include_key=False)
    )
    return {
        (str(study), str(cell_id)): Requests({name: part[name].to_list() for name in COLUMNS})
        for (study, cell_id), part in frame.items()
        if isinstance(part, pl.DataFrame)
    }


def telemetry(folder: Path, cell_ids: Sequence[str]) -> dict[str, pa.Table]:
    """Samples by cell, of those that have any."""
    from orchestrator.store.read import read_telemetry

    found = {}
    for cell_id in cell_ids:
        try:
            found[cell_id] = read_telemetry(folder, cell_id)
        except FileNotFoundError:
            continue
    return found
