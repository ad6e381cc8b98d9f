"""Nodes that are told apart by their memory (`nodes`): a real Ray with declared GPUs, pretended workers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from orchestrator.cluster.nodes import alive_nodes
from orchestrator.memory import GIB
from orchestrator.plan.plan import Deployment
from tests.cluster.driven import (
    added,
    cause,
    run,
)
from tests.cluster.fake_worker import events
from tests.cluster.plans import deployment
from tests.support.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def test_nodes_of_one_label_are_told_apart_by_their_memory(cluster: Cluster, tmp_path: Path) -> None:
    large, small = (
        {"accelerator_type:A100": 1.0, f"accelerator_type:A100-{size}G": 1.0} for size in (80, 40)
    )
    with added(cluster, large) as large_one, added(cluster, small) as small_one:
        until(lambda: {large_one.node_id, small_one.node_id} <= alive_nodes().keys(), every_s=0.1)
        made = [deployment(4, name=f"d-{index}", label="A100", cells=("takes 1",)) for index in range(2)]
        run(tmp_path, *(_of_memory(one, 39.4) for one in made), cell_s=1.0)
    assert {event["node"] for event in events(tmp_path, "run")} == {small_one.node_id}


def test_a_node_that_cannot_tell_its_gpus_memory_is_taken_by_its_label(
    cluster: Cluster, tmp_path: Path
) -> None:
    with added(cluster, {"accelerator_type:A100": 1.0}) as node:
        until(lambda: node.node_id in alive_nodes(), every_s=0.1)
        run(tmp_path, _of_memory(deployment(4, name="d-0", label="A100"), 39.4))
    assert [event["node"] for event in events(tmp_path, "run")] == [node.node_id]


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
