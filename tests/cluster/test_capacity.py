"""What a cluster could hold, what is asked for beyond it, and who else holds it; also `demand`, `nodes`,
`others`."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from orchestrator.cluster import capacity as module
from orchestrator.cluster import nodes as probing
from orchestrator.cluster.admission import bundles, impossible, needs
from orchestrator.cluster.capacity import GROWS_S, RETURNS_S, SAYS_S, Capacity
from orchestrator.cluster.demand import may_ever_come, unplaced
from orchestrator.cluster.nodes import GpuMemory
from orchestrator.cluster.others import Holder, told
from orchestrator.cluster.packing import Need, Node, Waiting, decide
from orchestrator.cluster.ray_private import NodeGroup
from orchestrator.config.schema import EngineConfig, HardwareConfig
from orchestrator.engines.vllm import CPU_KV_CACHE_BYTES
from orchestrator.memory import GIB
from orchestrator.plan.hardware import labels_of_several, resolve
from tests.cluster.plans import deployment


def waiting(*gpus: float) -> list[Waiting]:
    return [Waiting(f"d-{index}", Need(one, 1.0), None) for index, one in enumerate(gpus)]


def test_only_what_finds_no_room_is_asked_for() -> None:
    free = [Node("a", 8.0, 16.0)]
    assert unplaced(waiting(4, 4), free) == {}
    assert list(unplaced(waiting(8, 4, 4), free)) == ["d-1", "d-2"]
    assert list(unplaced(waiting(8, 4), [])) == ["d-0", "d-1"], "never more than all of them"


def test_no_more_is_asked_for_than_an_autoscaler_may_bring() -> None:
    groups = [NodeGroup("gpu", {"CPU": 16.0, "GPU": 4.0}, most=2)]
    assert len(unplaced(waiting(4, 4, 4), [], groups)) == 2
    assert len(unplaced(waiting(2, 2, 2, 2, 2), [], groups)) == 4
    assert unplaced(waiting(8), [], groups) == {}


def test_what_no_group_could_hold_never_comes() -> None:
    groups = [NodeGroup("gpu", {"CPU": 16.0, "GPU": 4.0, "accelerator_type:H200": 1.0}, most=1)]
    assert may_ever_come(Need(4.0, 1.0, gpu_type="H200"), groups)
    assert not may_ever_come(Need(8.0, 1.0), groups)
    assert not may_ever_come(Need(4.0, 1.0, nodes=2), groups), "there is one at most"
    assert not may_ever_come(Need(4.0, 1.0, gpu_type="A100"), groups)
    assert may_ever_come(Need(8.0, 1.0), []), "nobody knows"


class Cluster:
    """Stands in for Ray: nodes that come and go, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, autoscaled: bool | None) -> None:
        self.nodes: dict[str, dict[str, float]] = {"head": {"CPU": 4.0}}
        self.now_s = 0.0
        monkeypatch.setattr(module, "alive_nodes", lambda: self.nodes)
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr("orchestrator.cluster.ray_private.autoscaled", lambda: autoscaled)
        monkeypatch.setattr("orchestrator.cluster.ray_private.node_groups", list)

    def fails_after_s(self, capacity: Capacity) -> float:
        """How long the deployment is waited for."""
        for second in range(2000):
            self.now_s += 1.0
            capacity.look()
            if capacity.hopeless(["d"]):
                return float(second)
        raise AssertionError("it waits for ever")


NEED = {"d": Need(4.0, 1.0)}


@pytest.mark.parametrize(
    ("autoscaled", "given_s", "waits_s"),
    [
        (False, None, 0.0),
        (None, None, SAYS_S),
        (True, None, GROWS_S),
        (True, 30.0, 30.0),
        (False, 30.0, 30.0),
    ],
)
def test_how_long_nodes_are_waited_for(
    autoscaled: bool | None, given_s: float | None, waits_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Cluster(monkeypatch, autoscaled).fails_after_s(Capacity(NEED, given_s)) == waits_s


def test_a_node_that_was_there_is_given_time_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, capacity = Cluster(monkeypatch, False), Capacity(NEED, None)
    cluster.nodes["a"] = {"CPU": 4.0, "GPU": 4.0}
    assert capacity.hopeless(["d"]) == {}
    del cluster.nodes["a"]
    assert cluster.fails_after_s(capacity) == RETURNS_S


def test_what_is_waited_for_is_said_with_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, capacity = Cluster(monkeypatch, False), Capacity(NEED, 30.0)
    assert capacity.hopeless(["d"]) == {}
    cluster.now_s += 10.0
    (line,) = capacity.waits(["d"])
    assert line == "no node for 1 x 1 node(s) with 1 CPU, 4 GPU; given up in 20 s (timeout.resources_s)"


def a100(memory_gib: float) -> Need:
    made = deployment(4, label="A100")
    return needs(replace(made, hardware=replace(made.hardware, memory_gib=memory_gib)))


def test_the_catalogue_knows_which_label_needs_the_memory_too() -> None:
    assert labels_of_several() == {"A100"}
    assert a100(39.4).gpu_memory_gib == 39.4
    assert needs(deployment(4, label="H200")).gpu_memory_gib is None


@pytest.mark.parametrize(("asks_gib", "node"), [(39.4, "small"), (79.3, "large")])
def test_gpus_of_one_label_are_told_apart_by_their_memory(asks_gib: float, node: str) -> None:
    types = frozenset({"A100"})
    free = [Node("small", 8.0, 16.0, types, 39.5), Node("large", 8.0, 16.0, types, 80.0)]
    starts, _ = decide([Waiting("d", a100(asks_gib), None)], (), free, 0.0)
    assert [start.nodes for start in starts] == [(node,)]
    resources = {"CPU": 16.0, "GPU": 8.0, "accelerator_type:A100": 1.0}
    other = 80.0 if node == "small" else 39.5
    assert impossible(a100(asks_gib), [{**resources, "gpu_memory_gib": other}]) is not None
    assert impossible(a100(asks_gib), [resources]) is None, "nobody knows: by its label"


def test_a_label_that_says_the_memory_is_believed_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_ask", lambda node_id: pytest.fail("it was asked"))
    memory = GpuMemory(wanted=True)
    memory.look({"a": {"GPU": 8.0, "accelerator_type:A100": 1.0, "accelerator_type:A100-40G": 1.0}})
    assert memory.of("a") == 40.0
    assert Node("a", 8.0, 8.0, frozenset({"A100-40G"}), 40.0).holds(a100(39.4))


def test_engines_on_cpus_reserve_their_memory() -> None:
    made = deployment(0, cpus=2.0)
    need = needs(replace(made, fit=replace(made.fit, weights_gib=16.0)))
    assert need.memory_bytes == pytest.approx((16 + 2 + 1.5) * GIB), "weights, KV cache and processes"
    assert bundles(need) == [{"CPU": 2.0, "memory": need.memory_bytes}]
    free = [Node("a", 0.0, 64.0, memory_bytes=64 * GIB)]
    starts, _ = decide([Waiting(f"d-{i}", need, 1.0) for i in range(32)], (), free, 0.0)
    assert len(starts) == 3, "its 64 CPUs would have held 32"
    reason = impossible(need, [{"CPU": 64.0, "memory": 8 * GIB}])
    assert reason is not None
    assert "19.5 GiB memory" in reason
    assert "8.0 GiB memory" in reason


def test_what_the_engine_is_told_of_its_cache_is_what_is_reserved() -> None:
    made = deployment(0, cpus=2.0)
    args: dict[str, Any] = {"kv-cache-memory-bytes": 8 << 30}
    config = replace(made.cells[0].config, engine=EngineConfig(name="vllm", args=args))
    cells = tuple(replace(cell, config=config) for cell in made.cells)
    need = needs(replace(made, cells=cells, fit=replace(made.fit, weights_gib=1.0)))
    assert need.memory_bytes == pytest.approx((1 + 8 + 1.5) * GIB)


def test_the_memory_of_a_clusters_nodes_is_not_this_machines() -> None:
    cpu = HardwareConfig(name="cpu", kind="cpu")
    assert resolve(cpu, "10.0.0.1:6379").memory_gib is None
    assert (resolve(cpu, None).memory_gib or 0.0) > 0.0


def test_who_holds_the_gpus_is_said_with_the_time() -> None:
    at = datetime(2026, 1, 2, 3, 4)
    holders = [Holder("a", "train of job 02 in namespace x", 4.0, at), Holder("b", "another", 2.0)]
    assert told(holders, 8.0, 16.0) == (
        "others hold 8 of 16 GPUs: train of job 02 in namespace x 4 (since 03:04), "
        "another 2 (since before this sweep looked), others 2"
    )
    assert told([], 8.0, 16.0) == "others hold 8 of 16 GPUs"


@pytest.mark.parametrize(
    ("given", "bytes_"), [("4G", 4 * GIB), ("4g", 4e9), (1024, 1024.0), ("a lot", CPU_KV_CACHE_BYTES)]
)
def test_a_size_is_read_as_the_engine_reads_it(given: object, bytes_: float) -> None:
    made = deployment(0, cpus=2.0)
    config = replace(
        made.cells[0].config, engine=EngineConfig(name="vllm", args={"kv-cache-memory-bytes": given})
    )
    cells = tuple(replace(cell, config=config) for cell in made.cells)
    need = needs(replace(made, cells=cells, fit=replace(made.fit, weights_gib=1.0)))
    assert need.memory_bytes == pytest.approx((1 + 1.5) * GIB + bytes_)


def test_what_waits_again_later_is_given_its_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, capacity = Cluster(monkeypatch, False), Capacity(NEED, 30.0)
    assert capacity.hopeless(["d"]) == {}
    cluster.now_s += 100.0
    assert capacity.hopeless([]) == {}, "others have its cells"
    assert cluster.fails_after_s(capacity) == 30.0
