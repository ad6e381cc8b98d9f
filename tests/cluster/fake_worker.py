"""Stands in for the actor with the engine: does at once, or wrongly, what it is told to."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import ray

from orchestrator.cell import Cell, by_key
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.cluster.worker import IDLE, Started
from orchestrator.errors import EngineError, MeasurementError
from orchestrator.measure.context import Attempt, CellOutcome, WorkerProgress
from orchestrator.measure.row import cell_row
from orchestrator.store.write import commit


class FakeWorker:
    """A cell's only override says what befalls it, ``once:`` before it: the first time only. A model's name
    says what befalls its start, up to a dash, and so does what stands behind ``!`` in a deployment's id. What
    was done is a line of ``events.jsonl`` in the study."""

    def __init__(self) -> None:
        self.spec: WorkerSpec | None = None
        self.asleep: set[str] = set()
        self.prepared: str | None = None

    def prepare(self, spec: WorkerSpec) -> bool:
        self.prepared = spec.deployment_id
        _note(spec, "prepare", self)
        return True

    def start(self, spec: WorkerSpec) -> Started:
        self.spec = spec
        was_prepared, self.prepared = self.prepared == spec.deployment_id, None
        if woken := spec.deployment_id in self.asleep:
            self.asleep.discard(spec.deployment_id)
            _note(spec, "wake", self)
        else:
            _note(spec, "start", self, prepared=was_prepared)
            befalls = spec.label.split("/")[0].rsplit("-", 1)[0]
            befalls = spec.deployment_id.partition("!")[2] or befalls
            _befall(spec, befalls, f"start-{spec.deployment_id}")
        return Started(0.01, was_prepared, woken)

    def run(self, cell: Cell, attempt: Attempt) -> CellOutcome:
        assert self.spec is not None
        place = {"block": attempt.block, "position": attempt.block_position}
        _note(self.spec, "run", self, cell=cell.cell_id, attempt=attempt.number, **place)
        does = by_key(cell.overrides)["does"]
        alive = _befall(self.spec, does, cell.cell_id)
        _commit(self.spec, cell, attempt)
        if does == "once:stored, then die" and attempt.number == 1:
            os._exit(1)
        return CellOutcome(cell.cell_id, "done", None, (), 0, None, None, alive, None if alive else "crash")

    def serves(self, deployment_id: str) -> bool:
        return self.spec is not None and self.spec.deployment_id == deployment_id

    def rest(self) -> bool:
        if self.spec is not None:
            self.asleep.add(self.spec.deployment_id)
        return self.spec is not None

    def end(self) -> None: ...

    def stop(self) -> None: ...

    def progress(self) -> WorkerProgress:
        return IDLE


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def _note(spec: WorkerSpec, kind: str, worker: FakeWorker, **more: Any) -> None:
    event = {
        "kind": kind,
        "deployment": spec.deployment_id,
        "node": ray.get_runtime_context().get_node_id(),
        "pid": os.getpid(),
        "at_s": time.monotonic(),
        **more,
    }
    with (spec.study_dir / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def _befall(spec: WorkerSpec, what: str, of: str) -> bool:
    """Whether the engine lives on."""
    if what.startswith("once:"):
        marker = spec.study_dir / f"{of}.befallen"
        if marker.exists():
            return True
        marker.touch()
    match what.removeprefix("once:"):
        case "crash":
            raise EngineError("it crashed", "crash")
        case "oom":
            raise EngineError("out of memory", "oom")
        case "die":
            os._exit(1)
        case "hang":
            time.sleep(600)
        case "wrong":
            raise MeasurementError("it cannot be measured")
        case "disk full":
            raise OSError(errno.ENOSPC, "No space left on device")
        case "unreadable":
            raise OSError(errno.EIO, "Input/output error")
        case "dead afterwards":
            return False
        case other if other.startswith("waits for start "):
            while len(events(spec.study_dir, "start")) < int(other.split()[3]):
                time.sleep(0.1)
        case other if other.startswith("takes "):
            time.sleep(float(other.split()[1]))
    return True


def _commit(spec: WorkerSpec, cell: Cell, attempt: Attempt) -> None:
    row = cell_row(
        cell,
        study=spec.study,
        status="done",
        attempts=attempt.number,
        duration_s=0.0,
        deployment_start_s=0.01,
        engine_version="v",
        gpus=spec.gpus,
        nodes=spec.nodes,
        items=0,
    )
    commit(spec.study_dir, cell.cell_id, row, (), (), (), attempt_id=attempt.attempt_id)
