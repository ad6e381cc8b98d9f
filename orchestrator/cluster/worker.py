"""The actor that owns one engine, inside its deployment's placement group."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cell import Cell
from orchestrator.cluster.measure import CellOutcome, LiveServer, Site, measure
from orchestrator.config import SweepConfig
from orchestrator.engines import ADAPTERS
from orchestrator.engines.adapter import metrics_of
from orchestrator.engines.external import connect
from orchestrator.engines.launch import build_launch
from orchestrator.engines.server import running
from orchestrator.engines.version import engine_version, interpreter
from orchestrator.engines.weights import prepare, served
from orchestrator.errors import EngineError
from orchestrator.load.driver import LoadProgress
from orchestrator.telemetry.gpu import Gpus, GpuUse, open_gpus
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
    tensor_parallel_size: int
    nodes: int
    gpus: int


@dataclass(frozen=True)
class WorkerProgress:
    """``phase`` is one of: starting, warm-up, load, grade, idle, stopping."""

    phase: str
    cell_id: str | None
    requests: int
    finished: int
    output_tokens: int


IDLE = WorkerProgress("idle", None, 0, 0, 0)


class EngineWorker:
    """Starts the engine, measures cells on it one after another, stops it. Calls of `progress` and `stop`
    come on other threads of the actor while `start` or `run` works."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self._stack = ExitStack()
        self._cancelled = threading.Event()
        self._working = threading.Lock()
        self._progress = IDLE
        self._server: LiveServer | None = None
        self._started_in_s: float | None = None
        self._gpus: Gpus | None = None
        self._gpu_use: tuple[GpuUse, GpuUse] | None = None
        self._metrics: Mapping[str, str] = {}
        self._lazy: frozenset[str] = frozenset()
        self._provenance: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"EngineWorker({self.spec.label})"

    def start(self) -> float:
        """Seconds until the engine was healthy. Raises EngineError with the log's tail when it was not, and
        when this node does not see the results."""
        if not self.spec.study_dir.is_dir():
            raise EngineError(
                f"results_dir: {self.spec.study_dir} is not there on node {socket.gethostname()}; "
                "name a folder on a file system that every node sees",
                "no_results_dir",
            )
        with self._working:
            self._progress = WorkerProgress("starting", None, 0, 0, 0)
            began = time.perf_counter()
            if self.spec.config.engine.name == "external":
                self._server, self._metrics = connect(self.spec.config)
                self._provenance = host_provenance()
            else:
                self._start_engine()
            self._started_in_s = time.perf_counter() - began
            self._progress = IDLE
            return self._started_in_s

    def _start_engine(self) -> None:
        config = self.spec.config
        adapter, python = ADAPTERS[config.engine.name], interpreter(config.engine)
        launch = build_launch(
            config,
            hardware="gpu" if self.spec.gpus else "cpu",
            tensor_parallel_size=self.spec.tensor_parallel_size,
            nodes=self.spec.nodes,
            model=prepare(served(config), python),
            engine_version=engine_version(config.engine),
        )
        self._gpus = open_gpus() if self.spec.gpus else None
        before = self._gpus.use() if self._gpus else None
        self._server = self._stack.enter_context(
            running(
                adapter,
                launch,
                self._log_path(),
                start_timeout_s=config.timeout.engine_start_s,
                stop_timeout_s=config.timeout.engine_stop_s,
                cancelled=self._cancelled.is_set,
            )
        )
        if self._gpus and before:
            self._gpu_use = (before, self._gpus.use())
        self._metrics, self._lazy = metrics_of(adapter, launch.args), adapter.lazy
        self._provenance = host_provenance() | {"command": adapter.command(launch)}

    def run(self, cell: Cell, attempt: int) -> CellOutcome:
        """Measures one cell and commits it; see `measure`."""
        assert self._server is not None

        def report(phase: str, requests: int, load: LoadProgress | None) -> None:
            finished, tokens = (load.finished, load.output_tokens) if load else (0, 0)
            self._progress = WorkerProgress(phase, cell.cell_id, requests, finished, tokens)

        site = Site(
            study=self.spec.study,
            study_dir=self.spec.study_dir,
            server=self._server,
            external=self.spec.config.engine.name == "external",
            metrics=self._metrics,
            lazy=self._lazy,
            engine_version=cell.facts.engine_version,
            deployment_start_s=self._started_in_s,
            nodes=self.spec.nodes,
            gpus=self._gpus,
            gpu_use=self._gpu_use,
            provenance=self._provenance,
            report=report,
            cancelled=self._cancelled.is_set,
        )
        with self._working:
            try:
                return measure(cell, site, attempt)
            finally:
                self._progress = IDLE

    def progress(self) -> WorkerProgress:
        return self._progress

    def stop(self) -> None:
        """Ends what runs and stops the engine; returns when nothing of it is left."""
        self._cancelled.set()
        with self._working:
            self._progress = WorkerProgress("stopping", None, 0, 0, 0)
            self._stack.close()

    def _log_path(self) -> Path:
        folder = self.spec.study_dir / "logs" / self.spec.deployment_id
        folder.mkdir(parents=True, exist_ok=True)
        taken = len(list(folder.glob("engine*.log")))
        return folder / (f"engine.{taken}.log" if taken else "engine.log")
