"""Engines that a command keeps for its next batch (`orchestrator.cluster.kept`), on a real Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from ray.cluster_utils import Cluster

from orchestrator.cell import Cell
from orchestrator.cluster.kept import Kept
from orchestrator.cluster.schedule import run_deployments
from orchestrator.plan.plan import Plan
from orchestrator.progress.board import Board
from orchestrator.search.source import Sharing, Taken
from tests.cluster.driven import LIMITS, outcomes
from tests.cluster.fake_worker import FakeWorker, events
from tests.cluster.plans import SilentBoard, deployment, plan_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


class Freed(SilentBoard):
    def __init__(self) -> None:
        self.count = 0

    def freed(self, slot: object) -> None:
        self.count += 1


class WantsTheRoom:
    """Another driver that has the second cell, and measures it once this one has given back its GPUs."""

    def __init__(self, board: Freed) -> None:
        self._board = board

    def take(self, cell: Cell) -> Taken:
        if not cell.cell_id.endswith("-1"):
            return "ours"
        return "settled" if self._board.count else "elsewhere"

    def look(self, cells: Sequence[Cell]) -> Mapping[str, Taken]:
        return {cell.cell_id: self.take(cell) for cell in cells}

    def leave(self, cell: Cell) -> None: ...

    def claim(self, cell: Cell) -> str | None:
        return None


def run(plan: Plan, kept: Kept, board: Any, sharing: Sharing | None = None) -> None:
    asyncio.run(run_deployments(plan, cast(Board, board), FakeWorker, LIMITS, sharing=sharing, kept=kept))


def test_an_engine_that_is_kept_serves_the_next_batch(cluster: Cluster, tmp_path: Path) -> None:
    kept = Kept()
    kept.engines, kept.study_dir = True, tmp_path
    try:
        for cells in (("",), ("", "")):
            run(plan_of(tmp_path, deployment(8, name="d-0", cells=cells)), kept, SilentBoard())
            assert len(kept.slots) == 1
    finally:
        kept.close()
    assert len(events(tmp_path, "start")) == 1
    assert set(outcomes(tmp_path).values()) == {"done"}
    assert kept.slots == []


def test_an_engine_is_not_kept_while_another_driver_may_need_its_room(
    cluster: Cluster, tmp_path: Path
) -> None:
    kept, board = Kept(), Freed()
    kept.engines, kept.study_dir = True, tmp_path
    plan = plan_of(tmp_path, deployment(8, name="d-0", cells=("", "")))
    run(plan, kept, board, WantsTheRoom(board))
    assert board.count == 1
    assert kept.slots == []
