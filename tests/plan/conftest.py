"""Plans that depend neither on the engines that are installed here nor on the shell that runs the tests."""

from __future__ import annotations

import os

import pytest

from orchestrator.config.schema import EngineConfig
from orchestrator.engines.environment import ignored
from orchestrator.engines.version import engine_version
from orchestrator.plan import resolve_job

VERSION = "0.32.0"  # where no engine is installed; the plan would note that it knows none


@pytest.fixture(autouse=True)
def _planned_alike_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def known(engine: EngineConfig) -> str:
        return engine_version(engine) or VERSION

    monkeypatch.setattr(resolve_job, "engine_version", known)
    for name in ignored(os.environ):
        monkeypatch.delenv(name)
