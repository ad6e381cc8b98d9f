"""The one model of how long things take: the catalogue's estimate, corrected by what has been seen.

The planner orders by it, the scheduler promises by it and the display counts down by it, so they agree.
Learnt from stored cells when a plan is made, and from every cell and start while it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.cell import Cell
from orchestrator.plan import cost
from orchestrator.plan.pace import Pace

if TYPE_CHECKING:
    from orchestrator.plan.plan import Deployment, PlannedCell


class Durations:
    """Seconds of cells and of engines' starts."""

    def __init__(self) -> None:
        self._cells, self._starts = Pace(), Pace()
        self._estimated_s: dict[str, float | None] = {}

    @staticmethod
    def learnt_from(planned: Iterable[PlannedCell]) -> Durations:
        """By the catalogue's estimates of these cells, and what those took that are stored already."""
        planned, durations = list(planned), Durations()
        durations.estimate(planned)
        started: dict[str, tuple[PlannedCell, float]] = {}
        for one in planned:
            stored = one.stored
            if stored is None or stored.status not in ("done", "invalid"):
                continue
            if stored.duration_s is not None:
                durations.cell_took(one.cell, stored.duration_s)
            if stored.deployment_start_s is not None:
                # Every cell of an engine's life has its start; a prepared one was shorter than a plain one.
                _, known_s = started.get(one.cell.deployment_id, (one, 0.0))
                started[one.cell.deployment_id] = one, max(known_s, stored.deployment_start_s)
        for one, took_s in started.values():
            durations._starts.observe(pace_groups(one.cell), one.estimated_start_s, took_s)
        return durations

    def estimate(self, planned: Iterable[PlannedCell]) -> None:
        """Takes the catalogue's estimates of further cells."""
        self._estimated_s |= {one.cell.cell_id: one.estimated_s for one in planned}

    def cell_s(self, cell: Cell) -> float | None:
        """None where neither the catalogue nor a cell like it tells."""
        return self._cells.expect_s(pace_groups(cell), self._estimated_s.get(cell.cell_id))

    def cells_s(self, cells: Sequence[Cell]) -> float | None:
        """Cells of one deployment, one after another. None where one of them cannot be told."""
        if not cells:
            return 0.0
        estimates_s = [self._estimated_s.get(cell.cell_id) for cell in cells]
        return self._cells.total_s(pace_groups(cells[0]), estimates_s)

    def start_s(self, deployment: Deployment) -> float:
        """From an engine's command to healthy, when nothing was prepared."""
        estimated_s = cost.start_s(deployment.config, deployment.fit)
        return self._starts.expect_s(pace_groups(deployment.cells[0]), estimated_s) or estimated_s

    def cell_took(self, cell: Cell, seconds: float) -> None:
        self._cells.observe(pace_groups(cell), self._estimated_s.get(cell.cell_id), seconds)

    def start_took(self, deployment: Deployment, seconds: float, *, prepared: bool) -> None:
        """A start that was prepared says nothing of one that will not be."""
        if not prepared:
            estimated_s = cost.start_s(deployment.config, deployment.fit)
            self._starts.observe(pace_groups(deployment.cells[0]), estimated_s, seconds)


def pace_groups(cell: Cell) -> tuple[object, ...]:
    """What a cell shares its pace with, finest first: its deployment, its model on its engine, its engine."""
    model, engine = cell.config.model.name, cell.config.engine.name
    return cell.deployment_id, (model, engine), engine
