"""Engines that sleep, in the state that is shown."""

from __future__ import annotations

from orchestrator.progress.state import PHASES, NodeUsage, Progress
from tests.progress.test_state import deployment, plan_of, started
from tests.support.clock import Clock


def test_engines_that_sleep_are_told_from_those_that_wait() -> None:
    clock = Clock()
    one, other = deployment("one", 1, cells=2), deployment("other", 1, cells=2)
    progress = Progress(plan_of(one, other), clock)
    progress.nodes = {"a": NodeUsage("node-1", 1)}
    started(progress, one, "x", "a")
    progress.serve("x")
    progress.sleep("x", one)
    progress.hold("x", other, ["a"], 1)
    assert progress.deployments() == dict.fromkeys(PHASES, 0) | {"asleep": 1, "starting": 1}
    progress.sleep("x", other)
    progress.hold("x", one, ["a"], 1)
    progress.wake("x")
    assert progress.deployments() == dict.fromkeys(PHASES, 0) | {"asleep": 1, "waking": 1}
    progress.serve("x")
    assert progress.deployments() == dict.fromkeys(PHASES, 0) | {"asleep": 1, "ready": 1}
    progress.free("x")
    assert progress.deployments() == dict.fromkeys(PHASES, 0) | {"waiting": 2}
