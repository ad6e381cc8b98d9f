"""Turns of deployments that share a slot, without Ray."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cell import Cell
from orchestrator.cluster.packing import Need
from orchestrator.cluster.queues import DeploymentQueue, Rotation, works
from orchestrator.cluster.run_context import RunContext
from orchestrator.cluster.runner import serve_in_turns
from orchestrator.cluster.slot import Slot, SlotLost
from tests.cluster.plans import deployment


def slot() -> Slot:
    return Slot(Need(1, 1), ("node",))


def rotation(deployments: int, runs: int, cells: int = 1) -> Rotation:
    made = [
        deployment(1, name=f"d{number}", model="m", sleepers=deployments, runs=runs, cells=("",) * cells)
        for number in range(deployments)
    ]
    (work,) = works(made, None)
    return cast(Rotation, work)


def measured(queue: DeploymentQueue, run: int) -> list[Cell]:
    found = []
    while (cell := queue.source.next(None, run)) is not None:
        queue.source.finished(cell)
        found.append(cell)
    return found


def test_deployments_that_do_not_sleep_have_queues_of_their_own() -> None:
    made = [deployment(1, name=name, model="m") for name in "ab"]
    assert [work.key for work in works(made, None)] == ["a", "b"]


@given(deployments=st.integers(2, 5), runs=st.integers(1, 4), cells=st.integers(1, 3))
def test_each_block_has_one_run_of_every_deployment(deployments: int, runs: int, cells: int) -> None:
    work, here = rotation(deployments, runs, cells), slot()
    seen = []
    for queue, turn in work.turns(here):
        had = measured(queue, turn.run)
        assert [cell.run for cell in had] == [turn.run] * cells
        seen.append((turn.block, turn.position, turn.run, queue.key))
    blocks = list(dict.fromkeys(block for block, *_ in seen))
    assert len(blocks) == runs
    for number, block in enumerate(blocks, 1):
        inside = [one for one in seen if one[0] == block]
        assert [run for _, _, run, _ in inside] == [number] * deployments
        assert [position for _, position, _, _ in inside] == list(range(1, deployments + 1))
        assert {key for *_, key in inside} == {one.key for one in work.queues}
    assert work.source.waiting == []


def test_the_order_differs_from_block_to_block_and_follows_from_the_seed() -> None:
    work, again = rotation(5, 2), rotation(5, 2)
    orders = [[one.key for one in work.drawn(run)] for run in range(1, 9)]
    assert orders == [[one.key for one in again.drawn(run)] for run in range(1, 9)]
    assert [order[::-1] for order in orders[::2]] == orders[1::2]
    assert len({tuple(order) for order in orders[::2]}) > 1
    firsts = [order[0] for order in ([one.key for one in work.drawn(run)] for run in range(200))]
    assert all(20 < firsts.count(key) < 60 for key in {one.key for one in work.queues})


def test_a_further_slot_takes_blocks_of_its_own() -> None:
    work = rotation(2, 3)
    first, second = work.turns(slot()), work.turns(slot())
    queue, turn = next(first)
    other, others_turn = next(second)
    assert (turn.run, others_turn.run) == (1, 2)
    assert turn.block != others_turn.block
    measured(queue, turn.run)
    measured(other, others_turn.run)
    assert next(first)[1].run == 1
    first.close()  # its slot is lost
    third = work.turns(slot())
    taken, again = next(third)
    assert again.run == 1
    assert again.block != turn.block
    assert taken is not queue


def test_a_slot_that_is_lost_gives_back_its_run_at_once() -> None:
    work, here = rotation(2, 1), slot()
    turns = work.turns(here)  # held here, so that nothing but its user ends it

    def lost(*arguments: object) -> None:
        raise SlotLost("worker_died", "the worker died")

    context = cast(RunContext, SimpleNamespace(board=SimpleNamespace(placed=lost)))
    started = cast(Rotation, SimpleNamespace(drawn=lambda run: [], turns=lambda of: turns))
    with pytest.raises(SlotLost):
        asyncio.run(serve_in_turns(started, here, context, lambda deployment: None))
    _, turn = next(work.turns(slot()))
    assert turn.run == 1


def test_what_was_measured_before_is_left_out_of_its_block() -> None:
    work = rotation(3, 2)
    done, *_ = work.queues
    measured(done, 1)
    inside = [(queue.key, turn.run) for queue, turn in work.turns(slot()) if measured(queue, turn.run)]
    assert sorted(inside) == [("d0", 2), ("d1", 1), ("d1", 2), ("d2", 1), ("d2", 2)]
