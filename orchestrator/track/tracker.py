"""Weights & Biases: one run per attempt that became a cell's row, made from what was committed, off the
workers and off the hot path.

Logging happens in one thread of the driver after a cell's commit, so a slow, broken or unreachable service
costs no cell anything: what could not be logged is said once at the end and stays in Parquet.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rich.console import Console

from orchestrator.config.schema import TrackerConfig
from orchestrator.store.read import read_cell, read_telemetry
from orchestrator.store.schema import METRIC_COLUMNS

INIT_S = 30.0  # how long the service may take to accept a run
FINISH_S = 60.0  # how long the end of a sweep waits for the last runs to be written


class Tracker:
    """A context manager; `log` returns at once."""

    def __init__(self, study_dir: Path, config: TrackerConfig, console: Console) -> None:
        self._study_dir = study_dir
        self._config = config
        self._console = console
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._failures: list[str] = []
        self._logged: set[str] = set()

    def __enter__(self) -> Tracker:
        if self._config.name == "wandb":
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        self._thread.join(FINISH_S)
        if self._thread.is_alive():
            self._failures.append(f"still busy after {FINISH_S:.0f} s")
        if self._failures:
            self._console.print(
                f"Weights & Biases: {len(self._failures)} cells not logged ({self._failures[0]}); "
                "their results are in Parquet",
                markup=False,
                highlight=False,
            )

    def log(self, cell_id: str) -> None:
        if self._config.name == "wandb":
            self._queue.put(cell_id)

    def _work(self) -> None:
        while (cell_id := self._queue.get()) is not None:
            try:
                self._log(cell_id)
            except Exception as error:  # whatever the service or its library does, a cell is not harmed by it
                self._failures.append(" ".join(f"{type(error).__name__}: {error}".split())[:200])
        with suppress(Exception):
            import wandb

            wandb.teardown()  # its service would otherwise outlive the sweep's last word

    def _log(self, cell_id: str) -> None:
        """The cell's row, once: it stands on where a later attempt was worse."""
        row = read_cell(self._study_dir, cell_id)
        if row is not None and run_id(row) not in self._logged:
            log_row(self._study_dir, row, self._config)
            self._logged.add(run_id(row))


def run_id(row: Mapping[str, Any]) -> str:
    """Of one attempt at a cell. Rows of older versions name none, and have a number."""
    return f"{row['cell_id']}-{row.get('attempt_id') or row['attempts']}"


def log_row(study_dir: Path, row: Mapping[str, Any], config: TrackerConfig) -> None:
    """One run: configuration as config, metrics as summary, the engine's gauges over time as history."""
    import wandb

    metrics = {key: row[key] for key in METRIC_COLUMNS if row.get(key) is not None}
    settings = {key: value for key, value in row.items() if key not in METRIC_COLUMNS and value is not None}
    settings["provenance"] = json.loads(row["provenance"])
    simulated = "SIMULATED " if row["simulated"] else ""  # a group of its own: groups are averaged
    of_several = f" run={row['run']}" if (row.get("run") or 1) > 1 else ""
    run = wandb.init(
        project=config.project,
        entity=config.entity,
        group=simulated + row["study"],
        name=simulated + (" ".join(row["overrides"]) or row["model"]) + of_several,
        id=run_id(row),
        dir=str(study_dir),
        mode=_mode(config),
        config=settings,
        tags=[row["status"], row["engine"], *row["opt"], *(["SIMULATED"] if simulated else [])],
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off", init_timeout=INIT_S),
    )
    try:
        for point in _history(study_dir, row):
            run.log(point)
        run.summary.update(metrics)
    finally:
        run.finish(exit_code=0 if row["status"] == "done" else 1)


def _history(study_dir: Path, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    samples = read_telemetry(study_dir, row["cell_id"], row.get("attempt_id"))
    rows = samples.select(["t_s", "kv_usage", "running", "waiting"]).to_pylist()
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def _mode(config: TrackerConfig) -> Literal["online", "offline"] | None:
    """``auto``: what ``WANDB_MODE`` says, else online only for a user who is logged in."""
    if config.mode != "auto":
        return "online" if config.mode == "online" else "offline"
    if os.environ.get("WANDB_MODE"):
        return None
    import wandb

    return "online" if wandb.login(prompt=False) else "offline"
