"""Ray clusters of several nodes on this machine, whose GPUs are declared and not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.cluster_utils import Cluster

from benchmarks.cluster.virtual import STORE_BYTES


@contextmanager
def ray_cluster(
    nodes: int, *, cpus: int, gpus: int, head: Mapping[str, int] | None = None
) -> Iterator[Cluster]:
    """``nodes`` of as many CPUs and GPUs, and a head that offers nothing, or what ``head`` says."""
    offered = {"num_cpus": 0, "num_gpus": 0} | dict(head or {})
    cluster = Cluster(
        initialize_head=True,
        head_node_args=offered | {"include_dashboard": False, "object_store_memory": STORE_BYTES},
    )
    try:
        for _ in range(nodes):
            add_node(cluster, cpus=cpus, gpus=gpus)
        yield cluster
    finally:
        shut_down(cluster)


def add_node(cluster: Cluster, *, cpus: int, gpus: int, resources: Mapping[str, float] | None = None) -> Any:
    return cluster.add_node(
        num_cpus=cpus, num_gpus=gpus, resources=dict(resources or {}), object_store_memory=STORE_BYTES
    )


@contextmanager
def added(
    cluster: Cluster, *, cpus: int, gpus: int, resources: Mapping[str, float] | None = None
) -> Iterator[Any]:
    """A further node, which is gone afterwards whatever happens meanwhile."""
    node = add_node(cluster, cpus=cpus, gpus=gpus, resources=resources)
    try:
        yield node
    finally:
        if node in cluster.worker_nodes:  # a test may have removed it
            cluster.remove_node(node)


def shut_down(cluster: Cluster) -> None:
    end: Callable[[], None] = cluster.shutdown  # Ray leaves it untyped
    end()
