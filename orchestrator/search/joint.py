"""The cells of several deployments as those of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.cell import Cell
from orchestrator.search.source import CellSource


class JointSource:
    """``sources`` by the deployments' ids."""

    def __init__(self, sources: Mapping[str, CellSource]) -> None:
        self._sources = sources

    @property
    def waiting(self) -> Sequence[Cell]:
        return [cell for one in self._sources.values() for cell in one.waiting]

    @property
    def elsewhere(self) -> Sequence[Cell]:
        return [cell for one in self._sources.values() for cell in one.elsewhere]

    def next(self, engine: object = None, run: int | None = None) -> Cell | None:
        found = (one.next(engine, run) for one in self._sources.values())
        return next((cell for cell in found if cell is not None), None)

    def returned(self, cell: Cell, *, first: bool = False) -> None:
        self._sources[cell.deployment_id].returned(cell, first=first)

    def finished(self, cell: Cell) -> None:
        self._sources[cell.deployment_id].finished(cell)

    def lost(self, cell: Cell) -> None:
        self._sources[cell.deployment_id].lost(cell)

    def claim(self, cell: Cell) -> str | None:
        return self._sources[cell.deployment_id].claim(cell)

    def look_again(self) -> None:
        for one in self._sources.values():
            one.look_again()

    def settled(self) -> Sequence[Cell]:
        return [cell for one in self._sources.values() for cell in one.settled()]
