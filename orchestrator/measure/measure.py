"""One cell on a live engine: warm up, load, grade, commit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from orchestrator import datasets
from orchestrator.cell import Cell
from orchestrator.config.schema import DatasetConfig, SweepConfig
from orchestrator.errors import EngineError, MeasurementError
from orchestrator.grading import grade_many
from orchestrator.grading.isolated import Grader
from orchestrator.load import lengths
from orchestrator.load.arrivals import Closed, Schedule, draw
from orchestrator.load.client.pool import ClientPool
from orchestrator.load.driver import LoadJob, LoadProgress, LoadResult, run
from orchestrator.load.render import render
from orchestrator.measure.row import cell_row
from orchestrator.metrics.requests import tokens_seen, truncated
from orchestrator.metrics.summary import summarize
from orchestrator.metrics.validity import RunConditions, flags, status
from orchestrator.metrics.window import measured_window
from orchestrator.records import Endpoint, Grade, Item, Record, Request, Sample
from orchestrator.store.write import commit
from orchestrator.telemetry.engine import Sampler, assert_present
from orchestrator.telemetry.gpu import Gpus, GpuUse, is_shared

WARMUP_TOKENS = 64  # long enough that every shape of the batch has been seen
WARMUP_MAX = 256
NOTICED_S = 3.0
GPU_FIELDS = ("gpu_util", "gpu_memory_bytes", "gpu_power_w")


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
    ``gpu_use`` is who was on the GPUs before the engine started and once it was ready.
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


@dataclass(frozen=True)
class _Measured:
    """What the load left: graded and stored next."""

    zero: float
    started_at: datetime
    items: Mapping[str, Item]
    asked_tokens: Mapping[str, int] | None  # by request; None where answers end by themselves
    warmup: Sequence[Record]
    cache_reset: bool | None
    schedule: Schedule
    result: LoadResult
    samples: tuple[Sample, ...]
    dead: EngineError | None
    cpu_seconds: Mapping[str, float]


def measure(cell: Cell, site: MeasurementContext, attempt: int) -> CellOutcome:
    """Measures one cell and commits it.

    An engine that dies under the load gives a failed cell with its own reason and ``engine_alive`` False.
    Nothing is stored when the cell cannot be measured: EngineError when the engine died beside the load,
    MeasurementError when the cell was cancelled, the engine lacks a metric, or the dataset has changed.
    """
    try:
        measured = _load(cell, site)
    except MeasurementError as error:
        raise _died(site.server) or error from error
    if site.cancelled():
        raise MeasurementError("cancelled")
    site.report("grade", len(measured.result.records), None)
    dummy = cell.config.weights == "dummy"  # its answers are noise: no accuracy, and nothing cut short
    grades = None if dummy else _grade(measured.result.records, measured.items, site.grader)
    return _commit(cell, site, attempt, measured, grades)


def _load(cell: Cell, site: MeasurementContext) -> _Measured:
    config, server = cell.config, site.server
    zero, started_at = time.perf_counter(), datetime.now(UTC)
    if (revision := datasets.fingerprint(config.dataset)) != cell.facts.dataset_revision:
        planned = cell.facts.dataset_revision
        raise MeasurementError(
            f"dataset={config.dataset.name}: is {revision} here, was {planned} in the plan"
        )
    items = datasets.load(config.dataset, config.limit).items
    warmup, requests, asked = _requests(cell, items, server.endpoint.model)
    schedule = draw(config.load, len(requests), config.seed)

    warm = _send(cell, site, "warm-up", warmup, Closed(max(len(warmup), 1)), zero, None)
    alive = server.failure() is None
    cache_reset = server.reset_cache() if alive else None
    if site.metrics and alive:
        assert_present(server.endpoint, site.metrics, site.lazy)
    metrics = site.metrics if alive else {}
    hz, gpu = config.load.telemetry_hz, site.gpus is not None
    with Sampler(server.endpoint, metrics, hz, zero, gpu, site.lazy, site.engine_pid) as sampler:
        result = _send(cell, site, "load", requests, schedule, zero, _tokens_per_s(warm.records))
        sampler.expected_tokens = tokens_seen(result.records)
    return _Measured(
        zero=zero,
        started_at=started_at,
        items={item.item_id: item for item in items},
        asked_tokens=asked,
        warmup=warm.records,
        cache_reset=cache_reset,
        schedule=schedule,
        result=result,
        samples=tuple(sampler.samples),
        dead=_died(server) if any(r.outcome == "error" for r in result.records) else server.failure(),
        cpu_seconds=sampler.cpu_seconds,
    )


def _died(server: LiveServer) -> EngineError | None:
    """Why the engine is dead, if it is: a connection breaks some moments before its process has ended."""
    deadline = time.perf_counter() + NOTICED_S
    while (failure := server.failure()) is None and time.perf_counter() < deadline:
        time.sleep(0.1)
    return failure


def _requests(
    cell: Cell, items: Sequence[Item], model: str
) -> tuple[tuple[Request, ...], tuple[Request, ...], Mapping[str, int] | None]:
    """The warm-up wave and the measured requests, rendered, and how long each answer is made to be. Repeats
    follow one another as whole passes over the items, so that they are spread over the run."""
    config = cell.config
    extra: dict[str, Any] = {}
    if config.model.chat_template_kwargs:
        extra["chat_template_kwargs"] = dict(config.model.chat_template_kwargs)
    count = config.repeats * len(items)
    forced = config.weights == "dummy"  # random weights end an answer anywhere: its length is forced instead
    if forced:
        # Without min_tokens: it changes nothing then, and costs the engine work in every step.
        extra["ignore_eos"] = True
        spec = config.output_length or config.max_tokens
        length = lengths.draw(spec, count, config.seed, config.max_tokens).tolist()
    else:
        length = [config.max_tokens] * count

    def rendered(name: str, item: Item, repeat: int, max_tokens: int) -> Request:
        return render(
            item,
            repeat=repeat,
            request_id=f"{cell.cell_id}-{name}-{repeat}",
            model=model,
            sampling=cell.facts.sampling,
            max_tokens=max_tokens,
            seed=config.seed,
            usage=config.load.usage,
            extra=extra,
        )

    measured = tuple(
        rendered(f"{index:05d}", item, repeat, length[repeat * len(items) + index])
        for repeat in range(config.repeats)
        for index, item in enumerate(items)
    )
    wave = config.load.warmup
    if wave is None:
        wave = min(WARMUP_MAX, len(measured), config.load.concurrency or config.load.batch_size or 64)
    short = min(max(length), WARMUP_TOKENS)
    others = _unmeasured(config, items, wave)
    warmup = tuple(rendered(f"warmup-{index:05d}", item, 0, short) for index, item in enumerate(others))
    asked = dict(zip((request.request_id for request in measured), length, strict=True))
    return warmup, measured, asked if forced else None


def _unmeasured(config: SweepConfig, measured: Sequence[Item], count: int) -> list[Item]:
    """``count`` distinct items outside the measured ones: of the dataset where it has more, else sums."""
    taken = {item.item_id for item in measured}
    rest: list[Item] = []
    if config.limit is not None:
        more = datasets.load(config.dataset, config.limit + count).items
        rest = [item for item in more if item.item_id not in taken][:count]
    if len(rest) < count:
        sums = datasets.load(DatasetConfig(name="arithmetic", prompt=config.dataset.prompt), None).items
        others = [item for item in sums if item.item_id not in taken]
        rest += random.Random(0).sample(others, min(count - len(rest), len(others)))
    return rest


def _send(
    cell: Cell,
    site: MeasurementContext,
    phase: str,
    requests: tuple[Request, ...],
    schedule: Schedule,
    zero: float,
    expected_tokens_per_s: float | None,
) -> LoadResult:
    config, measured = cell.config, phase == "load"
    site.report(phase, len(requests), None)
    job = LoadJob(
        endpoint=site.server.endpoint,
        requests=requests,
        schedule=schedule,
        usage=config.load.usage,
        request_timeout_s=config.load.request_timeout_s,
        idle_timeout_s=config.load.idle_timeout_s,
        duration_s=config.load.duration_s if measured else None,
        processes=config.load.processes,
        expected_tokens_per_s=expected_tokens_per_s,
        zero=zero,
        reasoning_inline=config.reasoning_inline,
        think_opened=config.model.think_opened,
    )
    return run(
        job,
        on_progress=lambda progress: site.report(phase, len(requests), progress),
        should_stop=lambda: site.cancelled() or site.server.failure() is not None,
        clients=site.clients,
    )


def _tokens_per_s(records: Sequence[Record]) -> float | None:
    """Output tokens per second of the warm-up wave, from its first token to its last: what to expect."""
    first = [record.first_token_s for record in records if record.first_token_s is not None]
    last = [record.last_token_s for record in records if record.last_token_s is not None]
    if not first or not last or max(last) <= min(first):
        return None
    return sum(record.output_tokens or 0 for record in records) / (max(last) - min(first))


def _grade(records: Sequence[Record], items: Mapping[str, Item], grader: Grader) -> list[Grade]:
    """Grades of the requests that ended well, in order; one that did not has none."""
    ok = [record for record in records if record.outcome == "ok"]
    graded = iter(
        grade_many(
            [items[record.item_id] for record in ok],
            [record.response_text for record in ok],
            [truncated(record) for record in ok],
            grader=grader,
        )
    )
    return [next(graded) if record.outcome == "ok" else Grade(None, None) for record in records]


def _commit(
    cell: Cell, site: MeasurementContext, attempt: int, measured: _Measured, grades: Sequence[Grade] | None
) -> CellOutcome:
    records, dead = measured.result.records, measured.dead
    shared = is_shared(*site.gpu_use, site.gpus.use()) if site.gpus and site.gpu_use else None
    raised = flags(
        records,
        RunConditions(
            schedule=measured.schedule,
            telemetry=measured.samples,
            cache_reset=measured.cache_reset,
            asked_tokens=measured.asked_tokens,
            external=site.external,
            engine_restarted=dead is not None,
            gpu_shared=shared,
            expected=(*site.metrics, *(GPU_FIELDS if site.gpus else ())),
        ),
    )
    verdict, reason = status(raised, records, cell.simulated) if dead is None else ("failed", str(dead))
    warmed = measured_window(measured.warmup)
    metrics = summarize(records, grades, measured.samples, cell.config.slo, site.gpu_count, shared)
    if grades is None:
        metrics["truncated_rate"] = None
    row = cell_row(
        cell,
        study=site.study,
        status=verdict,
        reason=reason,
        flags=raised,
        attempts=attempt,
        started_at=measured.started_at,
        duration_s=time.perf_counter() - measured.zero,
        deployment_start_s=site.deployment_start_s,
        engine_version=site.engine_version,
        gpus=site.gpu_count,
        nodes=site.nodes,
        items=len(measured.items),
        metrics=metrics,
        provenance=dict(site.provenance)
        | {
            "client_processes": measured.result.processes,
            "client_cpu_s": measured.result.cpu_s,
            "client_native": measured.result.native,
            "engine_cpu_s": dict(measured.cpu_seconds),
            "warmup_requests": len(measured.warmup),
            "warmup_window_s": None if warmed is None else [warmed.start_s, warmed.end_s],
            "warmup_max_tokens": min(cell.config.max_tokens, WARMUP_TOKENS),
            "tokenizer": "synthetic"
            if str(cell.facts.model_revision).startswith("dummy:")
            else "model's own",
        },
    )
    references = {item_id: item.reference for item_id, item in measured.items.items()}
    commit(site.study_dir, cell.cell_id, row, records, grades, measured.samples, references)
    window = measured_window(records)
    return CellOutcome(
        cell_id=cell.cell_id,
        status=verdict,
        reason=reason,
        flags=raised,
        output_tokens=sum(record.output_tokens or 0 for record in records),
        accuracy=metrics["accuracy"],
        output_token_per_s=metrics["output_token_per_s"],
        engine_alive=dead is None,
        cause=None if dead is None else dead.cause,
        window_s=None if window is None else window.duration_s,
    )
