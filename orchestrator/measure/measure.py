"""One cell on a live engine: warm up, load, grade, commit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator import datasets
from orchestrator.cell import Cell
from orchestrator.engines.adapter import step_tokens
from orchestrator.errors import ClaimLostError, EngineError, MeasurementError
from orchestrator.grading import grade_many
from orchestrator.grading.isolated import Grader
from orchestrator.load import driver
from orchestrator.load.arrivals import Closed, Schedule
from orchestrator.load.driver import LoadJob, LoadResult
from orchestrator.load.stream.think import TAGS
from orchestrator.measure.context import Attempt, CellOutcome, LiveServer, MeasurementContext
from orchestrator.measure.row import cell_row
from orchestrator.measure.workload import WARMUP_TOKENS, Workload, workload
from orchestrator.metrics.cache import START_WITH, warm_in_words
from orchestrator.metrics.interval import prepare as prepare_intervals
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.requests import reasoning_from, tokens_seen, truncated, usage_mode
from orchestrator.metrics.summary import summarize
from orchestrator.metrics.validity import flags, status, too_short
from orchestrator.metrics.window import measured_window
from orchestrator.records import Grade, Item, Record, Request
from orchestrator.store.claims import stands
from orchestrator.store.write import commit
from orchestrator.store.write import prepare as prepare_storing
from orchestrator.telemetry.engine import Sampler, assert_present, read_once
from orchestrator.telemetry.gpu import is_shared
from orchestrator.telemetry.neighbours import cpu_limit

NOTICED_S = 3.0
PREFIX_HITS = "prefix_hits_tokens_total"
GPU_FIELDS = ("gpu_util", "gpu_memory_bytes", "gpu_power_w")


@dataclass(frozen=True)
class _Run:
    """What the load left, beside the measurement itself."""

    zero: float
    started_at: datetime
    workload: Workload
    warmup: Sequence[Record]
    result: LoadResult
    dead: EngineError | None
    cpu_seconds: Mapping[str, float]


def measure(cell: Cell, context: MeasurementContext, attempt: Attempt) -> CellOutcome:
    """Measures one cell and commits it.

    An engine that dies under the load gives a failed cell with its own reason and ``engine_alive`` False.
    Nothing is stored when the cell cannot be measured: EngineError when the engine died beside the load,
    MeasurementError when the cell was cancelled, the engine lacks a metric, or the dataset has changed,
    ClaimLostError when another driver has taken the cell over, OSError when the study cannot be read or
    written.
    """
    _check_claim(cell, context, attempt)
    try:
        run, measurement = _load(cell, context)
    except MeasurementError as error:
        raise _died(context.server) or error from error
    if context.cancelled():
        raise MeasurementError("cancelled")
    records = measurement.records
    context.report("grade", len(records), None)
    dummy = cell.config.weights == "dummy"  # its answers are noise: no accuracy, and nothing cut short
    grades = None if dummy else _grade(records, run.workload.items, context.grader)
    _check_claim(cell, context, attempt)
    return _commit(cell, context, attempt, run, measurement, grades)


def prepare() -> None:
    """Does once, and beside an engine's start, what the end of a process's first cell would wait for."""
    prepare_storing()
    prepare_intervals()


def _check_claim(cell: Cell, context: MeasurementContext, attempt: Attempt) -> None:
    """Before the load and before the commit: a driver that was stopped for long, or has died, has lost it."""
    if attempt.claim is not None and not stands(context.study_dir, cell.cell_id, attempt.claim):
        raise ClaimLostError("another driver of the study has taken the cell over")


def _load(cell: Cell, context: MeasurementContext) -> tuple[_Run, Measurement]:
    config, server = cell.config, context.server
    zero, started_at = time.perf_counter(), datetime.now(UTC)
    if (revision := datasets.fingerprint(config.dataset)) != cell.facts.dataset_revision:
        planned = cell.facts.dataset_revision
        raise MeasurementError(
            f"dataset={config.dataset.name}: is {revision} here, was {planned} in the plan"
        )
    work = workload(cell, server.endpoint.model)

    warm = _send(cell, context, "warm-up", work.warmup, Closed(max(len(work.warmup), 1)), zero, None)
    alive = server.failure() is None
    cache_reset = server.reset_cache() if alive else None
    shared_tokens = _share_heads(cell, context, work, zero, cache_reset) if alive else None
    if context.metrics and alive:
        assert_present(server.endpoint, context.metrics, context.lazy)
    metrics = context.metrics if alive else {}
    hz, gpu = config.load.telemetry_hz, context.gpus is not None
    with Sampler(server.endpoint, metrics, hz, zero, gpu, context.lazy, context.engine_pid) as sampler:
        expected = _tokens_per_s(warm.records)
        result = _send(cell, context, "load", work.requests, work.schedule, zero, expected)
        sampler.expected_tokens = tokens_seen(result.records)
    dead = _died(server) if any(r.outcome == "error" for r in result.records) else server.failure()
    shared = is_shared(*context.gpu_use, sampler.gpu_uses) if context.gpu_use else None
    conditions = RunConditions(
        schedule=work.schedule,
        cache_reset=cache_reset,
        shared_tokens=shared_tokens,
        external=context.external,
        reasons=config.model.kind == "reasoning",
        engine_restarted=dead is not None,
        gpus=context.gpu_count,
        gpu_shared=shared,
        gpu_watched=context.gpu_use is not None,
        asked_tokens=work.asked_tokens,
        max_tokens=config.max_tokens,
        thinking_budget=config.thinking_budget,
        step_tokens=step_tokens(cell.facts.engine_args),
        receive_lag_s_p99=result.receive_lag_s_p99,
        receive_lag_s_max=result.receive_lag_s_max,
        unasked_connections=result.unasked_connections,
        mixed_connections=result.mixed_connections,
        ends_s=None if config.load.duration_s is None else result.started_s + config.load.duration_s,
        expected=(*context.metrics, *(GPU_FIELDS if context.gpus else ())),
    )
    measurement = Measurement(result.records, tuple(sampler.samples), conditions)
    return _Run(zero, started_at, work, warm.records, result, dead, sampler.cpu_seconds), measurement


def _share_heads(
    cell: Cell, context: MeasurementContext, work: Workload, zero: float, cache_reset: bool | None
) -> float | None:
    """Sends what the prompts share: once where the cell asks for a warm cache, twice where nobody could empty
    the cache. How many tokens of the second are found cached, None unless the server tells: so many of every
    prompt may be."""
    unknown = cache_reset is None and context.external
    if cell.config.load.cache == "warm" or unknown:
        _send(cell, context, "warm-up", work.heads[:1], Closed(1), zero, None)
    if not unknown:
        return None
    before = _prefix_hits(context, zero)
    result = _send(cell, context, "warm-up", work.heads[1:], Closed(1), zero, None)
    after = _prefix_hits(context, zero)
    (head,) = result.records
    if head.outcome != "ok":
        return None
    if head.cached_tokens is not None:
        return float(head.cached_tokens)
    return None if before is None or after is None else max(0.0, after - before)


def _prefix_hits(context: MeasurementContext, zero: float) -> float | None:
    names = {field: name for field, name in context.metrics.items() if field == PREFIX_HITS}
    try:
        sample = read_once(context.server.endpoint, names, zero) if names else None
    except MeasurementError:
        return None
    return None if sample is None else sample.prefix_hits_tokens_total


def _died(server: LiveServer) -> EngineError | None:
    """Why the engine is dead, if it is: a connection breaks some moments before its process has ended."""
    deadline = time.perf_counter() + NOTICED_S
    while (failure := server.failure()) is None and time.perf_counter() < deadline:
        time.sleep(0.1)
    return failure


def _send(
    cell: Cell,
    context: MeasurementContext,
    phase: str,
    requests: tuple[Request, ...],
    schedule: Schedule,
    zero: float,
    expected_tokens_per_s: float | None,
) -> LoadResult:
    config, measured = cell.config, phase == "load"
    tags = config.model.think_tags or TAGS
    context.report(phase, len(requests), None)
    job = LoadJob(
        endpoint=context.server.endpoint,
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
        think_tags=(tags[0], tags[1]),
        acknowledge_later=not context.external,
    )
    return driver.run(
        job,
        on_progress=lambda progress: context.report(phase, len(requests), progress),
        should_stop=lambda: context.cancelled() or context.server.failure() is not None,
        clients=context.clients,
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
    cell: Cell,
    context: MeasurementContext,
    attempt: Attempt,
    run: _Run,
    measurement: Measurement,
    grades: Sequence[Grade] | None,
) -> CellOutcome:
    records, window, dead = measurement.records, measurement.window, run.dead
    raised = (*flags(measurement), *too_short(measurement))
    verdict, reason = status(raised, records, cell.simulated) if dead is None else ("failed", str(dead))
    warmed = measured_window(run.warmup)
    metrics = summarize(measurement, grades, cell.config.slo)
    if reason and "cache_warm" in raised and context.external:
        reason += f"; {warm_in_words(metrics['cache_warm_share'])}{START_WITH}"
    if grades is None:
        metrics["truncated_rate"] = None
    provenance = {
        "client_processes": run.result.processes,
        "client_cpu_s": run.result.cpu_s,
        "client_native": run.result.native,
        "stamp_source": run.result.stamp_source,
        "engine_cpu_s": dict(run.cpu_seconds),
        "engine_cpu_limit": None if context.engine_pid is None else cpu_limit(context.engine_pid),
        "warmup_requests": len(run.warmup),
        "warmup_window_s": None if warmed is None else [warmed.start_s, warmed.end_s],
        "warmup_max_tokens": min(cell.config.max_tokens, WARMUP_TOKENS),
        "tokenizer": "synthetic" if cell.facts.model_revision.startswith("dummy:") else "model's own",
    }
    row = cell_row(
        cell,
        study=context.study,
        status=verdict,
        reason=reason,
        flags=raised,
        attempts=attempt.number,
        started_at=run.started_at,
        duration_s=time.perf_counter() - run.zero,
        deployment_start_s=context.deployment_start_s,
        since_wake_s=None if context.woken_at_s is None else run.zero - context.woken_at_s,
        engine_version=context.engine_version,
        gpus=context.gpu_count,
        nodes=context.nodes,
        items=len(run.workload.items),
        block=attempt.block,
        block_position=attempt.block_position,
        usage_mode=usage_mode(records),
        reasoning_from=reasoning_from(records),
        metrics=metrics,
        provenance=dict(context.provenance) | provenance,
    )
    items = run.workload.items.items()
    commit(
        context.study_dir,
        cell.cell_id,
        row,
        records,
        grades,
        measurement.samples,
        references={item_id: item.reference for item_id, item in items},
        questions={item_id: item.text for item_id, item in items},
        items=run.workload.items,
        attempt_id=attempt.attempt_id,
    )
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
