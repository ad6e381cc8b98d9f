from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cell import Cell
from orchestrator.search.source import GridSource, Taken
from tests.cluster.plans import deployment

CELLS = deployment(1, cells=["a", "b", "c"]).cells


class Others:
    """Other drivers: what each cell is to them."""

    def __init__(self) -> None:
        self.state: dict[str, Taken] = {}
        self.left: list[str] = []

    def take(self, cell: Cell) -> Taken:
        return self.state.get(cell.cell_id, "ours")

    def look(self, cells: Sequence[Cell]) -> dict[str, Taken]:
        return {cell.cell_id: self.take(cell) for cell in cells}

    def leave(self, cell: Cell) -> None:
        self.left.append(cell.cell_id)

    def claim(self, cell: Cell) -> str | None:
        return None


def test_cells_come_in_the_plans_order_and_each_once() -> None:
    source = GridSource(CELLS)
    assert [source.next() for _ in range(4)] == [*CELLS, None]


def test_a_returned_cell_waits_behind_the_others_or_is_the_next_again() -> None:
    source = GridSource(CELLS)
    first = source.next()
    assert first is not None
    source.returned(first)
    assert list(source.waiting) == [*CELLS[1:], CELLS[0]]
    second = source.next()
    assert second is not None
    source.returned(second, first=True)
    assert source.next() is second


def test_what_others_measure_or_have_finished_is_not_measured_here() -> None:
    others = Others()
    others.state = {CELLS[0].cell_id: "elsewhere", CELLS[1].cell_id: "settled"}
    source = GridSource(CELLS, others)
    assert source.next() is CELLS[2]
    assert source.next() is None
    assert list(source.elsewhere) == [CELLS[0]]
    assert source.settled() == [CELLS[1]]
    assert source.settled() == [], "told once"


def test_a_cell_that_another_driver_gives_up_is_measured_here_and_one_it_finishes_is_not() -> None:
    others = Others()
    others.state = {cell.cell_id: "elsewhere" for cell in CELLS}
    source = GridSource(CELLS, others)
    assert source.next() is None
    others.state = {CELLS[0].cell_id: "elsewhere", CELLS[1].cell_id: "settled"}
    source.look_again()
    assert (list(source.elsewhere), list(source.waiting)) == ([CELLS[0]], [CELLS[2]])
    assert source.settled() == [CELLS[1]]


def test_the_claim_is_kept_until_the_cell_is_finished() -> None:
    others = Others()
    source = GridSource(CELLS, others)
    cell = source.next()
    assert cell is not None
    source.returned(cell, first=True)
    assert others.left == []
    assert source.next() is cell
    source.finished(cell)
    assert others.left == [cell.cell_id]


def test_what_others_take_meanwhile_waits_here_no_more() -> None:
    others = Others()
    source = GridSource(CELLS, others)
    others.state = {CELLS[1].cell_id: "elsewhere", CELLS[2].cell_id: "settled"}
    source.look_again()
    assert (list(source.waiting), list(source.elsewhere)) == ([CELLS[0]], [CELLS[1]])
    assert source.settled() == [CELLS[2]]


def test_a_lost_cells_claim_is_left_and_it_waits_for_the_other_driver() -> None:
    others = Others()
    source = GridSource(CELLS, others)
    cell = source.next()
    assert cell is not None
    source.lost(cell)
    assert others.left == [cell.cell_id]
    assert list(source.elsewhere) == [cell]
