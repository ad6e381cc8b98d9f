"""Deployments whose engines are simulated and sleep, as a worker is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.cell import Cell
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.cluster.worker import EngineWorker
from orchestrator.engines.server import Server
from orchestrator.plan.plan import Job, make_plan
from tests.support.compose import config_of

FAST = {
    **{"speed": 100, "start-seconds": 20, "first-sleep-seconds": 10, "sleep-seconds": 5, "wake-seconds": 5},
    **{"mean-output-tokens": 20},
}
OPTS = ("none", "fp8", "kv-fp8", "prefix-cache")


def slots(
    folder: Path,
    *typed: str,
    mode: str = "on",
    of: tuple[str, ...] = OPTS,
    args: Mapping[str, object] | None = None,
) -> list[tuple[WorkerSpec, Cell]]:
    """A deployment for each optimization, and its cell, which takes a moment."""
    engine = [f"++engine.args.{name}={value}" for name, value in {**FAST, **(args or {})}.items()]
    common = ("engine=simulated", "hardware=h200", "model=r1-7b", "limit=2", "max_tokens=32", *typed)
    common = (*common, "tracker=none", f"engine.sleep={mode}", f"results_dir={folder}", *engine)
    jobs = [Job((f"opt={opt}",), config_of(*common, f"opt={opt}")) for opt in of]
    plan = make_plan(jobs)
    plan.study_dir.mkdir(parents=True, exist_ok=True)
    found = {one.cells[0].opts: one for one in plan.deployments}
    return [
        (
            WorkerSpec(one.deployment_id, one.label, plan.study, plan.study_dir, one.config, 1, 1, one.gpus),
            one.cells[0],
        )
        for one in (found[(opt,)] for opt in of)
    ]


def specs(folder: Path, *typed: str, **options: Any) -> list[WorkerSpec]:
    return [spec for spec, _ in slots(folder, *typed, **options)]


def serving(worker: EngineWorker) -> Server:
    assert worker._serving is not None
    server = worker._serving.server
    assert isinstance(server, Server)
    return server
