"""A sweep where ``RAY_ADDRESS`` names a cluster, as it does inside a job of ``ray job submit``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from orchestrator.store.read import read_cells
from tests.support.cli import sweep
from tests.support.ray_cluster import ray_cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]
SHORT = (
    *("engine=simulated", "hardware=h200", "hardware.ray_accelerator_type=null", "hardware.cpus=1"),
    *("limit=4", "max_tokens=16", "engine.args.speed=100", "tracker=none"),
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ray_cluster(0, cpus=0, gpus=0, head={"num_cpus": 4, "num_gpus": 1}) as made:
        yield made


def test_a_sweep_joins_the_cluster_that_ray_address_names(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", str(cluster.address))
    done = sweep(*SHORT, f"results_dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "RAY_ADDRESS" in line]
    assert str(cluster.address) in line
    assert "ray.address=local" in line
    (row,) = read_cells(tmp_path / "default").to_pylist()
    assert row["status"] == "done"
    (held,) = map(json.loads, (tmp_path / "default" / "reservations.jsonl").read_text().splitlines())
    head: Any = cluster.head_node  # Ray's own type says None
    assert held["nodes"] == [head.node_id]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("ray.address=", "error: ray.address=: must be HOST:PORT"),
        ("ray.address=ray://127.0.0.1:10001", "error: ray.address=ray://127.0.0.1:10001: a sweep cannot run"),
        ("ray.address=127.0.0.1:1", "error: ray.address=127.0.0.1:1: nothing answers there"),
    ],
)
def test_an_address_without_a_cluster_is_said_in_one_line(argument: str, says: str, tmp_path: Path) -> None:
    done = sweep(*SHORT, argument, f"results_dir={tmp_path}", timeout_s=30)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert says in line
