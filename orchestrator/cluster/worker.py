"""The actor that owns one engine, inside its deployment's placement group."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cell import Cell
from orchestrator.cluster.measure import CellOutcome, Context, LiveServer, measure
from orchestrator.config import SweepConfig
from orchestrator.engines import ADAPTERS
from orchestrator.engines.external import connect
from orchestrator.engines.launch import build_launch
from orchestrator.engines.server import running
from orchestrator.engines.version import engine_version, interpreter
from orchestrator.engines.weights import prepare, served
from orchestrator.load.driver import LoadProgress
from orchestrator.telemetry.host import host_provenance


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker must know of its deployment. ``study_dir`` is absolute and on a file system that the
    driver sees too."""

    deployment_id: str
    label: str
    study: str
    study_dir: Path
    config: SweepConfig
    hardware: str
    tensor_parallel_size: int
    nodes: int
    gpus: int
    restarts: int


@dataclass(frozen=True)
class WorkerProgress:
    """``phase`` is one of: starting, warm-up, load, grade, idle, stopping."""

    phase: str
    cell_id: str | None
    requests: int
    finished: int
    output_tokens: int


class EngineWorker:
    """Starts the engine, measures cells on it one after another, stops it. Calls of `progress` and `stop`
    come from other threads of the actor while `start` or `run` works."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self._stack = ExitStack()
        self._cancelled = threading.Event()
        self._progress = WorkerProgress("idle", None, 0, 0, 0)
        self._server: LiveServer | None = None
        self._started_in_s: float | None = None
        self._provenance: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"EngineWorker({self.spec.label})"

    def start(self) -> float:
        """Seconds until the engine was healthy. Raises EngineError with the log's tail when it was not."""
        self._progress = WorkerProgress("starting", None, 0, 0, 0)
        began = time.perf_counter()
        config = self.spec.config
        self._provenance = host_provenance()
        if config.engine.name == "external":
            self._server = connect(config)
        else:
            adapter, python = ADAPTERS[config.engine.name], interpreter(config.engine)
            launch = build_launch(
                config,
                hardware="gpu" if self.spec.gpus else "cpu",
                tensor_parallel_size=self.spec.tensor_parallel_size,
                nodes=self.spec.nodes,
                model=prepare(served(config), python),
                engine_version=engine_version(config.engine),
            )
            server = self._stack.enter_context(
                running(
                    adapter,
                    launch,
                    self._log_path(),
                    start_timeout_s=config.timeout.engine_start_s,
                    stop_timeout_s=config.timeout.engine_stop_s,
                    cancelled=self._cancelled.is_set,
                )
            )
            self._server = server
            self._provenance |= {"command": adapter.command(launch)}
        self._started_in_s = time.perf_counter() - began
        self._progress = WorkerProgress("idle", None, 0, 0, 0)
        return self._started_in_s

    def run(self, cell: Cell, attempt: int) -> CellOutcome:
        """Measures one cell and commits it; see `measure`."""
        assert self._server is not None
        config = self.spec.config
        requests = 0

        def report(phase: str, load: LoadProgress | None) -> None:
            self._progress = WorkerProgress(
                phase,
                cell.cell_id,
                load.total if load else requests,
                load.finished if load else 0,
                load.output_tokens if load else 0,
            )

        try:
            return measure(
                cell,
                Context(
                    study=self.spec.study,
                    study_dir=self.spec.study_dir,
                    adapter=ADAPTERS.get(config.engine.name),
                    server=self._server,
                    engine_version=cell.facts.engine_version,
                    deployment_start_s=self._started_in_s,
                    gpus=self.spec.gpus,
                    nodes=self.spec.nodes,
                    restarts=self.spec.restarts,
                    provenance=self._provenance,
                    report=report,
                    cancelled=self._cancelled.is_set,
                ),
                attempt,
            )
        finally:
            self._progress = WorkerProgress("idle", None, 0, 0, 0)

    def progress(self) -> WorkerProgress:
        return self._progress

    def stop(self) -> None:
        """Ends what runs and stops the engine; returns when nothing of it is left."""
        self._progress = WorkerProgress("stopping", None, 0, 0, 0)
        self._cancelled.set()
        self._stack.close()

    def _log_path(self) -> Path:
        folder = self.spec.study_dir / "logs" / self.spec.deployment_id
        folder.mkdir(parents=True, exist_ok=True)
        taken = len(list(folder.glob("engine*.log")))
        return folder / (f"engine.{taken}.log" if taken else "engine.log")


