from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from orchestrator.cluster.nodes import listed_nodes
from orchestrator.cluster.session import ray_session
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.cluster.worker import EngineWorker
from orchestrator.config.schema import RayConfig, SweepConfig
from orchestrator.errors import EngineError
from orchestrator.track.metric_names import METRICS, exported
from orchestrator.track.ray_metrics import SweepMetrics

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def metrics_page() -> str:
    (node,) = listed_nodes()
    with urllib.request.urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=5) as answer:
        page: bytes = answer.read()
    return page.decode()


def test_a_sweeps_state_is_among_rays_metrics_and_nothing_of_ray_is_left() -> None:
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
        family = psutil.Process().children(recursive=True)
    lines = [line for line in page.splitlines() if 'study="study-x"' in line]
    done = [line for line in lines if "orchestrator_cells" in line and 'status="done"' in line]
    assert {line.rsplit(" ", 1)[1] for line in done} == {"3.0"}
    assert not any(process.is_running() for process in family)


def test_a_local_ray_lives_apart_with_a_dashboard_that_is_not_waited_for() -> None:
    with ray_session(RayConfig(), 1.0) as session:
        family = psutil.Process().children(recursive=True)
        assert {"gcs_server", "raylet"} <= {process.name() for process in family}
        assert os.getpgid(0) not in {os.getpgid(process.pid) for process in family}
        url = session.dashboard()
        assert url is not None
        with pytest.raises(urllib.error.HTTPError, match="401"):  # it asks for a token
            urllib.request.urlopen(f"{url}/api/cluster_status", timeout=10)
        family = psutil.Process().children(recursive=True)
    assert not any(process.is_running() for process in family)


def test_a_node_that_does_not_see_the_results_says_so(tmp_path: Path) -> None:
    spec = WorkerSpec("d", "m/vllm/none", "s", tmp_path / "absent", SweepConfig(), 1, 1, 0)
    with pytest.raises(EngineError, match="every node sees"):
        EngineWorker().start(spec)
