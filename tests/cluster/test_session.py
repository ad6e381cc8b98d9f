"""The Ray that a sweep runs on (`orchestrator.cluster.session`): one of its own, or none to be had."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any

import psutil
import pytest
import ray

from orchestrator.cluster.nodes import listed_nodes
from orchestrator.cluster.session import ray_session
from orchestrator.config.schema import RayConfig
from orchestrator.errors import ConfigError
from orchestrator.track.metric_names import METRICS, exported
from orchestrator.track.ray_metrics import SweepMetrics

pytestmark = pytest.mark.timeout(180)


def metrics_page() -> str:
    (node,) = listed_nodes()
    with urllib.request.urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=5) as answer:
        page: bytes = answer.read()
    return page.decode()


def ours(before: list[psutil.Process]) -> dict[psutil.Process, str]:
    """The processes that this one has now and had not before, with their names; without what has ended."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process not in before:
                found[process] = process.name()
    return found


@pytest.mark.ray
def test_a_sweeps_state_is_among_rays_metrics_and_nothing_of_ray_is_left() -> None:
    before = psutil.Process().children(recursive=True)
    with ray_session(RayConfig(dashboard=False), 1.0) as session:
        assert session.local
        metrics = SweepMetrics("study-x")
        metrics.set_each("cells", "status", {"done": 3, "waiting": 2})
        for name, metric in METRICS.items():
            labels = dict.fromkeys(metric.labels, "x")
            metrics.set(name, 1, **labels) if metric.kind == "gauge" else metrics.add(name, 1, **labels)
        wanted = [exported(name) for name in METRICS]
        deadline = time.monotonic() + 60
        while not all(f"\n{name}{{" in (page := metrics_page()) for name in wanted):
            assert time.monotonic() < deadline, "the metrics did not appear"
            time.sleep(0.5)
        family = ours(before)
        assert set(family.values()) >= {"gcs_server", "raylet"}
    lines = [line for line in page.splitlines() if 'study="study-x"' in line]
    done = [line for line in lines if "orchestrator_cells" in line and 'status="done"' in line]
    assert {line.rsplit(" ", 1)[1] for line in done} == {"3.0"}
    assert not any(process.is_running() for process in family)


@pytest.mark.ray
def test_a_local_ray_lives_apart_with_a_dashboard_that_asks_for_a_token() -> None:
    before = psutil.Process().children(recursive=True)
    with ray_session(RayConfig(), 1.0) as session:
        family = ours(before)
        assert set(family.values()) >= {"gcs_server", "raylet"}
        for process, name in family.items():
            with suppress(ProcessLookupError):
                assert os.getpgid(process.pid) != os.getpgid(0), name
        url = session.dashboard()
        assert url is not None
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/api/cluster_status", timeout=10)
        family = ours(before)
    assert not any(process.is_running() for process in family)


@pytest.mark.parametrize(
    ("address", "where"), [(None, "a local Ray"), ("10.0.0.1:6379", "ray.address=10.0.0.1:6379")]
)
def test_a_ray_that_cannot_be_had_is_said_in_one_line(
    address: str | None, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(**options: Any) -> None:
        raise ConnectionError("\n  Could not read from the GCS\nand much more")

    monkeypatch.setattr(ray, "init", unreachable)
    with (
        pytest.raises(ConfigError) as error,
        ray_session(RayConfig(address=address, dashboard=False), 1.0),
    ):
        pass
    assert str(error.value) == f"{where}: does not answer or does not start (Could not read from the GCS)"
