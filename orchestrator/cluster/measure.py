"""One cell on a live engine: warm up, load, grade, commit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from orchestrator import datasets
from orchestrator.cell import Cell
from orchestrator.cluster.rows import cell_row
from orchestrator.config import DatasetConfig, SweepConfig
from orchestrator.engines.adapter import Adapter
from orchestrator.errors import EngineError, MeasurementError
from orchestrator.grading import grade_many
from orchestrator.load.arrivals import Closed, Schedule, draw
from orchestrator.load.driver import LoadJob, LoadProgress, LoadResult, run
from orchestrator.load.render import render
from orchestrator.metrics.summary import summarize
from orchestrator.metrics.validity import Conduct, flags, status
from orchestrator.records import Endpoint, Grade, Item, Record, Request, Sample
from orchestrator.store.write import commit
from orchestrator.telemetry.engine import Sampler, assert_present, read_once

WARMUP_TOKENS = 64  # long enough for every shape of the batch to have been seen
WARMUP_MAX = 256


class LiveServer(Protocol):
    """What a measurement needs of a server, ours or somebody else's."""

    @property
    def endpoint(self) -> Endpoint: ...

    def reset_cache(self) -> bool | None:
        """Whether the prefix cache is empty now; None where it cannot be told."""

    def failure(self) -> EngineError | None:
        """Why the engine is dead; None while it lives, or where it cannot be told."""


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


@dataclass(frozen=True)
class Context:
    """What surrounds a measurement on this worker. ``adapter`` is None for an external server."""

    study: str
    study_dir: Path
    adapter: Adapter | None
    server: LiveServer
    engine_version: str | None
    deployment_start_s: float | None
    gpus: int
    nodes: int
    restarts: int
    provenance: dict[str, Any]
    report: Callable[[str, LoadProgress | None], None]
    cancelled: Callable[[], bool]


def measure(cell: Cell, context: Context, attempt: int) -> CellOutcome:
    """Measures one cell and commits it.

    A dead engine gives a failed cell with the engine's own reason and ``engine_alive`` False. Raises
    MeasurementError when the cell was cancelled: nothing is stored then.
    """
    config = cell.config
    zero, started_at = time.perf_counter(), datetime.now(UTC)
    loaded = datasets.load(config.dataset, config.limit)
    warmup, measured = _requests(cell, loaded.items, context.server.endpoint.model)
    schedule = draw(config.load, len(measured), config.seed)

    context.report("warm-up", None)
    warm = _send(cell, context, warmup, Closed(max(len(warmup), 1)), zero, None)
    cache_reset = context.server.reset_cache() if context.server.failure() is None else False

    context.report("load", None)
    gpu = context.gpus > 0
    names = context.adapter.metrics if context.adapter is not None else {}
    before = after = None
    samples: tuple[Sample, ...] = ()
    if names and context.server.failure() is None:
        assert_present(context.server.endpoint, names)
        before = read_once(context.server.endpoint, names, zero=zero)
    with Sampler(context.server.endpoint, names, hz=config.load.telemetry_hz, zero=zero, gpu=gpu) as sampler:
        result = _send(cell, context, measured, schedule, zero, config.load.duration_s)
    samples = tuple(sampler.samples)
    dead = context.server.failure()
    if names and dead is None:
        after = read_once(context.server.endpoint, names, zero=zero)
    if context.cancelled():
        raise MeasurementError("cancelled")

    context.report("grade", None)
    records = result.records
    grades = _grade(records, {item.item_id: item for item in loaded.items})
    conduct = Conduct(
        schedule=schedule,
        external=context.adapter is None,
        cache_reset=cache_reset,
        counters_before=before,
        counters_after=after,
        engine_restarted=dead is not None,
        telemetry=samples,
        continuous_usage=config.load.usage == "continuous",
    )
    return _commit(cell, context, attempt, zero, started_at, result, grades, samples, conduct, dead, len(warm.records))


def _requests(cell: Cell, items: Sequence[Item], model: str) -> tuple[tuple[Request, ...], tuple[Request, ...]]:
    """The warm-up wave and the measured requests, rendered. Repeats follow one another as whole passes over
    the items, so that they are spread over the run."""
    config = cell.config

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
            extra={"chat_template_kwargs": dict(config.model.chat_template_kwargs)}
            if config.model.chat_template_kwargs
            else {},
        )

    measured = tuple(
        rendered(f"{index:05d}", item, repeat, config.max_tokens)
        for repeat in range(config.repeats)
        for index, item in enumerate(items)
    )
    wave = config.load.warmup
    if wave is None:
        wave = min(WARMUP_MAX, len(measured), config.load.concurrency or config.load.batch_size or 64)
    short = min(config.max_tokens, WARMUP_TOKENS)
    warmup = tuple(
        rendered(f"warmup-{index:05d}", item, 0, short)
        for index, item in enumerate(_unmeasured(config, items, wave))
    )
    return warmup, measured


def _unmeasured(config: SweepConfig, measured: Sequence[Item], count: int) -> list[Item]:
    """``count`` distinct items outside the measured ones: of the same dataset where it has more, else sums."""
    taken = {item.item_id for item in measured}
    rest: list[Item] = []
    if config.limit is not None:
        more = datasets.load(config.dataset, config.limit + count).items
        rest = [item for item in more if item.item_id not in taken][:count]
    if len(rest) < count:
        filler = datasets.load(DatasetConfig(name="arithmetic", prompt=config.dataset.prompt, sample="head"), None).items
        filler = tuple(item for item in filler if item.item_id not in taken)
        rest += random.Random(0).sample(filler, min(count - len(rest), len(filler)))
    return rest


def _send(
    cell: Cell, context: Context, requests: tuple[Request, ...], schedule: Schedule, zero: float, duration_s: float | None
) -> LoadResult:
    config = cell.config
    return run(
        LoadJob(
            endpoint=context.server.endpoint,
            requests=requests,
            schedule=schedule,
            usage=config.load.usage,
            request_timeout_s=config.load.request_timeout_s,
            idle_timeout_s=config.load.idle_timeout_s,
            duration_s=duration_s,
            processes=config.load.processes,
            expected_tokens_per_s=None,
            zero=zero,
        ),
        on_progress=lambda progress: context.report("load", progress),
        should_stop=lambda: context.cancelled() or context.server.failure() is not None,
    )


def _grade(records: Sequence[Record], items: dict[str, Item]) -> list[Grade]:
    """Grades of the requests that ended well, in order; a request that did not has no grade."""
    ok = [record for record in records if record.outcome == "ok"]
    answers = [(items[record.item_id], record.response_text, record.finish_reason == "length") for record in ok]
    graded = iter(grade_many(answers))
    return [next(graded) if record.outcome == "ok" else Grade(None, None) for record in records]


def _commit(
    cell: Cell,
    context: Context,
    attempt: int,
    zero: float,
    started_at: datetime,
    result: LoadResult,
    grades: Sequence[Grade],
    samples: Sequence[Sample],
    conduct: Conduct,
    dead: EngineError | None,
    warmed_up: int,
) -> CellOutcome:
    raised = flags(result.records, conduct)
    verdict, reason = status(raised, result.records)
    if dead is not None:
        verdict, reason = "failed", str(dead)
    metrics = summarize(result.records, grades, samples, cell.config.slo, context.gpus)
    row = cell_row(
        cell,
        study=context.study,
        status=verdict,
        reason=reason,
        flags=raised,
        attempts=attempt,
        started_at=started_at,
        duration_s=time.perf_counter() - zero,
        deployment_start_s=context.deployment_start_s,
        engine_version=context.engine_version,
        gpus=context.gpus,
        nodes=context.nodes,
        items=len({record.item_id for record in result.records}),
        metrics=metrics,
        provenance=context.provenance | {"client_processes": result.processes, "warmup_requests": warmed_up},
    )
    commit(context.study_dir, cell.cell_id, row, result.records, grades, samples)
    return CellOutcome(
        cell_id=cell.cell_id,
        status=verdict,
        reason=reason,
        flags=tuple(raised),
        output_tokens=sum(record.output_tokens or 0 for record in result.records),
        accuracy=_float(metrics.get("accuracy")),
        output_token_per_s=_float(metrics.get("output_token_per_s")),
        engine_alive=dead is None,
        cause=dead.cause if dead is not None else None,
    )


def _float(value: float | int | None) -> float | None:
    return None if value is None else float(value)
