"""Where a deployment's next cell comes from: a plan's cells in their order, without those that other drivers
of the study have. Pure: no Ray, no files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from orchestrator.cell import Cell

Taken = Literal["ours", "elsewhere", "settled"]


class Sharing(Protocol):
    """Who else works on the study."""

    def take(self, cell: Cell) -> Taken:
        """Claims the cell. ``elsewhere``: another driver is at it; ``settled``: another has stored it."""

    def look(self, cells: Sequence[Cell]) -> Mapping[str, Taken]:
        """What each of the cells is, by its id, without claiming any: ``ours`` says that it may be taken."""

    def leave(self, cell: Cell) -> None:
        """Gives the claim back."""

    def claim(self, cell: Cell) -> str | None:
        """The claim's name; None where there is none to check."""


class Alone:
    """Nobody else works on the study."""

    def take(self, cell: Cell) -> Taken:
        return "ours"

    def look(self, cells: Sequence[Cell]) -> Mapping[str, Taken]:
        return {cell.cell_id: "ours" for cell in cells}

    def leave(self, cell: Cell) -> None:
        return None

    def claim(self, cell: Cell) -> str | None:
        return None


class CellSource(Protocol):
    """The cells of one deployment. Its engines ask for the `next` one and give each back as `returned` (to be
    measured again) or `finished` (there is an outcome)."""

    @property
    def waiting(self) -> Sequence[Cell]:
        """Those that may be next."""

    @property
    def elsewhere(self) -> Sequence[Cell]:
        """Those that another driver is measuring."""

    def next(self, engine: object = None, run: int | None = None) -> Cell | None:
        """For one of the deployment's ``engines``, of that ``run`` where one is named. None when there is
        none just now."""

    def returned(self, cell: Cell, *, first: bool = False) -> None:
        """``first``: it is the next again; else it waits behind the others."""

    def finished(self, cell: Cell) -> None: ...

    def lost(self, cell: Cell) -> None:
        """Another driver has taken it over."""

    def claim(self, cell: Cell) -> str | None:
        """What a worker shows that it measures for the driver that has the cell."""

    def look_again(self) -> None:
        """Finds out what others have taken, given up and finished since."""

    def settled(self) -> Sequence[Cell]:
        """Those that others have finished, each told once."""


class GridSource:
    """A plan's cells, in its order."""

    def __init__(self, cells: Iterable[Cell], sharing: Sharing | None = None) -> None:
        self._sharing = sharing or Alone()
        self._waiting = deque(cells)
        self._elsewhere: list[Cell] = []
        self._settled: list[Cell] = []
        self._engines: dict[str, list[object]] = {}  # those that have had a run of what is measured

    @property
    def waiting(self) -> Sequence[Cell]:
        return self._waiting

    @property
    def elsewhere(self) -> Sequence[Cell]:
        return self._elsewhere

    def next(self, engine: object = None, run: int | None = None) -> Cell | None:
        while (cell := self._pop(engine, run)) is not None:
            taken = self._sharing.take(cell)
            if taken == "ours":
                self._engines.setdefault(cell.run_of, []).append(engine)
                return cell
            (self._elsewhere if taken == "elsewhere" else self._settled).append(cell)
        return None

    def _pop(self, engine: object, run: int | None) -> Cell | None:
        """The first that waits; of further runs the first whose earlier ones other engines had, if there is
        one, since engines differ too."""
        places = [place for place, cell in enumerate(self._waiting) if run in (None, cell.run)]
        if not places:
            return None
        first = self._waiting[places[0]]
        others = (
            place
            for place in places
            if self._waiting[place].run == first.run
            and engine not in self._engines.get(self._waiting[place].run_of, ())
        )
        place = next(others, places[0]) if first.run > 1 else places[0]
        cell = self._waiting[place]
        del self._waiting[place]
        return cell

    def returned(self, cell: Cell, *, first: bool = False) -> None:
        # The claim is kept: the cell is still this driver's.
        if first:
            self._waiting.appendleft(cell)
        else:
            self._waiting.append(cell)

    def finished(self, cell: Cell) -> None:
        self._sharing.leave(cell)

    def lost(self, cell: Cell) -> None:
        self._sharing.leave(cell)  # else it would still count as this driver's
        self._elsewhere.append(cell)

    def claim(self, cell: Cell) -> str | None:
        return self._sharing.claim(cell)

    def look_again(self) -> None:
        cells = [*self._waiting, *self._elsewhere]
        seen = self._sharing.look(cells)
        self._waiting = deque(cell for cell in cells if seen[cell.cell_id] == "ours")
        self._elsewhere = [cell for cell in cells if seen[cell.cell_id] == "elsewhere"]
        self._settled += [cell for cell in cells if seen[cell.cell_id] == "settled"]

    def settled(self) -> Sequence[Cell]:
        told, self._settled = self._settled, []
        return told
