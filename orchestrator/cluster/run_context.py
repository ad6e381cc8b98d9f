"""What a sweep is while it runs, how it goes, and what becomes of cells that cannot be measured."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cell import Cell
from orchestrator.cluster.queues import DeploymentQueue, Turn, Work
from orchestrator.cluster.retry import DEATHS, MOVED
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.config.schema import TimeoutConfig
from orchestrator.errors import ConfigError, StorageError
from orchestrator.measure.context import CellOutcome
from orchestrator.measure.row import cell_row
from orchestrator.plan.durations import Durations
from orchestrator.plan.plan import Deployment, Plan
from orchestrator.progress.board import Board
from orchestrator.store.read import read_status
from orchestrator.store.write import check_writable, commit

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

    def queued_s(self, work: Work) -> float | None:
        """The cells that no engine has taken yet, one after another."""
        lengths_s = [self.durations.cells_s(one.source.waiting) for one in work.queues]
        known_s = [length_s for length_s in lengths_s if length_s is not None]
        return sum(known_s) if len(known_s) == len(lengths_s) else None

    def start_s(self, work: Work) -> float:
        """The engines of those that have cells left, one after another."""
        return sum(self.durations.start_s(one.deployment) for one in work.queues if one.source.waiting)

    def settle(self, work: Work) -> None:
        """Tells of the cells that other drivers have finished."""
        for queue in work.queues:
            for cell in queue.source.settled():
                stored = read_status(self.plan.study_dir, cell.cell_id)
                status = stored.status if stored else "failed"
                self.board.settled_elsewhere(queue.deployment, cell, status)

    def next(self, work: Work, engine: object = None, turn: Turn | None = None) -> Cell | None:
        """The next cell to measure, of that turn, for one ``engine``. Raises StorageError."""
        cell = work.source.next(engine, turn.run if turn else None)
        self.settle(work)
        return cell

    def reserve(self, work: Work) -> bool:
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
