"""The actor that owns one engine, inside its deployment's placement group."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.cell import Cell
from orchestrator.cluster.ranks import multi_node_engine
from orchestrator.cluster.spec import (
    WorkerSpec,
    check_sees_results,
    check_serves_as_planned,
    launch_of,
    log_path,
)
from orchestrator.engines import ADAPTERS, environment
from orchestrator.engines.adapter import Adapter, Launch, metrics_of
from orchestrator.engines.external import connect
from orchestrator.engines.standby_process import Standby, started
from orchestrator.errors import EngineError, OrchestratorError
from orchestrator.grading import LIMIT_S
from orchestrator.grading.isolated import Grader
from orchestrator.load.client.pool import ClientPool
from orchestrator.load.driver import LoadProgress
from orchestrator.measure.context import Attempt, CellOutcome, LiveServer, MeasurementContext, WorkerProgress
from orchestrator.measure.measure import measure
from orchestrator.records import Endpoint
from orchestrator.secrets import masked
from orchestrator.store.write import prepare as prepare_storing
from orchestrator.telemetry.gpu import Gpus, GpuUse, once_idle, open_gpus
from orchestrator.telemetry.host import host_provenance

CPUS_PER_SLOT = 4  # an engine's two busy processes, the client, and the imports of the next engine
GPU_IDLE_S = 20.0  # what a killed worker's engine needs at most; others' GPUs do not get idle by waiting
IDLE = WorkerProgress("idle", None, 0, 0, 0)


@dataclass(frozen=True)
class Started:
    """``seconds`` from the call of `EngineWorker.start` until the engine was healthy, ``prepared`` whether a
    standby became the engine."""

    seconds: float
    prepared: bool
    woken: bool = False


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
    pid: int | None = None
    started: Started = Started(0.0, False)
    version: str | None = None  # of the engine that serves


class EngineWorker:
    """A slot: one placement group's actor, serving one deployment after another.

    `start`, `run` and `end` follow one another. `prepare`, `progress` and `stop` may come on other threads of
    the actor while `start` or `run` works."""

    def __init__(self) -> None:
        self._life = ExitStack()
        self._tools = ExitStack()
        self._clients = self._tools.enter_context(ClientPool())
        self._grader = self._tools.enter_context(Grader(LIMIT_S))
        self._next: tuple[str, Standby] | None = None  # a deployment's id and what waits to serve it
        self._next_lock = threading.Lock()
        self._serving: _Serving | None = None
        self._cancelled = threading.Event()
        self._stopped = False
        self._working = threading.Lock()
        self._progress = IDLE

    def prepare(self, spec: WorkerSpec) -> bool:
        """Brings what the deployment's engine needs up to the point before it touches the GPU, beside one
        that serves: its process with all imports done, its weights here. Returns True when that is ready;
        replaces what was prepared before. Never raises: what is wrong with a deployment its start tells."""
        try:
            if not _worth_preparing(spec) or not spec.study_dir.is_dir():
                return False
            if (standby := self._begin_standby(spec)) is None:
                return False
            return standby.wait(spec.config.timeout.engine_start_s)
        except (OrchestratorError, OSError):
            return False

    def _begin_standby(self, spec: WorkerSpec) -> Standby | None:
        """The one that waits for the deployment, begun unless it is there; None after `stop`."""
        config, launch = spec.config, launch_of(spec)
        with self._next_lock:
            if self._next and self._next[0] == spec.deployment_id and self._next[1].alive:
                return self._next[1]
            self._drop_standby()
            if self._stopped:
                return None
            standby = Standby(
                ADAPTERS[config.engine.name],
                launch,
                log_path(spec),
                stop_timeout_s=config.timeout.engine_stop_s,
            )
            self._next = (spec.deployment_id, standby)
            return standby

    def _take_standby(self, spec: WorkerSpec) -> Standby | None:
        with self._next_lock:
            if self._next is None or self._next[0] != spec.deployment_id:
                return None
            (_, standby), self._next = self._next, None
            return standby

    def _drop_standby(self) -> None:
        """Under its lock."""
        if self._next:
            self._next[1].close()
        self._next = None

    def start(self, spec: WorkerSpec) -> Started:
        """Starts the deployment's engine, after ending one that is still there. Raises EngineError with the
        log's tail when it did not become healthy, and when this node does not see the results."""
        check_sees_results(spec)
        with self._working:
            if self._stopped:
                raise EngineError("cancelled before the engine was started", "cancelled")
            self._close()
            self._progress = WorkerProgress("starting", None, 0, 0, 0)
            began = time.perf_counter()
            self._prepare_tools(spec)
            try:
                serving = self._connected(spec) if spec.config.engine.name == "external" else self._live(spec)
            finally:
                self._progress = IDLE
            now = Started(time.perf_counter() - began, serving.started.prepared)
            ready = {"prepared": now.prepared, "engine_ready_at": datetime.now(UTC).isoformat()}
            provenance = dict(serving.provenance) | ready
            self._serving = replace(serving, started=now, provenance=provenance)
            return now

    def _prepare_tools(self, spec: WorkerSpec) -> None:
        """What the first cell would wait for otherwise, beside the engine's start."""
        self._clients.start()
        if spec.config.weights != "dummy":
            self._grader.prepare()
        threading.Thread(target=prepare_storing, daemon=True).start()

    def _connected(self, spec: WorkerSpec) -> _Serving:
        server, metrics = connect(spec.config)
        check_serves_as_planned(spec, server.served)
        told = {"served": dict(server.served)}
        return _Serving(spec, server, metrics, host_provenance() | told, version=server.served.get("version"))

    def _live(self, spec: WorkerSpec) -> _Serving:
        config, launch, waiting = spec.config, launch_of(spec), self._take_standby(spec)
        adapter = ADAPTERS[config.engine.name]
        if spec.nodes > 1 and not config.engine.simulated:
            # No GPU counters: the other nodes' are out of reach, and a part would pass for the whole.
            engine = self._life.enter_context(
                multi_node_engine(spec, launch, log_path(spec), self._is_cancelled)
            )
            provenance = _provenance(adapter, engine.server.launch) | {"followers": engine.provenance}
            return _Serving(
                spec,
                engine,
                metrics_of(adapter, launch.args),
                provenance,
                lazy=adapter.lazy,
                version=launch.version,
            )
        gpus = open_gpus() if spec.gpus and not config.engine.simulated else None
        before = once_idle(gpus, GPU_IDLE_S, self._is_cancelled) if gpus else None
        server, prepared = self._life.enter_context(
            started(
                adapter,
                launch,
                waiting.server.log_path if waiting else log_path(spec),
                waiting=waiting,
                start_timeout_s=config.timeout.engine_start_s,
                stop_timeout_s=config.timeout.engine_stop_s,
                cancelled=self._is_cancelled,
            )
        )
        return _Serving(
            spec,
            server,
            metrics_of(adapter, launch.args),
            _provenance(adapter, launch),
            lazy=adapter.lazy,
            gpus=gpus,
            gpu_use=(before, gpus.use()) if gpus and before else None,
            pid=None if config.engine.simulated else server.pid,
            started=Started(0.0, prepared),
            version=launch.version,
        )

    def run(self, cell: Cell, attempt: Attempt) -> CellOutcome:
        """Measures one cell and commits it; see `measure`."""
        serving = self._serving
        assert serving is not None

        def report(phase: str, requests: int, load: LoadProgress | None) -> None:
            finished, tokens = (load.finished, load.output_tokens) if load else (0, 0)
            self._progress = WorkerProgress(phase, cell.cell_id, requests, finished, tokens)

        site = MeasurementContext(
            study=serving.spec.study,
            study_dir=serving.spec.study_dir,
            server=serving.server,
            external=serving.spec.config.engine.name == "external",
            metrics=serving.metrics,
            lazy=serving.lazy,
            engine_version=serving.version or cell.facts.engine_version,
            deployment_start_s=serving.started.seconds,
            nodes=serving.spec.nodes,
            gpu_count=serving.spec.gpus,
            gpus=serving.gpus,
            gpu_use=serving.gpu_use,
            engine_pid=serving.pid,
            provenance=serving.provenance,
            report=report,
            cancelled=self._is_cancelled,
            clients=self._clients,
            grader=self._grader,
        )
        with self._working:
            try:
                return measure(cell, site, attempt)
            finally:
                self._progress = IDLE

    def progress(self) -> WorkerProgress:
        return self._progress

    def endpoint(self) -> Endpoint:
        """Where the engine that serves now is asked."""
        assert self._serving is not None
        return self._serving.server.endpoint

    def serves(self, deployment_id: str) -> bool:
        """Whether the deployment's engine serves, and lives."""
        serving = self._serving
        return (
            serving is not None
            and serving.spec.deployment_id == deployment_id
            and serving.server.failure() is None
        )

    def end(self) -> None:
        """Ends what runs and stops the engine; returns when nothing of it is left. The slot stays."""
        self._cancelled.set()
        with self._working:
            self._close()
            self._cancelled.clear()

    def stop(self) -> None:
        """As `end`, for good."""
        self._stopped = True
        with self._next_lock:
            self._drop_standby()
        self.end()
        with self._working:
            self._tools.close()

    def _close(self) -> None:
        """Stops the engine, if there is one. Under the lock."""
        self._progress = WorkerProgress("stopping", None, 0, 0, 0)
        try:
            self._life.close()
        finally:
            self._serving, self._progress = None, IDLE

    def _is_cancelled(self) -> bool:
        return self._stopped or self._cancelled.is_set()


def _provenance(adapter: Adapter, launch: Launch) -> dict[str, Any]:
    return host_provenance() | {
        "command": adapter.command(launch),
        "environment": masked(environment.clean(adapter, launch, os.environ)),
    }


def _worth_preparing(spec: WorkerSpec) -> bool:
    """Whether a start's imports may run beside a measurement. ``prepare=auto``: where a GPU would idle for
    them, and the node has CPUs enough that nobody is kept waiting."""
    if spec.config.engine.name in ("external", "simulated") or spec.nodes > 1 or spec.config.prepare == "off":
        return False
    if spec.config.prepare == "on":
        return True
    if not spec.gpus:
        return False
    slots = max(1, len(list(Path("/dev").glob("nvidia[0-9]*"))) // spec.gpus)
    return len(os.sched_getaffinity(0)) >= CPUS_PER_SLOT * slots
