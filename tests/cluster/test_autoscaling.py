"""Nodes that an autoscaler brings: Ray's own fake of a cloud, on a real Ray."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import ray
from ray.util.placement_group import placement_group_table

from orchestrator.cluster.nodes import alive_nodes
from orchestrator.cluster.run_context import Limits
from orchestrator.cluster.schedule import run_deployments
from orchestrator.plan.plan import Deployment
from orchestrator.progress.board import Board
from orchestrator.store.read import read_cell, read_cells
from tests.cluster.fake_worker import FakeWorker, events
from tests.cluster.plans import SilentBoard, deployment, plan_of
from tests.support import waiting
from tests.support.autoscaling import autoscaling_cluster

pytestmark = [pytest.mark.ray, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

LIMITS = Limits(place_s=10.0, start_s=120.0, cell_s=240.0, resources_s=240.0)
GPU_NODES = {"resources": {"CPU": 8, "GPU": 4, "accelerator_type:H200": 1}, "max_workers": 2}


class Said(SilentBoard):
    """Keeps what is said to be waited for."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def waits(self, lines: list[str]) -> None:
        self.lines += lines


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with autoscaling_cluster({"gpu": GPU_NODES}, idle_minutes=0.2) as address:
        ray.init(address=address, log_to_driver=False, namespace="orchestrator")
        try:
            yield address
        finally:
            ray.shutdown()


def run(folder: Path, *deployments: Deployment, limits: Limits = LIMITS) -> Said:
    board = Said()
    plan = plan_of(folder, *deployments, cell_s=1.0)
    asyncio.run(run_deployments(plan, cast(Board, board), FakeWorker, limits))
    return board


def gpu_nodes() -> set[str]:
    return {name for name, resources in alive_nodes().items() if resources.get("GPU")}


def until(true: Callable[[], bool]) -> None:
    waiting.until(true, within_s=90.0, every_s=0.5)


def test_nodes_come_from_none_to_two_work_and_go_again(cluster: str, tmp_path: Path) -> None:
    until(lambda: not gpu_nodes())
    # The first two wait for each other, so one node does not do.
    cells = ("waits for start 2", "waits for start 2", "takes 1")
    made = (deployment(4, name=f"d-{i}", label="H200", cells=(one,)) for i, one in enumerate(cells))
    board = run(tmp_path, *made)
    assert [row["status"] for row in read_cells(tmp_path).to_pylist()] == ["done"] * 3
    assert len({event["node"] for event in events(tmp_path, "run")}) == 2, "as many as there may be"
    assert any("asked the autoscaler for 3 x 1 node(s) with 1 CPU, 4 GPU" in line for line in board.lines)
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}
    until(lambda: not gpu_nodes())


def test_no_more_is_asked_for_than_the_plan_can_use(cluster: str, tmp_path: Path) -> None:
    until(lambda: not gpu_nodes())
    asked: list[float] = []

    class Counting(SilentBoard):
        def nodes(self, nodes: dict[str, object]) -> None:
            waiting = [group for group in placement_group_table().values() if group["state"] == "PENDING"]
            asked.append(sum(bundle["GPU"] for group in waiting for bundle in group["bundles"].values()))

    plan = plan_of(tmp_path, *(deployment(2, name=f"d-{i}", cells=("takes 3",)) for i in range(2)))
    asyncio.run(run_deployments(plan, cast(Board, Counting()), FakeWorker, LIMITS))
    assert 0 < max(asked) <= 2 * 2


def test_what_no_autoscaler_brings_is_given_up_after_the_asked_time(cluster: str, tmp_path: Path) -> None:
    began_s = time.monotonic()
    run(tmp_path, deployment(8, name="d-0"), limits=replace(LIMITS, resources_s=4.0))
    assert 4.0 <= time.monotonic() - began_s < 30.0
    row = read_cell(tmp_path, "d-0-0")
    assert row is not None
    assert json.loads(row["provenance"])["cause"] == "no_resources"
    assert "the autoscaler was asked and brought none in 4 s" in row["reason"]


def test_an_interrupted_sweep_asks_for_nothing_any_more(cluster: str, tmp_path: Path) -> None:
    async def interrupted() -> None:
        plan = plan_of(tmp_path, deployment(8, name="d-0"))
        sweep = asyncio.create_task(run_deployments(plan, cast(Board, SilentBoard()), FakeWorker, LIMITS))
        await asyncio.to_thread(until, lambda: "PENDING" in states())
        sweep.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sweep

    def states() -> set[str]:
        return {group["state"] for group in placement_group_table().values()}

    asyncio.run(interrupted())
    assert states() == {"REMOVED"}
