"""What becomes of cells, engines, starts and nodes that are lost (`runner`, `retry`): a real Ray of two nodes
with declared GPUs, pretended workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from orchestrator.cluster.nodes import alive_nodes
from orchestrator.cluster.retry import DEATHS
from orchestrator.errors import StorageError
from orchestrator.store.ledger import reservations
from orchestrator.store.read import read_cell
from tests.cluster.driven import (
    IMPATIENT,
    LIMITS,
    added,
    cause,
    outcomes,
    run,
    run_sweep,
    runs,
    until_ran,
    until_used,
)
from tests.cluster.fake_worker import events
from tests.cluster.plans import deployment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


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
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cluster.schedule.AVOID_S", 600.0)
    run(tmp_path, *(deployment(8, name=f"once:crash-{index}") for index in range(3)))
    assert list(outcomes(tmp_path).values()) == ["done"] * 3
    started = events(tmp_path, "start")
    assert len({(event["deployment"], event["node"]) for event in started}) == len(started) == 6
    assert started[-1]["at_s"] - started[0]["at_s"] < 120, "nobody waited until a node was avoided no more"


def test_a_start_that_failed_is_tried_on_another_node(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, deployment(2, name="once:crash-0"))
    assert len({event["node"] for event in events(tmp_path, "start")}) == 2


def test_a_full_disk_stops_the_sweep_and_leaves_what_was_finished(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"No space left on device.*same command again"):
        run(tmp_path, deployment(8, name="d-0", cells=("", "disk full", "")))
    assert outcomes(tmp_path) == {"d-0-0": "done"}
    assert len(reservations(tmp_path)) == 1


def test_a_cancelled_sweep_leaves_no_group_and_what_was_finished(cluster: Cluster, tmp_path: Path) -> None:
    async def cancelled() -> None:
        sweep = asyncio.create_task(run_sweep(tmp_path, deployment(8, name="d-0", cells=("", "takes 9", ""))))
        await asyncio.to_thread(until_ran, 2, tmp_path)
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
    made = [deployment(8, name=f"d-{index}", cells=("takes 1.5",) * 3) for index in range(3)]

    async def disturbed(doomed: Any, nodes: ExitStack) -> None:
        sweep = asyncio.create_task(run_sweep(tmp_path, *made))
        await asyncio.to_thread(until_used, doomed.node_id, tmp_path)
        await asyncio.to_thread(cluster.remove_node, doomed, False)
        # It takes signals over, which only the main thread may.
        joined = nodes.enter_context(added(cluster))
        await sweep
        assert joined.node_id in alive_nodes()

    with ExitStack() as nodes:
        doomed = nodes.enter_context(added(cluster))
        asyncio.run(disturbed(doomed, nodes))
    assert set(outcomes(tmp_path).values()) == {"done"}
    times = runs(tmp_path)
    assert sum(times.values()) == 10, "nine cells, one of them twice"
    lost = next(cell_id for cell_id, count in times.items() if count == 2)
    again = [event["node"] for event in events(tmp_path, "run") if event["cell"] == lost]
    assert again[0] == doomed.node_id
    assert again[1] != doomed.node_id
