"""The engines of a slot: the one that serves, and those that sleep beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.cluster.host_memory import available, lacks_room
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.engines import sleep
from orchestrator.engines.server import Server
from orchestrator.engines.standby_process import note
from orchestrator.errors import EngineError
from orchestrator.measure.context import LiveServer
from orchestrator.memory import GIB, weights_gib
from orchestrator.telemetry.gpu import Gpus, GpuUse, once_idle, without

GPU_IDLE_S = 20.0  # what a killed worker's engine needs at most; others' GPUs do not get idle by waiting


@dataclass(frozen=True)
class Serving:
    """A live engine, and what its cells' rows say of it. ``life`` ends it. ``start_s`` is how long its start
    took, ``woken_at_s`` when it was last woken, on the clock of ``time.perf_counter``, ``gpu_pids`` its own
    processes as NVML names them."""

    spec: WorkerSpec
    server: LiveServer
    metrics: Mapping[str, str]
    provenance: Mapping[str, Any]
    lazy: frozenset[str] = frozenset()
    gpus: Gpus | None = None
    gpu_use: tuple[GpuUse, GpuUse] | None = None
    gpu_pids: frozenset[int] = frozenset()
    pid: int | None = None
    prepared: bool = False
    version: str | None = None  # of the engine that serves
    life: ExitStack = field(default_factory=ExitStack)
    start_s: float = 0.0
    woken_at_s: float | None = None

    @property
    def can_sleep(self) -> bool:
        """Whether it was started to, and lives."""
        return self.spec.config.engine.sleep == "on" and self.server.failure() is None

    def note(self, said: str) -> None:
        """A line in the engine's log."""
        if isinstance(self.server, Server):
            note(self.server.log_path, said)


class Sleepers:
    """By deployment. For one thread at a time, but for `ids`."""

    def __init__(self) -> None:
        self._held: dict[str, Serving] = {}

    def ids(self) -> tuple[str, ...]:
        """Of those that live, the longest asleep first."""
        return tuple(key for key, one in list(self._held.items()) if one.server.failure() is None)

    def put(self, serving: Serving, cancelled: Callable[[], bool]) -> str | None:
        """Puts the engine to sleep. Returns None, or why it could not be: then it is still its caller's."""
        self.drop_dead()
        engine, server = serving.spec.config.engine, serving.server
        if not isinstance(server, Server) or not serving.can_sleep:
            return "it was not started to sleep, or has ended"
        if len(self._held) >= engine.sleepers:
            return f"engine.sleepers={engine.sleepers} sleep here already"
        if not engine.simulated and not server.sleeps:  # what was pinned once stays so
            config = serving.spec.config
            if reason := lacks_room(weights_gib(config.model, config.opt.values()), available()):
                return reason
        try:
            server.sleep(cancelled)
        except EngineError as error:
            return str(error)
        self._held[serving.spec.deployment_id] = serving
        return None

    def wake(self, spec: WorkerSpec, cancelled: Callable[[], bool]) -> Serving | None:
        """The deployment's engine, awake; None when none sleeps here. Raises EngineError when it died or does
        not wake: then it is ended."""
        sleeper = self._held.pop(spec.deployment_id, None)
        if sleeper is None:
            return None
        try:
            server = sleeper.server
            if (failure := server.failure()) is not None:
                raise failure
            assert isinstance(server, Server)
            before = None if sleeper.gpus is None else self.once_idle(sleeper.gpus, cancelled, sleeper)
            server.wake(cancelled)
        except BaseException:
            sleeper.life.close()
            raise
        used = (before, sleeper.gpus.use()) if before and sleeper.gpus else None
        woken = {"woken": server.sleeps}
        provenance = dict(sleeper.provenance) | woken
        return replace(
            sleeper, spec=spec, gpu_use=used, woken_at_s=time.perf_counter(), provenance=provenance
        )

    def once_idle(self, gpus: Gpus, cancelled: Callable[[], bool], *ours: Serving) -> GpuUse:
        """`telemetry.gpu.once_idle` with all sleepers, and ``ours``, left out."""
        held = [*self._held.values(), *ours]
        pids = frozenset[int]().union(*(one.gpu_pids for one in held))
        kept = sum(_kept_bytes(one) for one in held)
        return once_idle(gpus, GPU_IDLE_S, cancelled, lambda use: without(use, pids, kept))

    def check_asleep(self) -> None:
        """Raises EngineError where an engine that should sleep is awake, or does not say that it sleeps: what
        it takes of the GPU would be measured as another's. It is ended first."""
        self.drop_dead()
        for key, one in list(self._held.items()):
            server = one.server
            assert isinstance(server, Server)
            asks = server.adapter.sleep is not None and server.adapter.sleep.asks is not None
            if (sleep.is_asleep(server) if asks else server.asleep) is True:
                continue
            del self._held[key]
            one.life.close()
            raise EngineError(
                f"{one.spec.label}: should sleep beside the engine that serves and does not say so; "
                f"it was ended ({server.log_path})",
                "awake",
            )

    def drop_dead(self) -> None:
        """Ends what is left of sleepers that died."""
        for key, one in list(self._held.items()):
            if one.server.failure() is not None:
                del self._held[key]
                one.life.close()

    def end_all(self) -> bool:
        """Ends all of them, side by side; whether there were any. Returns when nothing of them is left."""
        held, self._held = list(self._held.values()), {}
        if held:
            with ThreadPoolExecutor(len(held)) as threads:
                list(threads.map(lambda one: one.life.close(), held))
        return bool(held)


def _kept_bytes(serving: Serving) -> int:
    server = serving.server
    sleeping = server.adapter.sleep if isinstance(server, Server) else None
    return 0 if sleeping is None else int(sleeping.kept_gib * GIB)
