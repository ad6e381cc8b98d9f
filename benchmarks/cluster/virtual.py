"""A Ray cluster of several nodes on this machine, whose GPUs are declared and not there."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cluster.environment import set_ray_environment

STORE_BYTES = 80 * 2**20  # the least that Ray takes


@dataclass(frozen=True)
class Virtual:
    """``metrics`` is the head's page for Prometheus, where the driver's metrics are: a driver joins the
    cluster there."""

    address: str
    dashboard: str
    metrics: str


@contextmanager
def virtual_cluster(nodes: int, gpus: int, cpus: float, gpu_type: str) -> Iterator[Virtual]:
    """A head that offers nothing, and ``nodes`` of ``gpus`` GPUs. Meanwhile the environment is that of the
    cluster, for the sweep to inherit."""
    with _environment():
        from ray.cluster_utils import Cluster  # reads it

        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "num_gpus": 0,
                "include_dashboard": True,
                "dashboard_port": _free_port(),  # Ray's own choice may be another cluster's
                "object_store_memory": STORE_BYTES,
            },
        )
        try:
            for _ in range(nodes):
                cluster.add_node(
                    num_cpus=cpus,
                    num_gpus=gpus,
                    resources={f"accelerator_type:{gpu_type}": 1.0},
                    object_store_memory=STORE_BYTES,
                )
            head: Any = cluster.head_node  # whose class Ray does not declare
            metrics = f"http://{head.node_ip_address}:{head.metrics_export_port}/metrics"
            yield Virtual(cluster.address, f"http://{head.webui_url}", metrics)
        finally:
            shut_down: Callable[[], None] = cluster.shutdown  # Ray leaves it untyped
            shut_down()


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    set_ray_environment(None)
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # for workers, which start elsewhere
    os.environ.setdefault("RAY_metrics_report_interval_ms", "2000")  # what lasts some seconds is to be seen
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
