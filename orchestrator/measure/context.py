"""What surrounds a measurement, and what is told of it. The numbers themselves go to disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrator.errors import EngineError
from orchestrator.grading.isolated import Grader
from orchestrator.load.client.pool import ClientPool
from orchestrator.load.driver import LoadProgress
from orchestrator.records import Endpoint
from orchestrator.telemetry.gpu import Gpus, GpuUse


@dataclass(frozen=True)
class WorkerProgress:
    """``phase`` is one of: starting, waking, warm-up, load, grade, idle, asleep (an engine is put to sleep),
    stopping."""

    phase: str
    cell_id: str | None
    requests: int
    finished: int
    output_tokens: int


class LiveServer(Protocol):
    """What a measurement needs of a server, ours or somebody else's."""

    @property
    def endpoint(self) -> Endpoint: ...

    def reset_cache(self) -> bool | None:
        """Whether the prefix cache is empty now; None where it cannot be told."""

    def failure(self) -> EngineError | None:
        """Why the engine is dead; None while it lives, or where it cannot be told."""


@dataclass(frozen=True)
class MeasurementContext:
    """What surrounds a measurement on its worker.

    ``metrics`` maps `Sample` fields to the engine's metric names; empty where there are none to ask.
    ``clients`` and ``grader`` stay from cell to cell, so that none waits for a process to start.
    ``gpu_use`` is who was on the GPUs before the engine started, or was woken, and once it was ready.
    ``woken_at_s`` is when that was, on the clock of ``time.perf_counter``; None where it never slept.
    """

    study: str
    study_dir: Path
    server: LiveServer
    external: bool
    metrics: Mapping[str, str]
    lazy: Collection[str]  # fields whose counters appear on the page with their first increment
    engine_version: str | None
    deployment_start_s: float | None
    nodes: int
    gpu_count: int  # reserved; 0 on a CPU
    gpus: Gpus | None
    gpu_use: tuple[GpuUse, GpuUse] | None
    engine_pid: int | None  # the root of its processes, where all of them are on this node and measured
    provenance: Mapping[str, Any]
    report: Callable[[str, int, LoadProgress | None], None]  # phase, requests in all, how far
    cancelled: Callable[[], bool]
    clients: ClientPool
    grader: Grader
    woken_at_s: float | None = None


@dataclass(frozen=True)
class Attempt:
    """One try to measure a cell: the ``number``-th of this command, and a name that no other try has.
    ``claim`` is what stands for the driver's claim on the cell; None where nobody shares the study.
    ``block`` names the block of runs that it belongs to, drawn anew whenever a slot begins one, and
    ``block_position`` its place there, from 1; None where runs do not go in blocks."""

    number: int
    attempt_id: str
    claim: str | None = None
    block: str | None = None
    block_position: int | None = None


@dataclass(frozen=True)
class CellOutcome:
    """What the scheduler is told; the numbers are on disk. ``cause`` is the engine's, when it died."""

    cell_id: str
    status: str
    reason: str | None
    flags: tuple[str, ...]
    output_tokens: int
    accuracy: float | None
    output_token_per_s: float | None
    engine_alive: bool
    cause: str | None = None
    window_s: float | None = None  # from the first request sent to the last one ended
