"""A server that somebody else runs, in the display."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.config.schema import EngineConfig
from orchestrator.progress.state import Progress
from tests.progress.test_state import deployment, engine_lines, outcome, plan_of, started
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_server_of_others_is_looked_for_and_left(clock: Clock) -> None:
    ours = deployment("one", 0, cells=1)
    config = replace(ours.cells[0].config, engine=EngineConfig(name="external", base_url="http://h:1"))
    one = replace(ours, cells=(replace(ours.cells[0], config=config),))
    progress = Progress(plan_of(one), clock)
    started(progress, one)
    assert "looking for the server" in engine_lines(progress)[0]
    progress.finish(one, one.cells[0], outcome(one.cells[0]))
    assert "leaving the server" in engine_lines(progress)[0]
