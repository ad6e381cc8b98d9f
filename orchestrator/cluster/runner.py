"""Cells on a slot, one after another; and what becomes of a cell, or a deployment, that something befalls."""

from __future__ import annotations

import errno
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cell import Cell
from orchestrator.cluster.admission import impossible, needs
from orchestrator.cluster.nodes import alive_nodes
from orchestrator.cluster.retry import DEATHS, MOVED, may_retry, may_start_again
from orchestrator.cluster.slot import STOP_S, Slot, SlotLost
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.cluster.worker import Started
from orchestrator.config.schema import TimeoutConfig
from orchestrator.errors import ClaimLostError, ConfigError, EngineError, StorageError
from orchestrator.measure.context import Attempt, CellOutcome
from orchestrator.measure.row import cell_row
from orchestrator.plan.durations import Durations
from orchestrator.plan.plan import Deployment, Plan
from orchestrator.progress.board import Board
from orchestrator.search.source import CellSource
from orchestrator.store.attempts import new_attempt_id
from orchestrator.store.read import read_cell, read_status
from orchestrator.store.write import check_writable, commit

WORKER_S = 120.0  # a worker's own process, before it starts anything
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@dataclass(frozen=True)
class Limits:
    """Seconds that the driver waits: for Ray to place a group, for an engine's start with its weights, for a
    cell, for nodes that could hold a deployment (None: by whether somebody can bring them)."""

    place_s: float
    start_s: float
    cell_s: float
    resources_s: float | None = None

    @staticmethod
    def of(timeout: TimeoutConfig) -> Limits:
        return Limits(
            place_s=10.0,
            start_s=timeout.engine_start_s + timeout.weights_s,
            cell_s=timeout.cell_s,
            resources_s=timeout.resources_s,
        )


@dataclass(eq=False)
class DeploymentQueue:
    """What is left of a deployment. Its ``engines``, one a slot, take their cells from one source. ``deaths``
    of engines are those since a cell was finished. ``alone``: a further engine did not start, so there shall
    be none."""

    deployment: Deployment
    source: CellSource
    engines: set[Slot] = field(default_factory=set)
    attempts: Counter[str] = field(default_factory=Counter)
    losses: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    failed_starts: list[str] = field(default_factory=list)
    deaths: int = 0
    alone: bool = False

    def lose(self, cell: Cell, cause: str) -> bool:
        """Takes note of what the cell was lost to. Whether it is tried once more."""
        self.losses[cell.cell_id].append(cause)
        return may_retry(self.losses[cell.cell_id])


class RunContext:
    """What the sweep is, how it goes, and how long things take."""

    def __init__(
        self,
        plan: Plan,
        board: Board,
        limits: Limits | None,
        durations: Durations | None = None,
        nonce: str | None = None,
        *,
        keep: bool = False,
    ) -> None:
        """``keep``: engines serve on when their cells are done."""
        self.keep = keep
        self.plan, self.board, self.nonce, self._limits = plan, board, nonce, limits
        self.durations = durations or Durations.learnt_from(plan.cells)

    def limits(self, of: Deployment | Cell) -> Limits:
        """An engine's are its deployment's, a cell's its own."""
        return self._limits or Limits.of(of.config.timeout)

    def queued_s(self, work: DeploymentQueue) -> float | None:
        """The cells that no engine has taken yet, one after another."""
        return self.durations.cells_s(work.source.waiting)

    def settle(self, work: DeploymentQueue) -> None:
        """Tells of the cells that other drivers have finished."""
        for cell in work.source.settled():
            stored = read_status(self.plan.study_dir, cell.cell_id)
            self.board.settled_elsewhere(work.deployment, cell, stored.status if stored else "failed")

    def next(self, work: DeploymentQueue, engine: object = None) -> Cell | None:
        """The next cell to measure, for one ``engine``. Raises StorageError."""
        cell = work.source.next(engine)
        self.settle(work)
        return cell

    def reserve(self, work: DeploymentQueue) -> bool:
        """Whether there is a cell to start an engine for; it is this driver's from now on. Raises
        StorageError."""
        cell = self.next(work)
        if cell is not None:
            work.source.returned(cell, first=True)
        return cell is not None

    def finish(self, work: DeploymentQueue, cell: Cell, outcome: CellOutcome) -> None:
        work.source.finished(cell)
        self.board.finished(work.deployment, cell, outcome)

    def retry_or_fail(
        self,
        work: DeploymentQueue,
        cell: Cell,
        reason: str,
        cause: str,
        *,
        said: str | None = None,
        first: bool = False,
    ) -> None:
        """What becomes of a cell that was lost to ``cause``. ``said`` is shown when it is tried again, in
        place of ``reason``. Raises StorageError."""
        if work.lose(cell, cause):
            work.source.returned(cell, first=first)
            self.board.lost(work.deployment, cell, said or reason)
        else:
            self.fail(work, cell, reason, cause, work.attempts[cell.cell_id])

    def engine_died(self, work: DeploymentQueue, reason: str, cause: str) -> None:
        """Takes note of it, once it is settled what becomes of its cell, and fails the waiting ones where
        engine after engine dies. Raises StorageError."""
        if cause in MOVED:
            return
        work.deaths += 1
        if work.deaths >= DEATHS:
            work.alone = True
            count = f"its engines died {work.deaths} times in a row with no cell finished between"
            self.fail_waiting(work, f"{count}, the last one: {reason}", cause)

    def fail_waiting(
        self, work: DeploymentQueue, reason: str, cause: str, attempts: int | None = None
    ) -> None:
        """Stores every waiting cell of the deployment as failed, after so many ``attempts`` (None: its own).
        Raises StorageError."""
        while (cell := self.next(work)) is not None:
            tried = work.attempts[cell.cell_id] if attempts is None else attempts
            self.fail(work, cell, reason, cause, tried)

    def fail(self, work: DeploymentQueue, cell: Cell, reason: str, cause: str, attempts: int) -> None:
        """Stores a cell that could not be measured, with why. Raises StorageError."""
        deployment = work.deployment
        row: Mapping[str, Any] = cell_row(
            cell,
            study=self.plan.study,
            status="failed",
            reason=reason,
            attempts=attempts,
            engine_version=cell.facts.engine_version,
            gpus=deployment.gpus,
            nodes=deployment.nodes,
            provenance={"cause": cause},
        )
        try:
            commit(self.plan.study_dir, cell.cell_id, row, (), (), ())
        except OSError as error:
            raise self.unwritable(error) from error
        outcome = CellOutcome(cell.cell_id, "failed", reason, (), 0, None, None, False, cause)
        self.finish(work, cell, outcome)

    def unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"results_dir={self.plan.study_dir}: cannot be written any more ({error.strerror or error}); "
            "what was finished is kept: make room and run the same command again"
        )

    def check_storage(self, error: Exception) -> None:
        """Raises StorageError where ``error`` says that no cell can be stored any more."""
        if not isinstance(error, OSError):
            return
        if error.errno in FULL:
            raise self.unwritable(error) from error
        try:
            check_writable(self.plan.study_dir)
        except ConfigError:
            raise self.unwritable(error) from error

    def spec(self, deployment: Deployment) -> WorkerSpec:
        return WorkerSpec(
            deployment_id=deployment.deployment_id,
            label=deployment.label,
            study=self.plan.study,
            study_dir=self.plan.study_dir.resolve(),
            config=deployment.config,
            tensor_parallel_size=deployment.fit.tensor_parallel_size,
            nodes=deployment.nodes,
            gpus=deployment.gpus,
            facts=deployment.cells[0].facts,
            nonce=self.nonce,
        )


async def serve(work: DeploymentQueue, slot: Slot, context: RunContext, taken: Callable[[], None]) -> None:
    """Takes cells from the deployment's source until there is none, on a fresh engine as often as needed, and
    ends the engine unless it is to be kept; ``taken`` is called for each. Raises SlotLost when the slot is of
    no use any more, StorageError when results cannot be written."""
    while work.source.waiting:
        if await _start(work, slot, context):
            await _measure(work, slot, context, taken)
        elif work.source.waiting:
            raise SlotLost("start_failed", "the engine did not start there")
    if context.keep and slot.serving:
        return
    slot.serving = None
    try:
        await slot.call("end", timeout_s=STOP_S)
    except Exception as error:
        raise SlotLost("worker_died", f"the engine could not be ended: {error}") from error


async def _start(work: DeploymentQueue, slot: Slot, context: RunContext) -> bool:
    deployment = work.deployment
    if await _serves_still(deployment, slot):
        context.board.goes_on(deployment, slot)
        return True
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


async def _measure(work: DeploymentQueue, slot: Slot, context: RunContext, taken: Callable[[], None]) -> None:
    """On one engine, as long as it lives."""
    deployment, study_dir, engine = work.deployment, context.plan.study_dir, object()
    while (cell := context.next(work, engine)) is not None:
        expected_s, began_s = context.durations.cell_s(cell), time.monotonic()
        slot.until_s = None if expected_s is None else began_s + expected_s
        work.attempts[cell.cell_id] += 1
        claim = work.source.claim(cell)
        attempt = Attempt(work.attempts[cell.cell_id], new_attempt_id(), claim)
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
