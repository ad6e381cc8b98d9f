"""The cluster's nodes: as Ray lists them, and what it does not tell, the memory of their GPUs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster.admission import GPU_MEMORY, LABEL
from orchestrator.telemetry.gpu import gpus_here

NOT_YET = 0.0  # no GPU has so little: nothing goes there that asks for a size
IN_LABEL = re.compile(r"-(\d+)GB?$")


def listed_nodes() -> list[dict[str, Any]]:
    """Every node that the cluster has had, dead ones too, as ``ray.nodes`` gives it."""
    listed: Callable[[], list[dict[str, Any]]] = ray.nodes  # Ray leaves it untyped
    return listed()


def alive_nodes() -> dict[str, dict[str, float]]:
    """Every live node's resources, by its id."""
    return {node["NodeID"]: dict(node["Resources"]) for node in listed_nodes() if node["Alive"]}


class GpuMemory:
    """Of each GPU of a node, in GiB, by the node's id."""

    def __init__(self, wanted: bool) -> None:
        """``wanted`` False: nothing needs to know, and no node is asked."""
        self.wanted = wanted
        self._known: dict[str, float | None] = {}
        self._asked: dict[str, Any] = {}

    def look(self, nodes: Mapping[str, Mapping[str, float]]) -> None:
        """Asks the nodes with GPUs that are new, and takes what others have answered. Does not wait."""
        if not self.wanted:
            return
        for node_id, resources in nodes.items():
            if node_id in self._known or node_id in self._asked or not resources.get("GPU"):
                continue
            if (labelled := _labelled(resources)) is not None:
                self._known[node_id] = labelled
            else:
                self._asked[node_id] = _ask(node_id)
        answered: list[Any] = []
        if self._asked:
            answered, _ = ray.wait([*self._asked.values()], num_returns=len(self._asked), timeout=0)
        for node_id in [one for one, ref in self._asked.items() if ref in answered]:
            try:
                self._known[node_id] = ray.get(self._asked.pop(node_id))
            except Exception:  # it died, or may not be asked: a node without an answer is taken by its label
                self._known[node_id] = None

    @property
    def settled(self) -> bool:
        """Whether every node has answered."""
        return not self._asked

    def of(self, node_id: str) -> float | None:
        """None where the node cannot tell, `NOT_YET` before it has."""
        return self._known.get(node_id, NOT_YET) if self.wanted else None

    def among(self, nodes: Mapping[str, Mapping[str, float]]) -> list[Mapping[str, float]]:
        """The nodes' resources, with this one where it is known."""
        found: list[Mapping[str, float]] = []
        for node_id, resources in nodes.items():
            memory_gib = self._known.get(node_id)
            found.append(resources if memory_gib is None else {**resources, GPU_MEMORY: memory_gib})
        return found


def _labelled(resources: Mapping[str, float]) -> float | None:
    """What the label says where it says more than the type, such as ``A100-40G``."""
    sizes = (IN_LABEL.search(key) for key in resources if key.startswith(LABEL))
    return next((float(found[1]) for found in sizes if found), None)


def _ask(node_id: str) -> Any:
    task: Any = ray.remote(read_gpu_memory_gib)
    return task.options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
    ).remote()


def read_gpu_memory_gib() -> float | None:
    """The least that a GPU of this machine has, in GiB; None without any."""
    return min((gpu.memory_gib for gpu in gpus_here()), default=None)
