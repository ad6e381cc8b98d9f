"""The scheduler and the board together, on Ray, with workers that serve nothing."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Hashable
from pathlib import Path

import pytest
import ray
from rich.console import Console

from orchestrator.cell import Cell
from orchestrator.cluster.run_context import Limits
from orchestrator.cluster.schedule import run_deployments
from orchestrator.plan.plan import Deployment
from orchestrator.progress.board import Board
from orchestrator.track.ray_metrics import SweepMetrics
from tests.cluster.fake_worker import FakeWorker
from tests.cluster.plans import deployment, plan_of

LIMITS = Limits(place_s=10.0, start_s=10.0, cell_s=10.0)


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_the_board_is_told_who_holds_which_gpus(tmp_path: Path) -> None:
    seen: list[tuple[dict[str, float], set[str]]] = []

    class Watched(Board):
        def measuring(self, deployment: Deployment, slot: Hashable, cell: Cell) -> None:
            super().measuring(deployment, slot, cell)
            seen.append((self.state.gpus(), {node for one in self.state.held.values() for node in one.nodes}))

    ray.init(address="local", num_cpus=8, num_gpus=4, include_dashboard=False, log_to_driver=False)
    try:
        plan = plan_of(tmp_path, *(deployment(2, name=f"d-{i}", cells=("takes 0.2",) * 2) for i in range(3)))
        with Watched(plan, Console(file=io.StringIO()), SweepMetrics("study"), lambda cell: None) as board:
            asyncio.run(run_deployments(plan, board, FakeWorker, LIMITS))
    finally:
        ray.shutdown()
    assert len(seen) == 6
    assert max(gpus["measuring"] for gpus, _ in seen) == 4
    assert {gpus["measuring"] + gpus["reserved"] + gpus["idle"] for gpus, _ in seen} == {4}
    assert {gpus["others"] for gpus, _ in seen} == {0}
    assert {node for _, nodes in seen for node in nodes} == set(board.state.nodes)
    assert board.state.reserved_s() > 0


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_what_is_tried_again_is_said_with_why(tmp_path: Path) -> None:
    said = io.StringIO()
    ray.init(address="local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        cells = ("once:die", "once:crash", "once:dead afterwards")
        plan = plan_of(tmp_path, deployment(1, name="once:crash-1", cells=cells))
        with Board(plan, Console(file=said, width=400), SweepMetrics("s"), lambda cell: None) as board:
            asyncio.run(run_deployments(plan, board, FakeWorker, LIMITS))
    finally:
        ray.shutdown()
    told = [line for line in said.getvalue().splitlines() if "tried again" in line]
    lines = [line.split("once:crash-1/vllm/none: ")[1] for line in told]
    assert lines == [
        "the start is tried again: it crashed",
        "does=once:die is tried again: the worker died",
        "does=once:crash is tried again: it crashed",
        "does=once:dead afterwards is tried again: the engine died",
    ]
