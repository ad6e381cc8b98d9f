"""Cells on a slot, one after another; and what becomes of a cell, or a deployment, that something befalls."""

from __future__ import annotations

import errno
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cell import Cell
from orchestrator.cluster.slot import STOP_S, Slot, SlotLost
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.cluster.worker import Started
from orchestrator.config.schema import TimeoutConfig
from orchestrator.errors import ConfigError, EngineError, StorageError
from orchestrator.measure.measure import CellOutcome
from orchestrator.measure.row import cell_row
from orchestrator.plan import cost
from orchestrator.plan.plan import Deployment, Plan, learn, pace_groups
from orchestrator.progress.board import Board
from orchestrator.store.read import read_cell
from orchestrator.store.write import check_writable, commit

WORKER_S = 120.0  # a worker's own process, before it starts anything
RETRIES = 1  # on a fresh engine
MOVES = 3  # to another node: losing one is not the cell's doing, yet a cell may also be what kills nodes
MOVED = frozenset({"node_died"})
FINAL = frozenset(
    {"oom", "oom_serving", "unsupported", "bad_flag", "no_results_dir", "timeout"}
    | {"version_mismatch", "weights_mismatch", "served_mismatch"}
)  # it would happen again
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def may_retry(causes: Sequence[str]) -> bool:
    """Whether what was lost to ``causes``, the latest last, is tried once more."""
    moves = sum(cause in MOVED for cause in causes)
    return causes[-1] not in FINAL and moves <= MOVES and len(causes) - moves <= RETRIES


@dataclass(frozen=True)
class Limits:
    """Seconds that the driver waits: for Ray to place a group, for an engine's start with its weights, for a
    cell."""

    place_s: float
    start_s: float
    cell_s: float

    @staticmethod
    def of(timeout: TimeoutConfig) -> Limits:
        return Limits(
            place_s=10.0,
            start_s=timeout.engine_start_s + timeout.weights_s,
            cell_s=timeout.cell_s,
        )


@dataclass(eq=False)
class DeploymentQueue:
    """What is left of a deployment. Its ``engines``, one a slot, take their cells from one queue. ``alone``:
    a further engine did not start, so there shall be none."""

    deployment: Deployment
    queue: deque[Cell]
    engines: set[Slot] = field(default_factory=set)
    attempts: Counter[str] = field(default_factory=Counter)
    losses: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    failed_starts: list[str] = field(default_factory=list)
    alone: bool = False


class RunContext:
    """What the sweep is, how it goes, and how long things take."""

    def __init__(self, plan: Plan, board: Board, limits: Limits, nonce: str | None = None) -> None:
        self.plan, self.board, self.limits, self.nonce = plan, board, limits, nonce
        self._estimated_s = {planned.cell.cell_id: planned.estimated_s for planned in plan.cells}
        self._cells, self._starts = learn(plan.cells)

    def cell_s(self, cell: Cell) -> float | None:
        return self._cells.expect_s(pace_groups(cell), self._estimated_s.get(cell.cell_id))

    def start_s(self, deployment: Deployment) -> float:
        estimated_s = cost.start_s(deployment.config, deployment.fit)
        return self._starts.expect_s(pace_groups(deployment.cells[0]), estimated_s) or estimated_s

    def queued_s(self, work: DeploymentQueue) -> float | None:
        """The cells that no engine has taken yet, one after another."""
        return self._cells.total_s(
            pace_groups(work.deployment.cells[0]),
            [self._estimated_s.get(cell.cell_id) for cell in work.queue],
        )

    def took(self, cell: Cell, seconds: float) -> None:
        self._cells.observe(pace_groups(cell), self._estimated_s.get(cell.cell_id), seconds)

    def started(self, deployment: Deployment, started: Started) -> None:
        if not started.prepared:
            estimated_s = cost.start_s(deployment.config, deployment.fit)
            self._starts.observe(pace_groups(deployment.cells[0]), estimated_s, started.seconds)

    def fail(self, deployment: Deployment, cell: Cell, reason: str, cause: str, attempts: int) -> None:
        """Stores a cell that could not be measured, with why. Raises StorageError."""
        row: Mapping[str, Any] = cell_row(
            cell,
            study=self.plan.study,
            status="failed",
            reason=reason,
            flags=(),
            attempts=attempts,
            started_at=None,
            duration_s=None,
            deployment_start_s=None,
            engine_version=cell.facts.engine_version,
            gpus=deployment.gpus,
            nodes=deployment.nodes,
            items=None,
            metrics={},
            provenance={"cause": cause},
        )
        try:
            commit(self.plan.study_dir, cell.cell_id, row, (), (), ())
        except OSError as error:
            raise self.unwritable(error) from error
        outcome = CellOutcome(cell.cell_id, "failed", reason, (), 0, None, None, False, cause)
        self.board.finished(deployment, cell, outcome)

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


async def serve(work: DeploymentQueue, slot: Slot, sweep: RunContext, taken: Callable[[], None]) -> None:
    """Takes cells off the queue until it is empty, on a fresh engine as often as needed, and ends the engine;
    ``taken`` is called for each. Raises SlotLost when the slot is of no use any more, StorageError when
    results cannot be written."""
    while work.queue:
        if await _start(work, slot, sweep):
            await _measure(work, slot, sweep, taken)
        elif work.queue:
            raise SlotLost("start_failed", "the engine did not start there")
    try:
        await slot.call("end", timeout_s=STOP_S)
    except Exception as error:
        raise SlotLost("worker_died", f"the engine could not be ended: {error}") from error


async def _start(work: DeploymentQueue, slot: Slot, sweep: RunContext) -> bool:
    deployment = work.deployment
    sweep.board.starting(deployment, slot)
    slot.until_s = time.monotonic() + sweep.start_s(deployment)
    try:
        await slot.call("__ray_ready__", timeout_s=WORKER_S)
        started: Started = await slot.call("start", sweep.spec(deployment), timeout_s=sweep.limits.start_s)
    except SlotLost as lost:
        _start_failed(work, sweep, str(lost), lost.cause)
        raise
    except Exception as error:
        sweep.check_storage(error)
        _start_failed(work, sweep, *_explained(error))
        return False
    work.failed_starts.clear()
    sweep.started(deployment, started)
    sweep.board.serving(deployment, slot, started.seconds)
    return True


def _start_failed(work: DeploymentQueue, sweep: RunContext, reason: str, cause: str) -> None:
    if len(work.engines) > 1:
        work.alone = True
        return
    work.failed_starts.append(cause)
    if may_retry(work.failed_starts):
        sweep.board.lost(work.deployment, None, reason)
    else:
        while work.queue:
            sweep.fail(work.deployment, work.queue.popleft(), reason, cause, len(work.failed_starts))


async def _measure(work: DeploymentQueue, slot: Slot, sweep: RunContext, taken: Callable[[], None]) -> None:
    """On one engine, as long as it lives."""
    deployment, study_dir = work.deployment, sweep.plan.study_dir
    while work.queue:
        cell = work.queue.popleft()
        expected_s, began_s = sweep.cell_s(cell), time.monotonic()
        slot.until_s = None if expected_s is None else began_s + expected_s
        work.attempts[cell.cell_id] += 1
        path = study_dir / "cells" / f"{cell.cell_id}.parquet"
        before = _version(path)
        sweep.board.measuring(deployment, slot, cell)
        taken()
        try:
            outcome: CellOutcome = await slot.call(
                "run", cell, work.attempts[cell.cell_id], timeout_s=sweep.limits.cell_s
            )
        except SlotLost as lost:
            await slot.close()  # it must not store anything any more
            stored = None if _version(path) == before else read_cell(study_dir, cell.cell_id)
            if stored is not None and stored["status"] != "failed":
                sweep.board.finished(deployment, cell, _outcome(stored))
            elif _again(work, cell, lost.cause):
                work.queue.appendleft(cell)
                sweep.board.lost(deployment, cell, str(lost).partition(": ")[0])  # without Ray's essay
            else:
                sweep.fail(deployment, cell, str(lost), lost.cause, work.attempts[cell.cell_id])
            raise
        except Exception as error:
            sweep.check_storage(error)
            reason, cause = _explained(error)
            engine_lost = isinstance(error, EngineError)
            if (engine_lost or cause == "storage") and _again(work, cell, cause):
                work.queue.append(cell)
                sweep.board.lost(deployment, cell, reason)
            else:
                sweep.fail(deployment, cell, reason, cause, work.attempts[cell.cell_id])
            if engine_lost:
                return
            continue
        if outcome.engine_alive:
            sweep.took(cell, time.monotonic() - began_s)
            sweep.board.finished(deployment, cell, outcome)
            continue
        if _again(work, cell, outcome.cause or "crash"):
            work.queue.append(cell)  # behind the others: it may be what the engine died of
            sweep.board.lost(deployment, cell, outcome.reason or "the engine died")
        else:
            sweep.board.finished(deployment, cell, outcome)
        return


def _again(work: DeploymentQueue, cell: Cell, cause: str) -> bool:
    work.losses[cell.cell_id].append(cause)
    return may_retry(work.losses[cell.cell_id])


def _version(path: Any) -> tuple[int, int] | None:
    """Changes whenever the file is replaced; None while there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


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
    said = f"{type(error).__name__}: {error}"
    files = isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError)
    return said, "storage" if files else "error"
