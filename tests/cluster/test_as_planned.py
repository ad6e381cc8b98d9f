"""What a worker checks of a plan on its node (`orchestrator.cluster.spec`): versions, weights, results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cell import ResolvedJob
from orchestrator.cluster import spec as specs
from orchestrator.cluster.ask import NodeVersion, agreed
from orchestrator.cluster.retry import may_retry
from orchestrator.cluster.spec import (
    WorkerSpec,
    check_as_planned,
    check_sees_results,
    check_serves_as_planned,
    launch_of,
    left_nonce,
)
from orchestrator.cluster.worker import EngineWorker
from orchestrator.config.schema import EngineConfig, ModelConfig, SamplingConfig, SweepConfig
from orchestrator.engines.weights import fingerprint
from orchestrator.errors import ConfigError, EngineError

FACTS = ResolvedJob("r", "1.0", {}, {}, "d", "w", "h200", 1, SamplingConfig())
NODE = """#!/bin/sh
echo '{"vllm": "2.0"}'
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerSpec:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    python = tmp_path / "python"
    python.write_text(NODE)
    python.chmod(0o755)
    config = SweepConfig(
        model=ModelConfig(name="m", hub_id="org/m"), engine=EngineConfig(name="vllm", python=str(python))
    )
    return WorkerSpec("d", "label", "s", tmp_path / "study", config, 1, 1, 0, FACTS)


def test_a_node_with_another_version_than_the_plans_is_refused(spec: WorkerSpec) -> None:
    with pytest.raises(EngineError, match=r"has version 2\.0 at .*the plan took 1\.0") as caught:
        launch_of(spec)
    assert caught.value.cause == "version_mismatch"
    assert not may_retry([caught.value.cause])


def test_a_version_that_the_user_states_is_checked_too(spec: WorkerSpec) -> None:
    spec.config.engine.version = "1.0"
    with pytest.raises(EngineError, match="the plan took"):
        launch_of(spec)


def test_the_launch_has_the_nodes_version(spec: WorkerSpec) -> None:
    assert launch_of(replace(spec, facts=replace(FACTS, engine_version=None))).version == "2.0"
    assert launch_of(replace(spec, facts=replace(FACTS, engine_version="2.0"))).version == "2.0"


def test_weights_that_are_others_on_the_node_are_refused(spec: WorkerSpec, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"0123")
    spec.config.model.path = str(model)
    planned = replace(spec, facts=replace(FACTS, model_revision=fingerprint(model)))
    check_as_planned(planned, "1.0")
    (model / "model.safetensors").write_bytes(b"4567")
    with pytest.raises(EngineError, match=r"model\.path=.*when planned") as caught:
        check_as_planned(planned, "1.0")
    assert not may_retry([caught.value.cause])


def test_a_server_that_serves_something_else_is_refused(spec: WorkerSpec) -> None:
    check_serves_as_planned(spec, {"id": "a"})  # the plan could not ask
    planned = replace(spec, facts=replace(FACTS, served={"id": "m", "root": "org/a"}))
    check_serves_as_planned(planned, {"root": "org/a", "id": "m"})
    with pytest.raises(EngineError, match=r"root is org/b, was org/a") as caught:
        check_serves_as_planned(planned, {"id": "m", "root": "org/b"})
    assert not may_retry([caught.value.cause])


def test_a_folder_of_the_same_path_is_not_the_drivers(
    spec: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(specs, "SEEN_S", 0.0)
    with left_nonce(spec.study_dir) as nonce:
        check_sees_results(replace(spec, nonce=nonce))
        with pytest.raises(EngineError, match="is another folder on node") as caught:
            check_sees_results(replace(spec, nonce="another"))
        assert caught.value.cause == "no_results_dir"
    assert not list(spec.study_dir.iterdir())


def test_a_node_that_does_not_see_the_results_says_so(
    spec: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(specs, "SEEN_S", 0.0)
    absent = tmp_path / "absent"
    with pytest.raises(EngineError, match=f"{absent} is not there on node .*every node sees") as caught:
        EngineWorker().start(replace(spec, study_dir=absent))
    assert caught.value.cause == "no_results_dir"


def test_nodes_have_to_agree_on_a_version() -> None:
    engine = EngineConfig(name="vllm")
    assert agreed(engine, [NodeVersion("a", "1"), NodeVersion("b", None)]) == "1"
    assert agreed(engine, []) is None
    with pytest.raises(ConfigError, match=r"1 on a; 2 on b"):
        agreed(engine, [NodeVersion("a", "1"), NodeVersion("b", "2")])
