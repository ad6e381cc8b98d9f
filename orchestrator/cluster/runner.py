"""Cells on a slot, one after another; and what becomes of a cell, or a deployment, that something befalls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import zip_longest
from typing import Any

from orchestrator.cluster.admission import impossible, needs
from orchestrator.cluster.nodes import alive_nodes
from orchestrator.cluster.queues import DeploymentQueue, Rotation, Turn
from orchestrator.cluster.retry import may_start_again
from orchestrator.cluster.run_context import RunContext
from orchestrator.cluster.slot import STOP_S, Slot, SlotLost
from orchestrator.cluster.worker import Started
from orchestrator.errors import ClaimLostError, ConfigError, EngineError
from orchestrator.measure.context import Attempt, CellOutcome
from orchestrator.plan.plan import Deployment
from orchestrator.store.attempts import new_attempt_id
from orchestrator.store.read import read_cell

WORKER_S = 120.0  # a worker's own process, before it starts anything
REST_S = 180.0  # an engine that falls asleep for the first time pins host memory


async def serve(work: DeploymentQueue, slot: Slot, context: RunContext, taken: Callable[[], None]) -> None:
    """Takes cells from the deployment's source until there is none, on a fresh engine as often as needed, and
    ends the engine unless it is to be kept; ``taken`` is called for each. Raises SlotLost when the slot is of
    no use any more, StorageError when results cannot be written."""
    slot.served.append(work.deployment)
    while work.source.waiting:
        if await _start(work, slot, context):
            await _measure(work, slot, context, taken)
        elif work.source.waiting:
            raise SlotLost("start_failed", "the engine did not start there")
    if context.keep and slot.serving:
        return
    slot.serving = None
    await _call(slot, "end", STOP_S)


async def serve_in_turns(
    work: Rotation, slot: Slot, context: RunContext, prepare: Callable[[Deployment], None]
) -> None:
    """Starts every deployment's engine and puts it to sleep, then serves block after block, each engine awake
    for its turn, until there is none for this slot. ``prepare`` is given the deployment that starts next.
    Raises as `serve` does."""
    queues = [queue for queue in work.drawn(1) if queue.source.waiting]
    for queue, after in zip_longest(queues, queues[1:]):
        if after is not None:
            prepare(after.deployment)
        await _turn(queue, slot, context)
    with closing(work.turns(slot)) as turns:  # a slot that is lost must not keep the run that it was at
        for queue, turn in turns:
            await _turn(queue, slot, context, turn)


async def _turn(queue: DeploymentQueue, slot: Slot, context: RunContext, turn: Turn | None = None) -> None:
    """The deployment's engine, started or woken, and asleep again; meanwhile it measures its turn, if any."""
    slot.served.append(queue.deployment)
    context.board.placed(queue.deployment, slot.nodes, slot.need.gpus, slot)
    while queue.has(turn):
        if await _start(queue, slot, context):
            if turn is None:
                break
            await _measure(queue, slot, context, lambda: None, turn)
        elif queue.alone:
            raise SlotLost("start_failed", "the engine did not start there")
    slot.serving = None
    if await _call(slot, "rest", REST_S):
        slot.asleep.add(queue.key)
        context.board.asleep(queue.deployment, slot)


async def _call(slot: Slot, method: str, timeout_s: float) -> Any:
    try:
        return await slot.call(method, timeout_s=timeout_s)
    except Exception as error:
        raise SlotLost("worker_died", f"the engine could not be ended: {error}") from error


async def _start(work: DeploymentQueue, slot: Slot, context: RunContext) -> bool:
    deployment = work.deployment
    if await _serves_still(deployment, slot):
        context.board.goes_on(deployment, slot)
        return True
    if deployment.deployment_id in slot.asleep:
        slot.asleep.discard(deployment.deployment_id)
        context.board.waking(slot)
    else:
        context.board.starting(deployment, slot)
        slot.until_s = time.monotonic() + context.durations.start_s(deployment)
    try:
        await slot.call("__ray_ready__", timeout_s=WORKER_S)
        started: Started = await slot.call(
            "start", context.spec(deployment), timeout_s=context.limits(deployment).start_s
        )
    except SlotLost as lost:
        _start_failed(work, context, str(lost), lost.cause)
        raise
    except Exception as error:
        context.check_storage(error)
        _start_failed(work, context, *_explained(error))
        return False
    work.failed_starts.clear()
    if started.woken:
        context.board.woken(slot)
    else:
        context.durations.start_took(deployment, started.seconds, prepared=started.prepared)
        context.board.serving(deployment, slot, started.seconds)
    return True


async def _serves_still(deployment: Deployment, slot: Slot) -> bool:
    """Whether the slot's engine is the deployment's, and lives."""
    serving, slot.serving = slot.serving, None
    if serving != deployment.deployment_id:
        return False
    return bool(await slot.call("serves", serving, timeout_s=STOP_S))


def _start_failed(work: DeploymentQueue, context: RunContext, reason: str, cause: str) -> None:
    if len(work.engines) > 1:
        work.alone = True
        return
    work.failed_starts.append(cause)
    elsewhere = impossible(needs(work.deployment), list(alive_nodes().values())) is None
    if may_start_again(work.failed_starts, elsewhere):
        context.board.lost(work.deployment, None, reason)
    else:
        context.fail_waiting(work, reason, cause, len(work.failed_starts))


async def _measure(
    work: DeploymentQueue,
    slot: Slot,
    context: RunContext,
    taken: Callable[[], None],
    turn: Turn | None = None,
) -> None:
    """On one engine, as long as it lives; of that turn alone, where there are turns."""
    deployment, study_dir, engine = work.deployment, context.plan.study_dir, object()
    in_block = (turn.block, turn.position) if turn else (None, None)
    while (cell := context.next(work, engine, turn)) is not None:
        expected_s, began_s = context.durations.cell_s(cell), time.monotonic()
        slot.until_s = None if expected_s is None else began_s + expected_s
        work.attempts[cell.cell_id] += 1
        claim = work.source.claim(cell)
        attempt = Attempt(work.attempts[cell.cell_id], new_attempt_id(), claim, *in_block)
        context.board.measuring(deployment, slot, cell)
        taken()
        try:
            limit_s = context.limits(cell).cell_s
            outcome: CellOutcome = await slot.call("run", cell, attempt, timeout_s=limit_s)
        except ClaimLostError:
            work.source.lost(cell)
            context.board.taken_over(cell, slot)
            continue
        except SlotLost as lost:
            await slot.close()  # it must not store anything any more
            stored = read_cell(study_dir, cell.cell_id, attempt.attempt_id)
            if stored is not None and stored["status"] != "failed":
                work.deaths = 0
                context.finish(work, cell, _outcome(stored))
            else:
                words = str(lost).partition(": ")[0]  # without Ray's essay
                context.retry_or_fail(work, cell, str(lost), lost.cause, said=words, first=True)
            context.engine_died(work, str(lost), lost.cause)
            raise
        except Exception as error:
            context.check_storage(error)
            reason, cause = _explained(error)
            engine_lost = isinstance(error, EngineError)
            if engine_lost or cause == "storage":
                context.retry_or_fail(work, cell, reason, cause)
            else:
                context.fail(work, cell, reason, cause, work.attempts[cell.cell_id])
            if engine_lost:
                context.engine_died(work, reason, cause)
                return
            continue
        if outcome.engine_alive:
            work.deaths = 0
            context.durations.cell_took(cell, time.monotonic() - began_s)
            context.finish(work, cell, outcome)
            continue
        if work.lose(cell, outcome.cause or "crash"):
            work.source.returned(cell)  # behind the others: it may be what the engine died of
            context.board.lost(deployment, cell, outcome.reason or "the engine died")
        else:
            context.finish(work, cell, outcome)
        context.engine_died(work, outcome.reason or "it died", outcome.cause or "crash")
        return
    slot.serving = deployment.deployment_id


def _outcome(row: Mapping[str, Any]) -> CellOutcome:
    """What the worker would have said, from what it stored before it was lost."""
    return CellOutcome(
        cell_id=row["cell_id"],
        status=row["status"],
        reason=row["reason"],
        flags=tuple(row["flags"] or ()),
        output_tokens=row["output_tokens"] or 0,
        accuracy=row["accuracy"],
        output_token_per_s=row["output_token_per_s"],
        engine_alive=True,
    )


def _explained(error: Exception) -> tuple[str, str]:
    """What to store and show of a worker's exception, and the cause in one word."""
    if isinstance(error, EngineError):
        return str(error), error.cause
    if isinstance(error, ConfigError):
        return str(error), "config"
    said = f"{type(error).__name__}: {error}"
    files = isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError)
    return said, "storage" if files else "error"
