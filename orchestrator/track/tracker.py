"""Weights & Biases: one run per attempt that became a cell's row, made from what was committed, off the
workers and off the hot path.

Logging happens in one thread of the driver after a cell's commit, so a slow, broken or unreachable service
costs no cell anything: what could not be logged is said once at the end and stays in Parquet.
"""

from __future__ import annotations

import os
import queue
import shlex
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

from rich.console import Console

from orchestrator.config.schema import TrackerConfig
from orchestrator.store.read import read_cell
from orchestrator.track.wandb_run import log_row, run_id

FINISH_S = 60.0  # how long the end of a sweep waits for the last runs to be written


class Tracker:
    """A context manager; `log` returns at once. ``varied`` are the override keys that tell the sweep's cells
    apart, in the user's order: a run's name has their values."""

    def __init__(
        self, study_dir: Path, config: TrackerConfig, console: Console, varied: Sequence[str] = ()
    ) -> None:
        self._study_dir = study_dir
        self._config = config
        self._console = console
        self._varied = tuple(varied)
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._failures: list[str] = []
        self._logged: set[str] = set()
        self._offline = 0

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
            self._say(
                f"{len(self._failures)} cells not logged ({self._failures[0]}); their results are in Parquet"
            )
        if self._offline:
            runs = f"{shlex.quote(str(self._study_dir / 'wandb'))}/offline-run-*"
            self._say(f"{self._offline} runs are on this machine alone; to upload them: wandb sync {runs}")

    def _say(self, said: str) -> None:
        self._console.print(f"Weights & Biases: {said}", markup=False, highlight=False, soft_wrap=True)

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
            offline = log_row(self._study_dir, row, self._config, _mode(self._config), self._varied)
            self._logged.add(run_id(row))
            self._offline += offline


def _mode(config: TrackerConfig) -> Literal["online", "offline"] | None:
    """``auto``: what ``WANDB_MODE`` says, else online only for a user who is logged in."""
    if config.mode != "auto":
        return "online" if config.mode == "online" else "offline"
    if os.environ.get("WANDB_MODE"):
        return None
    import wandb

    return "online" if wandb.login(prompt=False) else "offline"
