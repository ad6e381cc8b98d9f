"""The driver's loop on a real Ray of several nodes with declared GPUs, with workers that only pretend."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from orchestrator.cluster.retry import DEATHS
from orchestrator.cluster.runner import Limits
from orchestrator.cluster.schedule import AVOID_S, run_deployments
from orchestrator.cluster.slot import alive_nodes, free_nodes
from orchestrator.errors import StorageError
from orchestrator.memory import GIB
from orchestrator.plan.plan import Deployment
from orchestrator.progress.board import Board
from orchestrator.store.ledger import reservations
from orchestrator.store.read import read_cell, read_cells
from tests.cluster.fake_worker import FakeWorker, events
from tests.cluster.plans import SilentBoard, deployment, plan_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

LIMITS = Limits(place_s=3.0, start_s=30.0, cell_s=30.0)
IMPATIENT = replace(LIMITS, start_s=8.0, cell_s=4.0)
STORE = 80 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without resources and two nodes of 8 GPUs."""
    head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        add_node(made)
    ray.init(address=made.address, log_to_driver=False, namespace="orchestrator")
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def add_node(cluster: Cluster, resources: dict[str, float] | None = None) -> Any:
    return cluster.add_node(num_cpus=16, num_gpus=8, object_store_memory=STORE, resources=resources or {})


def run(folder: Path, *deployments: Deployment, cell_s: float | None = None, limits: Limits = LIMITS) -> None:
    asyncio.run(_run(folder, *deployments, cell_s=cell_s, limits=limits))


async def _run(
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


@pytest.mark.parametrize("what", ["once:crash", "once:die", "once:dead afterwards", "once:unreadable"])
def test_what_befalls_a_cell_once_costs_a_second_attempt_and_no_other_cell(
    what: str, cluster: Cluster, tmp_path: Path
) -> None:
    run(tmp_path, deployment(2, name="d-0", cells=("", what, "")))
    assert outcomes(tmp_path) == dict.fromkeys(["d-0-0", "d-0-1", "d-0-2"], "done")
    assert runs(tmp_path) == {"d-0-0": 1, "d-0-1": 2, "d-0-2": 1}


@pytest.mark.parametrize(
    ("what", "attempts", "why"),
    [
        ("crash", 2, "crash"),
        ("oom", 1, "oom"),
        ("die", 2, "worker_died"),
        ("hang", 1, "timeout"),
        ("wrong", 1, "error"),
    ],
)
def test_a_cell_that_poisons_its_engine_costs_that_cell_only(
    what: str, attempts: int, why: str, cluster: Cluster, tmp_path: Path
) -> None:
    limits = IMPATIENT if what == "hang" else LIMITS
    run(tmp_path, deployment(2, name="d-0", cells=("", what, "")), limits=limits)
    assert outcomes(tmp_path) == {"d-0-0": "done", "d-0-1": "failed", "d-0-2": "done"}
    assert runs(tmp_path) == {"d-0-0": 1, "d-0-1": attempts, "d-0-2": 1}
    assert cause(tmp_path, "d-0-1") == why


def test_what_was_stored_before_its_worker_died_is_not_run_again(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, deployment(2, name="d-0", cells=("once:stored, then die", "")))
    assert runs(tmp_path) == {"d-0-0": 1, "d-0-1": 1}


@pytest.mark.parametrize(
    ("model", "starts", "status"),
    [
        ("once:crash", 2, "done"),
        ("once:die", 2, "done"),
        ("crash", 2, "failed"),
        ("oom", 1, "failed"),
        ("hang", 1, "failed"),
    ],
)
def test_a_start_that_fails_is_tried_again_where_that_can_help(
    model: str, starts: int, status: str, cluster: Cluster, tmp_path: Path
) -> None:
    limits = IMPATIENT if model == "hang" else LIMITS
    run(tmp_path, deployment(2, name=f"{model}-0", cells=("", "")), deployment(2, name="d-1"), limits=limits)
    found = [event["deployment"] for event in events(tmp_path, "start")]
    assert found.count(f"{model}-0") == starts
    assert outcomes(tmp_path) == {f"{model}-0-0": status, f"{model}-0-1": status, "d-1-0": "done"}


def test_engines_that_die_one_after_another_end_their_deployment_with_the_cause(
    cluster: Cluster, tmp_path: Path
) -> None:
    run(tmp_path, deployment(2, name="d-0", cells=("crash",) * 12), deployment(2, name="d-1", cells=("",)))
    started = Counter(event["deployment"] for event in events(tmp_path, "start"))
    assert started == {"d-0": DEATHS, "d-1": 1}
    found = outcomes(tmp_path)
    assert [found[f"d-0-{index}"] for index in range(12)] == ["failed"] * 12
    assert found["d-1-0"] == "done"
    row = read_cell(tmp_path, "d-0-11")
    assert row is not None
    assert f"died {DEATHS} times in a row with no cell finished between" in row["reason"]
    assert row["reason"].endswith("it crashed")
    assert cause(tmp_path, "d-0-11") == "crash"
    assert row["attempts"] == 0


def test_engines_that_die_with_cells_finished_between_go_on(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, deployment(2, name="d-0", cells=("oom", "") * (DEATHS + 1)))
    assert Counter(outcomes(tmp_path).values()) == {"done": DEATHS + 1, "failed": DEATHS + 1}


def test_starts_that_fail_everywhere_leave_every_node_to_other_deployments(
    cluster: Cluster, tmp_path: Path
) -> None:
    run(tmp_path, *(deployment(8, name=f"once:crash-{index}") for index in range(3)))
    assert list(outcomes(tmp_path).values()) == ["done"] * 3
    started = events(tmp_path, "start")
    assert len({(event["deployment"], event["node"]) for event in started}) == len(started) == 6
    assert started[-1]["at_s"] - started[0]["at_s"] < AVOID_S


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


def test_a_start_that_failed_is_tried_on_another_node(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, deployment(2, name="once:crash-0"))
    assert len({event["node"] for event in events(tmp_path, "start")}) == 2


def test_a_full_disk_stops_the_sweep_and_leaves_what_was_finished(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"No space left on device.*same command again"):
        run(tmp_path, deployment(8, name="d-0", cells=("", "disk full", "")))
    assert outcomes(tmp_path) == {"d-0-0": "done"}
    assert len(reservations(tmp_path)) == 1


def test_what_the_cluster_cannot_hold_fails_and_the_rest_runs(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, deployment(4, name="d-0", label="B200"), deployment(4, name="d-1"))
    assert outcomes(tmp_path) == {"d-0-0": "failed", "d-1-0": "done"}
    assert cause(tmp_path, "d-0-0") == "no_resources"


def test_gpus_that_others_hold_are_left_to_them_and_taken_once_given_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    other = ray.remote(num_gpus=5, num_cpus=1)(_hold)
    held = [other.remote(4.0) for _ in range(2)]
    _until(lambda: _free_gpus() == 6)
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
        await asyncio.to_thread(_until, lambda: bool(said))
        remove_placement_group(group)
        await sweep

    asyncio.run(crowded())
    assert said[0] == "others hold 14 of 16 GPUs: training of somebody 14 (since before this sweep looked)"
    assert outcomes(tmp_path) == {"d-0-0": "done"}


def test_nodes_of_one_label_are_told_apart_by_their_memory(cluster: Cluster, tmp_path: Path) -> None:
    labels = ({"accelerator_type:A100": 1.0, f"accelerator_type:A100-{size}G": 1.0} for size in (80, 40))
    added = [add_node(cluster, resources) for resources in labels]
    _until(lambda: {one.node_id for one in added} <= alive_nodes().keys())
    made = [deployment(4, name=f"d-{index}", label="A100", cells=("takes 1",)) for index in range(2)]
    run(tmp_path, *(_of_memory(one, 39.4) for one in made), cell_s=1.0)
    assert {event["node"] for event in events(tmp_path, "run")} == {added[1].node_id}
    for one in added:
        cluster.remove_node(one)


def test_a_node_that_cannot_tell_its_gpus_memory_is_taken_by_its_label(
    cluster: Cluster, tmp_path: Path
) -> None:
    added = add_node(cluster, {"accelerator_type:A100": 1.0})
    _until(lambda: added.node_id in alive_nodes())
    run(tmp_path, _of_memory(deployment(4, name="d-0", label="A100"), 39.4))
    assert [event["node"] for event in events(tmp_path, "run")] == [added.node_id]
    cluster.remove_node(added)


def test_engines_on_cpus_take_no_more_memory_than_a_node_has(cluster: Cluster, tmp_path: Path) -> None:
    made = [deployment(0, name=f"d-{index}", cells=("takes 1",)) for index in range(3)]
    most_gib = max(resources["memory"] for resources in alive_nodes().values()) / GIB
    large = [replace(one, fit=replace(one.fit, weights_gib=0.9 * most_gib - 3.5)) for one in made]
    run(tmp_path, *large, cell_s=1.0)
    began = sorted((event["node"], event["at_s"]) for event in events(tmp_path, "run"))
    here = [later_s - earlier_s for (one, earlier_s), (other, later_s) in pairwise(began) if one == other]
    assert here, "three engines, and two nodes for them"
    assert min(here) >= 1.0
    too_large = deployment(0, name="large")
    run(tmp_path, replace(too_large, fit=replace(too_large.fit, weights_gib=2 * most_gib)))
    assert cause(tmp_path, "large-0") == "no_resources"


def _of_memory(one: Deployment, gib: float) -> Deployment:
    return replace(one, hardware=replace(one.hardware, memory_gib=gib))


def test_many_cells_left_are_shared_with_gpus_that_idle(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, deployment(8, name="d-0", cells=("waits for start 2",) * 8), cell_s=60.0)
    assert set(runs(tmp_path).values()) == {1}
    assert len({event["node"] for event in events(tmp_path, "run")}) == 2


def test_a_group_that_ray_cannot_place_goes_back_and_blocks_nobody(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ray.remote(num_gpus=8, num_cpus=1)(_hold)
    taken = other.remote(12.0)
    _until(lambda: _free_gpus() == 8)

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


def test_a_cancelled_sweep_leaves_no_group_and_what_was_finished(cluster: Cluster, tmp_path: Path) -> None:
    async def cancelled() -> None:
        sweep = asyncio.create_task(_run(tmp_path, deployment(8, name="d-0", cells=("", "takes 9", ""))))
        await asyncio.to_thread(_until_ran, 2, tmp_path)
        sweep.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sweep

    asyncio.run(cancelled())
    assert outcomes(tmp_path) == {"d-0-0": "done"}
    assert [one.deployments for one in reservations(tmp_path)] == [("d-0",)]
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}


def test_a_node_that_dies_costs_what_ran_there_and_one_that_joins_is_used(
    cluster: Cluster, tmp_path: Path
) -> None:
    doomed = add_node(cluster)
    made = [deployment(8, name=f"d-{index}", cells=("takes 1.5",) * 3) for index in range(3)]

    async def disturbed() -> None:
        sweep = asyncio.create_task(_run(tmp_path, *made))
        await asyncio.to_thread(_until_used, doomed.node_id, tmp_path)
        await asyncio.to_thread(cluster.remove_node, doomed, False)
        joined.append(add_node(cluster))  # it takes signals over, which only the main thread may
        await sweep

    joined: list[Any] = []
    asyncio.run(disturbed())
    assert set(outcomes(tmp_path).values()) == {"done"}
    times = runs(tmp_path)
    assert sum(times.values()) == 10, "nine cells, one of them twice"
    lost = next(cell_id for cell_id, count in times.items() if count == 2)
    again = [event["node"] for event in events(tmp_path, "run") if event["cell"] == lost]
    assert again[0] == doomed.node_id
    assert again[1] != doomed.node_id
    assert joined[0].node_id in alive_nodes()
    cluster.remove_node(joined[0])


def _until_used(node_id: str, folder: Path) -> None:
    _until(lambda: any(event["node"] == node_id for event in _ran(folder)))


def _until_ran(count: int, folder: Path) -> None:
    _until(lambda: len(_ran(folder)) >= count)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _ran(folder: Path) -> list[dict[str, Any]]:
    return events(folder, "run") if (folder / "events.jsonl").exists() else []


def _free_gpus() -> float:
    return sum(node.gpus for node in free_nodes([], counted=[]))


def _hold(seconds: float) -> None:
    time.sleep(seconds)
