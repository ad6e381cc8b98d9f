"""The actor that owns one engine, inside its deployment's placement group."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from orchestrator.errors import EngineError, OrchestratorError
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


@dataclass(frozen=True)
class Started:
    """``seconds`` from the call of `EngineWorker.start` until the engine was healthy, ``prepared`` whether a
    standby became the engine."""

    seconds: float
    prepared: bool


@dataclass(frozen=True)
class _Serving:
    """The engine that serves now, and what its cells' rows say of it."""

    spec: WorkerSpec
    server: LiveServer
    metrics: Mapping[str, str]
    provenance: Mapping[str, Any]
    lazy: frozenset[str] = frozenset()
    gpus: Gpus | None = None
    gpu_use: tuple[GpuUse, GpuUse] | None = None
    started: Started = Started(0.0, False)


class EngineWorker:
    """A slot: one placement group's actor, serving one deployment after another.

    `start`, `run` and `end` follow one another. `prepare`, `progress` and `stop` may come on other threads of
    the actor while `start` or `run` works."""

    def __init__(self) -> None:
        self._life = ExitStack()
        self._serving: _Serving | None = None
        self._cancelled = threading.Event()
        self._stopped = False
        self._working = threading.Lock()
        self._progress = IDLE

    def prepare(self, spec: WorkerSpec) -> bool:
        """Brings what the deployment's engine will need, beside one that serves; whether it did. Never
        raises."""
        if self._stopped or spec.config.engine.simulated or spec.config.engine.name == "external":
            return False
        try:
            prepare(served(spec.config), interpreter(spec.config.engine))
        except OrchestratorError:
            return False  # its start will say so
        return True

    def start(self, spec: WorkerSpec) -> Started:
        """Starts the deployment's engine, after ending one that is still there. Raises EngineError with the
        log's tail when it did not become healthy, and when this node does not see the results."""
        if not spec.study_dir.is_dir():
            raise EngineError(
                f"results_dir: {spec.study_dir} is not there on node {socket.gethostname()}; "
                "name a folder on a file system that every node sees",
                "no_results_dir",
            )
        with self._working:
            if self._stopped:
                raise EngineError("cancelled before the engine was started", "cancelled")
            self._close()
            self._progress = WorkerProgress("starting", None, 0, 0, 0)
            began = time.perf_counter()
            try:
                serving = self._connected(spec) if spec.config.engine.name == "external" else self._live(spec)
            finally:
                self._progress = IDLE
            started = Started(time.perf_counter() - began, prepared=False)
            self._serving = replace(
                serving, started=started, provenance=dict(serving.provenance) | {"prepared": started.prepared}
            )
            return started

    def _connected(self, spec: WorkerSpec) -> _Serving:
        server, metrics = connect(spec.config)
        return _Serving(spec, server, metrics, host_provenance())

    def _live(self, spec: WorkerSpec) -> _Serving:
        config = spec.config
        adapter, python = ADAPTERS[config.engine.name], interpreter(config.engine)
        launch = build_launch(
            config,
            hardware="gpu" if spec.gpus else "cpu",
            tensor_parallel_size=spec.tensor_parallel_size,
            nodes=spec.nodes,
            model=None if config.engine.simulated else prepare(served(config), python),
            engine_version=engine_version(config.engine),
        )
        gpus = open_gpus() if spec.gpus and not config.engine.simulated else None
        before = gpus.use() if gpus else None
        server = self._life.enter_context(
            running(
                adapter,
                launch,
                _log_path(spec),
                start_timeout_s=config.timeout.engine_start_s,
                stop_timeout_s=config.timeout.engine_stop_s,
                cancelled=self._is_cancelled,
            )
        )
        return _Serving(
            spec,
            server,
            metrics_of(adapter, launch.args),
            host_provenance() | {"command": adapter.command(launch)},
            lazy=adapter.lazy,
            gpus=gpus,
            gpu_use=(before, gpus.use()) if gpus and before else None,
        )

    def run(self, cell: Cell, attempt: int) -> CellOutcome:
        """Measures one cell and commits it; see `measure`."""
        serving = self._serving
        assert serving is not None

        def report(phase: str, requests: int, load: LoadProgress | None) -> None:
            finished, tokens = (load.finished, load.output_tokens) if load else (0, 0)
            self._progress = WorkerProgress(phase, cell.cell_id, requests, finished, tokens)

        site = Site(
            study=serving.spec.study,
            study_dir=serving.spec.study_dir,
            server=serving.server,
            external=serving.spec.config.engine.name == "external",
            metrics=serving.metrics,
            lazy=serving.lazy,
            engine_version=cell.facts.engine_version,
            deployment_start_s=serving.started.seconds,
            nodes=serving.spec.nodes,
            gpu_count=serving.spec.gpus,
            gpus=serving.gpus,
            gpu_use=serving.gpu_use,
            provenance=serving.provenance,
            report=report,
            cancelled=self._is_cancelled,
        )
        with self._working:
            try:
                return measure(cell, site, attempt)
            finally:
                self._progress = IDLE

    def progress(self) -> WorkerProgress:
        return self._progress

    def end(self) -> None:
        """Ends what runs and stops the engine; returns when nothing of it is left. The slot stays."""
        self._cancelled.set()
        with self._working:
            self._close()
            self._cancelled.clear()

    def stop(self) -> None:
        """As `end`, for good."""
        self._stopped = True
        self.end()

    def _close(self) -> None:
        """Stops the engine, if there is one. Under the lock."""
        self._progress = WorkerProgress("stopping", None, 0, 0, 0)
        try:
            self._life.close()
        finally:
            self._serving, self._progress = None, IDLE

    def _is_cancelled(self) -> bool:
        return self._stopped or self._cancelled.is_set()


def _log_path(spec: WorkerSpec) -> Path:
    folder = spec.study_dir / "logs" / spec.deployment_id
    folder.mkdir(parents=True, exist_ok=True)
    taken = len(list(folder.glob("engine*.log")))
    return folder / (f"engine.{taken}.log" if taken else "engine.log")
