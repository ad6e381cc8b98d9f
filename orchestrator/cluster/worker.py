"""The actor that owns one engine, inside its deployment's placement group."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.cell import Cell
from orchestrator.cluster.ranks import multi_node_engine
from orchestrator.cluster.sleepers import Serving, Sleepers
from orchestrator.cluster.spec import (
    WorkerSpec,
    check_sees_results,
    check_serves_as_planned,
    launch_of,
    log_path,
    worth_preparing,
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
from orchestrator.measure.context import Attempt, CellOutcome, MeasurementContext, WorkerProgress
from orchestrator.measure.measure import measure
from orchestrator.measure.measure import prepare as prepare_measuring
from orchestrator.records import Endpoint
from orchestrator.secrets import masked
from orchestrator.telemetry.gpu import open_gpus
from orchestrator.telemetry.host import host_provenance

IDLE = WorkerProgress("idle", None, 0, 0, 0)


@dataclass(frozen=True)
class Started:
    """``seconds`` from the call of `EngineWorker.start` until the engine was healthy, ``prepared`` whether a
    standby became the engine, ``woken`` whether it slept in this slot."""

    seconds: float
    prepared: bool
    woken: bool = False


class EngineWorker:
    """A slot: one placement group's actor, serving one deployment after another. Engines of others may sleep
    in it (``engine.sleep``): one is awake at a time.

    `start`, `run`, `rest` and `end` follow one another. `prepare`, `progress`, `sleeping` and `stop` may come
    on other threads of the actor while one of those works."""

    def __init__(self) -> None:
        self._sleepers = Sleepers()
        self._tools = ExitStack()
        self._clients = self._tools.enter_context(ClientPool())
        self._grader = self._tools.enter_context(Grader(LIMIT_S))
        self._next: tuple[str, Standby] | None = None  # a deployment's id and what waits to serve it
        self._next_lock = threading.Lock()
        self._serving: Serving | None = None
        self._cancelled = threading.Event()
        self._stopped = False
        self._working = threading.Lock()
        self._progress = IDLE

    def prepare(self, spec: WorkerSpec) -> bool:
        """Brings what the deployment's engine needs up to the point before it touches the GPU, beside one
        that serves: its process with all imports done, its weights here. Returns True when that is ready;
        replaces what was prepared before. Never raises: what is wrong with a deployment its start tells."""
        try:
            if spec.deployment_id in self._sleepers.ids():
                return True
            if not worth_preparing(spec) or not spec.study_dir.is_dir():
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
        """Wakes the deployment's engine where it sleeps here, else starts it; before that puts the engine of
        another deployment that is still awake to sleep, or ends it. A sleeper that does not wake is ended,
        and one started in its place. Raises EngineError with the log's tail when the engine did not become
        healthy, and when this node does not see the results."""
        check_sees_results(spec)
        with self._working:
            if self._stopped:
                raise EngineError("cancelled before the engine was started", "cancelled")
            self._make_way(spec)
            began = time.perf_counter()
            self._prepare_tools(spec)
            try:
                serving, not_woken = self._woken(spec)
                serving = serving or self._fresh(spec, not_woken, began)
            finally:
                self._progress = IDLE
            self._serving = serving
            woken = serving.woken_at_s is not None
            return Started(time.perf_counter() - began, serving.prepared and not woken, woken)

    def _make_way(self, spec: WorkerSpec) -> None:
        serving = self._serving
        if serving is None or serving.spec.deployment_id == spec.deployment_id or not serving.can_sleep:
            self._close()
        else:
            self._rest()

    def _woken(self, spec: WorkerSpec) -> tuple[Serving | None, str | None]:
        """The deployment's engine where it slept here and is awake now, else why it did not wake, or twice
        None."""
        self._progress = WorkerProgress("waking", None, 0, 0, 0)
        try:
            return self._sleepers.wake(spec, self._is_cancelled), None
        except EngineError as error:
            if self._is_cancelled():
                raise
            return None, str(error).splitlines()[0]

    def _fresh(self, spec: WorkerSpec, not_woken: str | None, began: float) -> Serving:
        """An engine that was just started. Where there is too little memory for it the sleepers are ended,
        whose part was an estimate, and it is started once more."""
        self._progress = WorkerProgress("starting", None, 0, 0, 0)
        try:
            serving = self._made(spec)
        except EngineError as error:
            if error.cause not in ("oom", "gpu_busy") or not self._sleepers.end_all():
                raise
            serving = self._made(spec)
        seconds = time.perf_counter() - began
        provenance: dict[str, Any] = dict(serving.provenance)
        provenance |= {"prepared": serving.prepared, "engine_ready_at": datetime.now(UTC).isoformat()}
        if not_woken is not None:
            provenance["not_woken"] = not_woken
            serving.note(f"started anew, since the one that slept did not wake: {not_woken}")
        return replace(serving, start_s=seconds, provenance=provenance)

    def _made(self, spec: WorkerSpec) -> Serving:
        if spec.config.engine.name == "external":
            return self._connected(spec)
        with ExitStack() as life:
            serving = self._live(spec, life)
            return replace(serving, life=life.pop_all())

    def _prepare_tools(self, spec: WorkerSpec) -> None:
        """What the first cell would wait for otherwise, beside the engine's start."""
        self._clients.start()
        if spec.config.weights != "dummy":
            self._grader.prepare()
        threading.Thread(target=prepare_measuring, daemon=True).start()

    def _connected(self, spec: WorkerSpec) -> Serving:
        server, metrics = connect(spec.config)
        check_serves_as_planned(spec, server.served)
        told = {"served": dict(server.served)}
        return Serving(spec, server, metrics, host_provenance() | told, version=server.served.get("version"))

    def _live(self, spec: WorkerSpec, life: ExitStack) -> Serving:
        config, launch, waiting = spec.config, launch_of(spec), self._take_standby(spec)
        adapter = ADAPTERS[config.engine.name]
        if spec.nodes > 1 and not config.engine.simulated:
            # No GPU counters: the other nodes' are out of reach, and a part would pass for the whole.
            engine = life.enter_context(multi_node_engine(spec, launch, log_path(spec), self._is_cancelled))
            provenance = _provenance(adapter, engine.server.launch) | {"followers": engine.provenance}
            return Serving(
                spec,
                engine,
                metrics_of(adapter, launch.args),
                provenance,
                lazy=adapter.lazy,
                version=launch.version,
            )
        gpus = open_gpus() if spec.gpus and not config.engine.simulated else None
        before = self._sleepers.once_idle(gpus, self._is_cancelled) if gpus else None
        earlier = gpus.use().pids if gpus else None
        server, prepared = life.enter_context(
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
        ready = gpus.use() if gpus else None
        return Serving(
            spec,
            server,
            metrics_of(adapter, launch.args),
            _provenance(adapter, launch),
            lazy=adapter.lazy,
            gpus=gpus,
            gpu_use=(before, ready) if ready and before else None,
            gpu_pids=((ready and ready.pids) or frozenset()) - (earlier or frozenset()),
            pid=None if config.engine.simulated else server.pid,
            prepared=prepared,
            version=launch.version,
        )

    def run(self, cell: Cell, attempt: Attempt) -> CellOutcome:
        """Measures one cell and commits it; see `measure`. Raises EngineError as well where another engine of
        the slot is awake."""
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
            deployment_start_s=serving.start_s,
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
            woken_at_s=serving.woken_at_s,
        )
        with self._working:
            self._sleepers.check_asleep()
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

    def rest(self) -> bool:
        """Puts the engine that serves to sleep: its GPU memory, but for little, is another's, and `start`
        wakes it. False where it cannot sleep, for whatever reason: then it is ended, as by `end`. Waits for
        what runs."""
        with self._working:
            return self._rest()

    def sleeping(self) -> tuple[str, ...]:
        """The deployments whose engines sleep here, and live."""
        return self._sleepers.ids()

    def end(self) -> None:
        """Ends what runs and stops the engine that serves; returns when nothing of it is left. The slot
        stays, and with it the engines that sleep."""
        self._cancelled.set()
        with self._working:
            self._close()
            self._cancelled.clear()

    def stop(self) -> None:
        """As `end`, of all engines, and for good."""
        self._stopped = True
        with self._next_lock:
            self._drop_standby()
        self.end()
        with self._working:
            self._sleepers.end_all()
            self._tools.close()

    def _rest(self) -> bool:
        """Under the lock."""
        serving = self._serving
        if serving is None:
            return False
        self._progress = WorkerProgress("asleep", None, 0, 0, 0)
        if (reason := self._sleepers.put(serving, self._is_cancelled)) is None:
            self._serving, self._progress = None, IDLE
            return True
        serving.note(f"ended in place of sleeping: {reason}")
        self._close()
        return False

    def _close(self) -> None:
        """Stops the engine that serves, if there is one. Under the lock."""
        self._progress = WorkerProgress("stopping", None, 0, 0, 0)
        try:
            if self._serving is not None:
                self._serving.life.close()
        finally:
            self._serving, self._progress = None, IDLE

    def _is_cancelled(self) -> bool:
        return self._stopped or self._cancelled.is_set()


def _provenance(adapter: Adapter, launch: Launch) -> dict[str, Any]:
    return host_provenance() | {
        "command": adapter.command(launch),
        "environment": masked(environment.clean(adapter, launch, os.environ)),
    }
