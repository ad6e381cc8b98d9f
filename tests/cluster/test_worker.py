"""A worker's slot, with an engine that is a script."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.spec import WorkerSpec, log_path
from orchestrator.cluster.worker import EngineWorker
from orchestrator.config.schema import EngineConfig, ModelConfig, SweepConfig
from orchestrator.engines import ADAPTERS
from orchestrator.errors import EngineError
from tests.engines.fake import is_alive, tree
from tests.engines.test_standby_process import adapter_of


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerSpec:
    monkeypatch.setitem(ADAPTERS, "vllm", adapter_of("ok"))
    config = SweepConfig(
        model=ModelConfig(name="fake-model", hub_id="some/model"),
        engine=EngineConfig(name="vllm", python=sys.executable, version="1"),
        weights="dummy",
        prepare="on",
    )
    config.timeout.engine_stop_s = 1.0
    return WorkerSpec("first", "label", "s", tmp_path, config, 1, 1, 0)


@pytest.fixture
def worker() -> Iterator[EngineWorker]:
    made = EngineWorker()
    yield made
    made.stop()


def standby_pids(worker: EngineWorker) -> list[int]:
    assert worker._next is not None
    return tree(worker._next[1].server.pid)


def test_a_slot_serves_one_deployment_after_another(worker: EngineWorker, spec: WorkerSpec) -> None:
    assert not worker.start(spec).prepared
    first = worker.endpoint()
    worker.end()
    assert not worker.start(replace(spec, deployment_id="second")).prepared
    assert worker.endpoint() != first


def test_the_next_engine_is_prepared_beside_the_one_that_serves(
    worker: EngineWorker, spec: WorkerSpec
) -> None:
    worker.start(spec)
    following = replace(spec, deployment_id="second")
    assert worker.prepare(following)
    assert worker.prepare(following)  # it is already there
    pids = standby_pids(worker)
    worker.end()
    assert all(map(is_alive, pids))
    assert worker.start(following).prepared
    logs = spec.study_dir / "logs" / "second"
    assert [log.name for log in logs.iterdir()] == ["engine.log"]
    worker.stop()
    assert not any(map(is_alive, pids))


def test_another_preparation_replaces_the_one_before(worker: EngineWorker, spec: WorkerSpec) -> None:
    assert worker.prepare(replace(spec, deployment_id="second"))
    pids = standby_pids(worker)
    assert worker.prepare(replace(spec, deployment_id="third"))
    assert not any(map(is_alive, pids))
    assert not worker.start(replace(spec, deployment_id="second")).prepared
    assert worker.start(replace(spec, deployment_id="third")).prepared


def test_a_stopped_slot_leaves_nothing_and_starts_nothing(worker: EngineWorker, spec: WorkerSpec) -> None:
    assert worker.prepare(spec)
    pids = standby_pids(worker)
    worker.stop()
    assert not any(map(is_alive, pids))
    assert not worker.prepare(spec)
    with pytest.raises(EngineError, match="cancelled"):
        worker.start(spec)


def test_a_start_can_be_stopped(
    worker: EngineWorker, spec: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ADAPTERS, "vllm", adapter_of("never"))
    stopper = threading.Timer(1.0, worker.stop)
    stopper.start()
    with pytest.raises(EngineError) as caught:
        worker.start(spec)
    assert caught.value.cause == "cancelled"
    stopper.join()


def test_what_cannot_be_prepared_is_no_error(worker: EngineWorker, spec: WorkerSpec, tmp_path: Path) -> None:
    missing = replace(spec.config, engine=replace(spec.config.engine, python="/no/such/python"))
    assert not worker.prepare(replace(spec, config=missing))
    assert not worker.prepare(replace(spec, study_dir=tmp_path / "absent"))
    assert not worker.prepare(replace(spec, config=replace(spec.config, prepare="off")))
    assert not worker.prepare(replace(spec, nodes=2))
    external = replace(spec.config, engine=EngineConfig(name="external"))
    assert not worker.prepare(replace(spec, config=external))


def test_by_itself_only_an_engine_with_a_gpu_is_prepared(worker: EngineWorker, spec: WorkerSpec) -> None:
    assert not worker.prepare(replace(spec, config=replace(spec.config, prepare="auto")))


def test_two_engines_of_a_deployment_that_start_together_have_a_log_each(spec: WorkerSpec) -> None:
    assert [log_path(spec).name for _ in range(3)] == ["engine.log", "engine.1.log", "engine.2.log"]


def test_no_log_is_empty(worker: EngineWorker, spec: WorkerSpec) -> None:
    worker.start(spec)
    following = replace(spec, deployment_id="second")
    assert worker.prepare(following)
    worker.end()
    assert worker.start(following).prepared
    logs = list(spec.study_dir.glob("logs/*/*.log"))
    assert len(logs) == 2
    assert all(log.stat().st_size for log in logs)
