"""What planning asks of a cluster's nodes, of servers and of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cluster.virtual import virtual_cluster
from orchestrator.cluster.ask import ask
from orchestrator.config.schema import SweepConfig
from orchestrator.engines import revisions
from orchestrator.plan.known import engine_key
from tests.support.compose import config_of


def on_nodes(tmp_path: Path, *more: str) -> SweepConfig:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"vllm": "7.0"}\'\n')
    python.chmod(0o755)
    return config_of("engine=vllm", f"engine.python={python}", "model=r1-7b", *more)


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_the_version_is_that_of_the_nodes_with_the_hardware(tmp_path: Path) -> None:
    with virtual_cluster(nodes=2, gpus=1, cpus=2.0, gpu_type="H200") as cluster:
        where = f"ray.address={cluster.address}"
        here = on_nodes(tmp_path, "hardware=h200", where)
        elsewhere = on_nodes(tmp_path, "hardware=l40s", where)
        assert ask([here], tmp_path).versions == {engine_key(here.engine): "7.0"}
        assert ask([elsewhere], tmp_path).versions == {}


def test_without_a_cluster_no_node_is_asked(tmp_path: Path) -> None:
    assert ask([on_nodes(tmp_path, "hardware=h200")], tmp_path).versions == {}


def test_the_hub_comes_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = on_nodes(tmp_path, "hardware=h200", "model.hub_id=org/m", "model.revision=null")
    monkeypatch.setattr(revisions, "cached", lambda source: "c" * 40)
    monkeypatch.setattr(revisions, "asked", lambda source: "a" * 40)
    assert ask([config], tmp_path).revisions == {"org/m": "a" * 40}

    def unreachable(source: str) -> str:
        raise OSError("the hub cannot be reached: no route")

    monkeypatch.setattr(revisions, "asked", unreachable)
    known = ask([config], tmp_path)
    assert known.revisions == {"org/m": "c" * 40}
    assert known.notes == ("the hub cannot be reached: no route",)
    monkeypatch.setattr(revisions, "cached", lambda source: None)
    assert ask([config], tmp_path).revisions == {}


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    config = config_of("engine=external", "engine.base_url=http://127.0.0.1:1", "hardware=cpu")
    known = ask([config], tmp_path)
    assert known.served == {}
    assert "nothing answers there" in known.notes[0]
