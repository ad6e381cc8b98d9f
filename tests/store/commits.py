"""Commits of one small cell, and processes that are killed while they commit it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.records import Grade, Sample
from orchestrator.store.write import commit
from tests.support.timelines import record

RECORDS = [record(0.0, [(1.0, 1, 0), (2.0, 1, 0)], request_id=f"r{i}") for i in range(3)]
GRADES = [Grade("1", True)] * 3
SAMPLES = [Sample(0.0, running=1.0), Sample(1.0, running=2.0)]


STEPS: tuple[tuple[Any, str], ...] = (
    (pq, "write_table"),
    (os, "fsync"),
    (os, "link"),
    (Path, "write_bytes"),
    (Path, "mkdir"),
    (Path, "replace"),
    (Path, "unlink"),
)


def row(status: str = "done") -> dict[str, Any]:
    return {"status": status, "study": "s", "gpus": 0, "opt": ["none"], "started_at": datetime.now(UTC)}


def store(
    study: Path,
    cell_id: str = "c1",
    status: str = "done",
    requests: int = 3,
    attempt_id: str | None = None,
    samples: int = 2,
) -> Path:
    return commit(
        study,
        cell_id,
        row(status),
        RECORDS[:requests],
        GRADES[:requests],
        SAMPLES[:samples],
        attempt_id=attempt_id,
    )


def leftovers(study: Path) -> list[Path]:
    return sorted(path for path in study.rglob("*.tmp"))


def in_a_child(act: Callable[[], object]) -> int:
    """Runs it in a fork that never cleans up after itself; returns the exit status."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            act()
            status = 0
        except BaseException:
            status = 71
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step: int, act: Callable[[], object]) -> int:
    """Runs it in a child that is killed on entering a step: any call that changes what is on the disk."""

    def act_until_killed() -> None:
        steps = 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def step_then_call(*args: Any, **kwargs: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return step_then_call

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in STEPS:
                patch.setattr(owner, name, counted(getattr(owner, name)))
            act()

    return in_a_child(act_until_killed)
