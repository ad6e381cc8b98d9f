"""Reads the studies of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.config.schema import SloConfig
from orchestrator.errors import ConfigError
from orchestrator.metrics.stats import without_nan
from orchestrator.report.options import Options, as_text
from orchestrator.report.progress import Progress, silent
from orchestrator.report.requests import COLUMNS, Lists, Requests
from orchestrator.report.variants import Run
from orchestrator.report.workers import Mapped
from orchestrator.store.bulk import (
    PART,
    StoredCell,
    requests_in_parts,
    rows_in_parts,
    stored_cells,
    stored_requests,
)
from orchestrator.store.frames import check_there
from orchestrator.store.limits import under

Part = tuple[pa.Table, list[tuple[str, int]]]  # requests of several cells, and how many each has


def count_cells(options: Options) -> int:
    """How many there are in the studies, as far as their files' names tell."""
    return sum(len(part) for study in options.studies for part in rows_in_parts(options.results_dir / study))


def read_runs(options: Options, mapped: Mapped = map, say: Progress = silent) -> list[Run]:
    """Every stored cell that the filters let through, with its requests. Raises ConfigError for a study that
    is not there or was stored by a newer version, and for a filter that no cell passes."""
    check_there(options.results_dir, options.studies)
    folders = {study: options.results_dir / study for study in options.studies}
    cells = _filtered(options, list(_cells(folders, mapped, say)))
    if not cells:
        raise ConfigError(f"study={','.join(options.studies)}: none of its cells can be read")
    requests: dict[tuple[str, str], Requests] = {}
    for study, folder in folders.items():
        own = [cell for of, cell in cells if of == study]
        found = _counted(mapped(stored_requests, requests_in_parts(folder, own, COLUMNS)), own, say)
        requests |= {(study, cell_id): one for cell_id, one in _requests(list(found)).items()}
    return [
        Run(study, _limited(options, study, cell.values), requests.get((study, cell.cell_id)))
        for study, cell in cells
    ]


def _cells(folders: Mapping[str, Path], mapped: Mapped, say: Progress) -> Iterator[tuple[str, StoredCell]]:
    """Each with its study."""
    parts = [(study, part) for study, folder in folders.items() for part in rows_in_parts(folder)]
    done, of = 0, sum(len(part) for _, part in parts)
    say("reading cells", done, of)
    for (study, part), found in zip(parts, mapped(stored_cells, [part for _, part in parts]), strict=True):
        yield from ((study, replace(cell, values=without_nan(cell.values))) for cell in found)
        say("reading cells", done := done + len(part), of)


def _filtered(options: Options, cells: list[tuple[str, StoredCell]]) -> list[tuple[str, StoredCell]]:
    for key, values in options.filters.items():
        kept = [(study, cell) for study, cell in cells if as_text(cell.values.get(key)) in values]
        if not kept:
            there = ", ".join(sorted({as_text(cell.values.get(key)) for _, cell in cells}))
            raise ConfigError(f"{key}={','.join(values)}: no cell has it; there are {there}")
        cells = kept
    return cells


def _counted(parts: Iterator[Part], cells: Sequence[StoredCell], say: Progress) -> Iterator[Part]:
    say("reading the requests of cells", 0, len(cells))
    for number, part in enumerate(parts, 1):
        say("reading the requests of cells", min(len(cells), number * PART), len(cells))
        yield part


def _limited(options: Options, study: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """With goodput under the limits asked for, where those are others than the cell's own."""
    slo: SloConfig | None = options.slo
    return row if slo is None else under(row, slo, options.results_dir / study)


def _requests(parts: Sequence[Part]) -> dict[str, Requests]:
    """By cell, of those that have any."""
    import polars as pl
    from polars import selectors

    if not parts:
        return {}
    whole = pl.DataFrame(pa.concat_tables([table for table, _ in parts]))
    whole = whole.with_columns(pl.when(selectors.float().is_finite()).then(selectors.float()).name.keep())
    counts = [one for _, of in parts for one in of]
    starts = accumulate((count for _, count in counts), initial=0)
    return {
        cell_id: Requests(Lists(whole.slice(start, count)))
        for (cell_id, count), start in zip(counts, starts, strict=False)
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
