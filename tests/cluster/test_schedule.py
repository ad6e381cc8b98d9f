"""What starts where and when (`schedule`): a real Ray of two nodes with declared GPUs, pretended workers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, remove_placement_group

from orchestrator.cluster.nodes import alive_nodes
from orchestrator.cluster.schedule import run_deployments
from orchestrator.cluster.slot import free_nodes
from orchestrator.plan.durations import Durations
from orchestrator.plan.plan import Deployment
from orchestrator.progress.board import Board
from orchestrator.store.ledger import reservations
from tests.cluster.driven import (
    LIMITS,
    cause,
    free_gpus,
    hold,
    outcomes,
    run,
    runs,
)
from tests.cluster.fake_worker import FakeWorker, events
from tests.cluster.plans import SilentBoard, deployment, plan_of
from tests.support.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def test_every_cell_runs_once_and_no_node_is_overcommitted(cluster: Cluster, tmp_path: Path) -> None:
    sizes = [8, 1, 2, 4, 2, 1, 8, 4]
    made = [deployment(gpus, name=f"d-{i}", cells=("takes 0.2",) * 2) for i, gpus in enumerate(sizes)]
    run(tmp_path, *made, cell_s=0.2)
    assert set(runs(tmp_path).values()) == {1}
    assert list(outcomes(tmp_path).values()) == ["done"] * 16
    gpus = {one.deployment_id: one.gpus for one in made}
    began = [(event["at_s"], event) for event in events(tmp_path, "run")]
    for at_s, event in began:
        # Whoever runs a cell of 0.2 s on this node at this moment.
        here = {
            other["deployment"]
            for other_s, other in began
            if other["node"] == event["node"] and at_s - 0.2 < other_s <= at_s
        }
        assert sum(gpus[one] for one in here) <= 8


def test_a_slot_serves_the_next_of_its_shape_prepared_beside_the_last_cell(
    cluster: Cluster, tmp_path: Path
) -> None:
    # None ends before its neighbour has started, however long a process takes to come up.
    waits = [f"waits for start {start}" for start in (2, 2, 4, 4)]
    made = [deployment(8, name=f"d-{i}", cells=(wait, "takes 0.5")) for i, wait in enumerate(waits)]
    run(tmp_path, *made, cell_s=0.5)
    started = events(tmp_path, "start")
    assert len(started) == 4
    assert len({event["pid"] for event in started}) == 2, "one worker a node serves two deployments"
    assert any(event["prepared"] for event in started[2:])
    assert not any(event["prepared"] for event in started[:2])
    held = reservations(tmp_path)
    assert sorted(len(one.deployments) for one in held) == [2, 2]
    assert {key for one in held for key in one.deployments} == {one.deployment_id for one in made}


def test_what_was_reserved_is_recorded_from_its_placing_to_its_end(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, deployment(4, name="d-0", cpus=2.0, cells=("takes 1", "once:crash")))
    (held,) = reservations(tmp_path)
    assert (held.gpus, held.cpus, held.deployments, held.simulated) == (4, 2.0, ("d-0",), False)
    ran = events(tmp_path, "run")
    assert set(held.nodes) == {event["node"] for event in ran}
    assert held.duration_s > ran[-1]["at_s"] - ran[0]["at_s"]
    assert held.gpu_s == 4 * held.duration_s


def test_one_external_server_is_measured_by_one_deployment_at_a_time(
    cluster: Cluster, tmp_path: Path
) -> None:
    made = [deployment(0, name=f"d-{index}", cells=("takes 0.6",), engine="external") for index in range(4)]
    urls = (
        "http://10.0.0.1:8000",
        "http://10.0.0.1:8000/",
        "http://10.0.0.1:8000/v1",
        "http://10.0.0.2:8000",
    )
    run(tmp_path, *(_at(one, url) for one, url in zip(made, urls, strict=True)), cell_s=0.6)
    began = {event["deployment"]: event["at_s"] for event in events(tmp_path, "run")}
    alone = sorted(began[f"d-{index}"] for index in range(3))
    assert all(later - earlier >= 0.6 for earlier, later in pairwise(alone))
    assert set(outcomes(tmp_path).values()) == {"done"}


def _at(one: Deployment, url: str) -> Deployment:
    """The deployment, external at this address."""
    config = one.cells[0].config
    config = replace(config, engine=replace(config.engine, base_url=url))
    return replace(one, cells=tuple(replace(cell, config=config) for cell in one.cells))


def test_the_board_is_told_of_every_slot_that_was_given_back(cluster: Cluster, tmp_path: Path) -> None:
    held: list[object] = []

    class Held(SilentBoard):
        def placed(self, deployment: Deployment, nodes: object, gpus: float, slot: object) -> None:
            held.append(slot)

        def freed(self, slot: object) -> None:
            held.remove(slot)

    plan = plan_of(tmp_path, deployment(8, name="d-0"), deployment(2, name="d-1"))
    asyncio.run(run_deployments(plan, cast(Board, Held()), FakeWorker, LIMITS))
    assert not held


def test_what_the_cluster_cannot_hold_fails_and_the_rest_runs(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, deployment(4, name="d-0", label="B200"), deployment(4, name="d-1"))
    assert outcomes(tmp_path) == {"d-0-0": "failed", "d-1-0": "done"}
    assert cause(tmp_path, "d-0-0") == "no_resources"


def test_gpus_that_others_hold_are_left_to_them_and_taken_once_given_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    other = ray.remote(num_gpus=5, num_cpus=1)(hold)
    held = [other.remote(4.0) for _ in range(2)]
    until(lambda: free_gpus() == 6, every_s=0.1)
    together = (deployment(3, name=f"d-{i}", cells=("waits for start 2",)) for i in (1, 2))
    run(tmp_path, deployment(8, name="d-0"), *together, cell_s=0.3)
    assert set(outcomes(tmp_path).values()) == {"done"}
    started = {event["deployment"]: event["at_s"] for event in events(tmp_path, "start")}
    assert max(started, key=lambda key: started[key]) == "d-0", "it waits for a whole node, the others do not"
    ray.get(held)


def test_it_is_said_who_holds_what_others_hold(cluster: Cluster, tmp_path: Path) -> None:
    said: list[str] = []

    class Said(SilentBoard):
        def waits(self, lines: list[str]) -> None:
            said.extend(lines)

    group = placement_group([{"GPU": 7.0}] * 2, strategy="STRICT_SPREAD", name="training of somebody")
    ray.get(group.ready())

    async def crowded() -> None:
        plan = plan_of(tmp_path, deployment(2, name="d-0"))
        sweep = asyncio.create_task(run_deployments(plan, cast(Board, Said()), FakeWorker, LIMITS))
        await asyncio.to_thread(until, lambda: bool(said))
        remove_placement_group(group)
        await sweep

    asyncio.run(crowded())
    assert said[0] == "others hold 14 of 16 GPUs: training of somebody 14 (since before this sweep looked)"
    assert outcomes(tmp_path) == {"d-0-0": "done"}


def test_many_cells_left_are_shared_with_gpus_that_idle(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, deployment(8, name="d-0", cells=("waits for start 2",) * 8), cell_s=60.0)
    assert set(runs(tmp_path).values()) == {1}
    assert len({event["node"] for event in events(tmp_path, "run")}) == 2


def test_later_estimates_learn_from_what_cells_and_starts_took(cluster: Cluster, tmp_path: Path) -> None:
    one = deployment(8, name="d-0", cells=("takes 0.5",) * 3)
    plan = plan_of(tmp_path, one, cell_s=60.0)
    durations = Durations.learnt_from(plan.cells)
    assert durations.cell_s(one.cells[0]) == 60.0
    assert durations.start_s(one) > 10.0
    asyncio.run(run_deployments(plan, cast(Board, SilentBoard()), FakeWorker, LIMITS, durations=durations))
    assert set(outcomes(tmp_path).values()) == {"done"}
    learnt_s = durations.cell_s(one.cells[0])
    assert learnt_s is not None
    assert 0.5 <= learnt_s < 10.0
    assert durations.start_s(one) < 10.0


def test_a_group_that_ray_cannot_place_goes_back_and_blocks_nobody(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ray.remote(num_gpus=8, num_cpus=1)(hold)
    taken = other.remote(12.0)
    until(lambda: free_gpus() == 8, every_s=0.1)

    def hopeful(slots: Any, counted: Any) -> Any:
        """Sees nothing of what others hold."""
        total = {name: resources.get("GPU", 0.0) for name, resources in alive_nodes().items()}
        held = {name: sum(s.need.gpus for s in counted if name in s.nodes) for name in total}
        nodes = free_nodes(slots, counted)
        return [replace(node, gpus=total[node.node_id] - held[node.node_id]) for node in nodes]

    monkeypatch.setattr("orchestrator.cluster.schedule.free_nodes", hopeful)
    run(tmp_path, *(deployment(8, name=f"d-{index}", cells=("takes 0.2",)) for index in range(3)), cell_s=0.2)
    assert list(outcomes(tmp_path).values()) == ["done"] * 3
    assert set(runs(tmp_path).values()) == {1}
    assert len({event["node"] for event in events(tmp_path, "run")}) == 1
    ray.get(taken)
