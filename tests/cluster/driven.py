"""The driver's loop with workers that only pretend: how tests run it, and what they ask afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ray.cluster_utils import Cluster

from orchestrator.cluster.run_context import Limits
from orchestrator.cluster.schedule import run_deployments
from orchestrator.cluster.slot import free_nodes
from orchestrator.plan.plan import Deployment
from orchestrator.progress.board import Board
from orchestrator.store.read import read_cell, read_cells
from tests.cluster.fake_worker import FakeWorker, events
from tests.cluster.plans import SilentBoard, plan_of
from tests.support import ray_cluster
from tests.support.waiting import until

LIMITS = Limits(place_s=3.0, start_s=30.0, cell_s=30.0)
IMPATIENT = replace(LIMITS, start_s=8.0, cell_s=4.0)
CPUS, GPUS = 16, 8  # of a node


def added(cluster: Cluster, resources: Mapping[str, float] | None = None) -> AbstractContextManager[Any]:
    """One more node like the others, gone afterwards."""
    return ray_cluster.added(cluster, cpus=CPUS, gpus=GPUS, resources=resources)


def run(folder: Path, *deployments: Deployment, cell_s: float | None = None, limits: Limits = LIMITS) -> None:
    asyncio.run(run_sweep(folder, *deployments, cell_s=cell_s, limits=limits))


async def run_sweep(
    folder: Path, *deployments: Deployment, cell_s: float | None = None, limits: Limits = LIMITS
) -> None:
    plan = plan_of(folder, *deployments, cell_s=cell_s)
    await run_deployments(plan, cast(Board, SilentBoard()), FakeWorker, limits)


def runs(folder: Path) -> Counter[str]:
    return Counter(event["cell"] for event in events(folder, "run"))


def outcomes(folder: Path) -> dict[str, str]:
    return {row["cell_id"]: row["status"] for row in read_cells(folder).to_pylist()}


def cause(folder: Path, cell_id: str) -> str:
    row = read_cell(folder, cell_id)
    assert row is not None
    return str(json.loads(row["provenance"])["cause"])


def until_used(node_id: str, folder: Path) -> None:
    until(lambda: any(event["node"] == node_id for event in ran(folder)), every_s=0.1)


def until_ran(count: int, folder: Path) -> None:
    until(lambda: len(ran(folder)) >= count, every_s=0.1)


def ran(folder: Path) -> list[dict[str, Any]]:
    return events(folder, "run") if (folder / "events.jsonl").exists() else []


def free_gpus() -> float:
    return sum(node.gpus for node in free_nodes([], counted=[]))


def hold(seconds: float) -> None:
    time.sleep(seconds)
