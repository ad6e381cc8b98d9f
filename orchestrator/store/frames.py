"""A study as lazy polars frames, for questions of one line: `orchestrator.store.load`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from orchestrator.errors import ConfigError
from orchestrator.store import attempts
from orchestrator.store.attempts import UNREADABLE, kept_path, own_path

if TYPE_CHECKING:  # polars takes a tenth of a second to import, which a sweep does not need
    import polars as pl

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frames:
    """``cells`` has one row a cell; ``requests`` and ``telemetry`` one a request and a sample, each of the
    attempt that the cell's row names, with a ``cell_id`` to join by. Columns are those of the contract
    (docs/results.md), with ``study`` in all three. What a file of an older version has not is null, and the
    telemetry's GPU columns are lists, one entry a GPU. Nothing is read before ``collect()``."""

    cells: pl.LazyFrame
    requests: pl.LazyFrame
    telemetry: pl.LazyFrame


def load(results_dir: str | Path, study: str | Sequence[str]) -> Frames:
    """One study's frames, or several studies' in one. Raises ConfigError where there is no such study, and
    for rows of a newer version. A file that cannot be read, or is another attempt's, is logged as a warning
    and left out, as in `store.read`."""
    studies = [study] if isinstance(study, str) else list(study)
    folders = [(name, Path(results_dir) / name) for name in studies]
    check_studies(Path(results_dir), studies)
    return Frames(*(_frame(folders, kind) for kind in ("cells", "requests", "telemetry")))


def check_studies(results_dir: Path, studies: Sequence[str]) -> None:
    """Raises ConfigError, with the studies that there are, unless each of these has a stored cell, and where
    one is of a newer version of the program."""
    from orchestrator.store.versions import refuse_newer

    check_there(results_dir, studies)
    for name in studies:
        refuse_newer(results_dir / name)


def check_there(results_dir: Path, studies: Sequence[str]) -> None:
    """As `check_studies`, but for the version."""
    for name in studies:
        if not name or not any((results_dir / name / "cells").glob("[!.]*.parquet")):
            known = sorted(path.parent.name for path in results_dir.glob("*/cells") if path.is_dir())
            there = f"there are {', '.join(known)}" if known else "there is none"
            raise ConfigError(f"study={name}: no cell of such a study is stored under {results_dir}; {there}")


def _frame(folders: Sequence[tuple[str, Path]], kind: str) -> pl.LazyFrame:
    import polars as pl

    from orchestrator.store.schema import CELLS, REQUESTS, TELEMETRY

    schema = {"cells": CELLS, "requests": REQUESTS, "telemetry": TELEMETRY}[kind]
    empty = pl.DataFrame(schema.empty_table()).lazy()
    parts = [empty if "study" in schema.names else empty.with_columns(study=pl.lit(None, pl.String))]
    for study, folder in folders:
        for path in _paths(folder, kind):
            part = pl.scan_parquet(path).with_columns(study=pl.lit(study))
            if kind == "telemetry":
                kinds = part.collect_schema()
                numbers = [name for name in kinds if name.startswith("gpu_") and not kinds[name].is_nested()]
                part = part.with_columns(
                    pl.when(pl.col(name).is_not_null()).then(pl.concat_list(name)) for name in numbers
                )
            parts.append(part)
    return pl.concat(parts, how="diagonal_relaxed")


def _paths(folder: Path, kind: str) -> Iterator[Path]:
    """The file of each stored cell that belongs to its row."""
    for row in sorted((folder / "cells").glob("[!.]*.parquet")):
        try:
            said = attempts.recorded_in(row)
            if kind == "cells":
                yield row
                continue
            name = attempts.name_of(row, said)
        except UNREADABLE as error:
            logger.warning("%s cannot be read: %s", row, error)
            continue
        if (path := _belonging(folder, row.stem, kind, name, said)) is not None:
            yield path


def _belonging(folder: Path, cell_id: str, kind: str, attempt_id: str, said: str | None) -> Path | None:
    own = own_path(folder, cell_id, kind)
    for path in (own, kept_path(folder, cell_id, attempt_id, kind)):
        try:
            with pq.ParquetFile(path) as file:
                if attempts.recorded(file) == said:
                    return path
        except FileNotFoundError:
            continue
        except UNREADABLE as error:
            logger.warning("%s cannot be read: %s", path, error)
    return None
