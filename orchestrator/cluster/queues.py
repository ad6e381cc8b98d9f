"""What is left of the deployments: each by itself, or several that take turns on one slot."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

from orchestrator.cell import Cell
from orchestrator.cluster.admission import needs
from orchestrator.cluster.retry import may_retry
from orchestrator.cluster.slot import Slot
from orchestrator.plan.plan import Deployment
from orchestrator.plan.rotation import rotations
from orchestrator.search.joint import JointSource
from orchestrator.search.source import CellSource, GridSource, Sharing


@dataclass(frozen=True)
class Turn:
    """A deployment's part of a block: its cells of one ``run``, as the ``position``-th, from 1. Turns that
    follow one another on one slot, without anything else between, share a ``block``."""

    block: str
    position: int
    run: int


class Work(Protocol):
    """What the scheduler places: its cells are taken from ``source`` by the engines in ``engines``, one a
    slot. ``alone``: a further engine did not start, so there shall be none."""

    engines: set[Slot]

    @property
    def key(self) -> str: ...

    @property
    def queues(self) -> Sequence[DeploymentQueue]: ...

    @property
    def source(self) -> CellSource: ...

    @property
    def deployment(self) -> Deployment:
        """The one that begins; what several share is its."""

    @property
    def alone(self) -> bool: ...

    @property
    def failed_starts(self) -> Sequence[str]: ...

    @property
    def shares(self) -> int:
        """Among how many engines its waiting cells could be divided."""


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

    @property
    def key(self) -> str:
        return self.deployment.deployment_id

    @property
    def queues(self) -> Sequence[DeploymentQueue]:
        return (self,)

    @property
    def shares(self) -> int:
        return len(self.source.waiting)

    def has(self, turn: Turn | None) -> bool:
        """Whether a cell waits, of that turn where there are turns."""
        return any(turn is None or cell.run == turn.run for cell in self.source.waiting)

    def lose(self, cell: Cell, cause: str) -> bool:
        """Takes note of what the cell was lost to. Whether it is tried once more."""
        self.losses[cell.cell_id].append(cause)
        return may_retry(self.losses[cell.cell_id])


class Rotation:
    """Deployments whose engines sleep and wake on one slot. They take turns there in blocks: each block has
    one run of all of them in an order drawn by the seed, so that what drifts slowly falls on all alike. A
    further slot takes blocks of its own, with engines of its own."""

    def __init__(self, queues: Sequence[DeploymentQueue]) -> None:
        self.queues: Sequence[DeploymentQueue] = tuple(queues)
        self.engines: set[Slot] = set()
        for queue in self.queues:
            queue.engines = self.engines
        self.source: CellSource = JointSource({one.key: one.source for one in self.queues})
        self._runs: dict[Slot, int] = {}  # that a slot is at

    @property
    def key(self) -> str:
        return self.queues[0].key

    @property
    def deployment(self) -> Deployment:
        first = [one for one in self.drawn(1) if one.source.waiting]
        return (first or self.queues)[0].deployment

    @property
    def alone(self) -> bool:
        return any(one.alone for one in self.queues)

    @property
    def failed_starts(self) -> Sequence[str]:
        return [cause for one in self.queues for cause in one.failed_starts]

    @property
    def shares(self) -> int:
        return len({cell.run for cell in self.source.waiting})

    def turns(self, slot: Slot) -> Generator[tuple[DeploymentQueue, Turn]]:
        """The slot's turns, block after block, as long as there is a run that waits and that no other slot is
        at. Each is to be served before the next is asked for."""
        try:
            while (run := self._next_run(slot)) is not None:
                self._runs[slot] = run
                block = f"{run}-{uuid4().hex[:12]}"
                waiting = [one for one in self.drawn(run) if one.has(Turn(block, 0, run))]
                for position, queue in enumerate(waiting, 1):
                    yield queue, Turn(block, position, run)
        finally:
            self._runs.pop(slot, None)

    def drawn(self, run: int) -> list[DeploymentQueue]:
        """The order of that run's block: the same whenever it is asked for. Every second block is in the
        reverse order of the one before, so that no deployment comes first in all of few."""
        seed = self.queues[0].deployment.cells[0].config.seed

        def lot(queue: DeploymentQueue) -> str:
            return hashlib.sha256(f"{seed}/{(run + 1) // 2}/{queue.key}".encode()).hexdigest()

        return sorted(self.queues, key=lot, reverse=run % 2 == 0)

    def _next_run(self, slot: Slot) -> int | None:
        others = {run for other, run in self._runs.items() if other is not slot}
        return min({cell.run for cell in self.source.waiting} - others, default=None)


def works(deployments: Sequence[Deployment], sharing: Sharing | None) -> list[Work]:
    """The deployments' cells, those together that take turns."""
    found: list[Work] = []
    for group in rotations(deployments, alike=needs):
        queues = [DeploymentQueue(one, GridSource(one.cells, sharing)) for one in group]
        found.append(Rotation(queues) if len(queues) > 1 else queues[0])
    return found
