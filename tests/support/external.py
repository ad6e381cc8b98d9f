"""Measurements of a scripted server by the real command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.cluster.virtual import virtual_cluster
from orchestrator.metrics.validity import INVALIDATING_FLAGS
from tests.support.cli import sweep

Measured = Callable[..., tuple[int, str, list[dict[str, Any]]]]
"""(results, port, *overrides, tries=3) → exit code, output and the rows that are stored there. Where all that
is wrong with a cell is that this machine was late, the command is given again, as a user would."""

LATE = {"client_lag", "client_stalled"}


@contextlib.contextmanager
def measuring() -> Iterator[Measured]:
    """All measurements on one Ray, whose start takes longer than one of them."""
    with virtual_cluster(nodes=1, gpus=0, cpus=8.0, gpu_type="none") as cluster:

        def measure(
            results: Path, port: int, *overrides: str, tries: int = 3
        ) -> tuple[int, str, list[dict[str, Any]]]:
            done = sweep(
                *("-m", "engine=external", f"engine.base_url=http://127.0.0.1:{port}", "hardware=cpu"),
                *("tracker=none", "limit=16", "load.concurrency=4", f"results_dir={results}"),
                f"ray.address={cluster.address}",
                *overrides,
            )
            rows: list[dict[str, Any]] = []
            for path in sorted((results / "default" / "cells").glob("*.parquet")):
                rows += pq.ParquetFile(path).read().to_pylist()
            if tries > 1 and any(row["status"] == "invalid" and wrong(row) <= LATE for row in rows):
                return measure(results, port, *overrides, tries=tries - 1)
            return done.returncode, done.stdout + done.stderr, rows

        yield measure


def wrong(row: dict[str, Any]) -> set[str]:
    """The flags that make the cell not count."""
    return set(row["flags"]) & INVALIDATING_FLAGS.keys()


def requests_of(results: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The stored requests of a cell."""
    path = results / "default" / "requests" / f"{row['cell_id']}.parquet"
    rows: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return rows
