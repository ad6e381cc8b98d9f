"""A live server and what surrounds a measurement on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.engines.server import Server
from orchestrator.engines.simulated import ADAPTER
from orchestrator.grading import LIMIT_S
from orchestrator.grading.isolated import Grader
from orchestrator.load.client.pool import ClientPool
from orchestrator.measure.context import MeasurementContext
from tests.engines.test_simulated_server import started
from tests.measure.measuring import Theirs


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Server]:
    with started(tmp_path / "log", "start-seconds=0", "enable-prefix-caching=true", speed=500.0) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Iterator[MeasurementContext]:
    with ExitStack() as stack:
        yield MeasurementContext(
            study="s",
            study_dir=tmp_path / "s",
            server=Theirs.__new__(Theirs),  # each test has its own
            external=True,
            metrics=ADAPTER.metrics,
            lazy=ADAPTER.lazy,
            engine_version=None,
            deployment_start_s=None,
            nodes=1,
            gpu_count=0,
            gpus=None,
            gpu_use=None,
            engine_pid=None,
            provenance={},
            report=lambda phase, requests, progress: None,
            cancelled=lambda: False,
            clients=stack.enter_context(ClientPool()),
            grader=stack.enter_context(Grader(LIMIT_S)),
        )
