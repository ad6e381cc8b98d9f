"""Drivers that share a study, as the tests of claims need them: elsewhere, killed, many at once."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store import files, lease
from orchestrator.store.claims import Claims
from orchestrator.store.process import Process
from tests.support.clock import Clock

FORK = multiprocessing.get_context("fork")
ELSEWHERE = Process("another.host", "f" * 16, 1, 1)


def everything(study: Path) -> list[str]:
    return sorted(str(path.relative_to(study)) for path in study.rglob("*"))


@contextmanager
def from_elsewhere() -> Iterator[None]:
    """What is written inside is by a process that nobody here can see."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (lease, files):
            patch.setattr(module, "this_process", lambda: ELSEWHERE)
        patch.setattr("orchestrator.store.claims.this_process", lambda: ELSEWHERE)
        yield


def in_children(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What ``act(number)`` returned in each of as many processes, which begin and end at one moment."""
    barrier, results = FORK.Barrier(count), FORK.Queue()

    def child(number: int) -> None:
        barrier.wait(30)
        results.put((number, act(number)))
        barrier.wait(30)  # whoever ends is gone, and what it had is taken

    children = [FORK.Process(target=child, args=(number,)) for number in range(count)]
    for one in children:
        one.start()
    found = dict(results.get(timeout=60) for _ in children)
    for one in children:
        one.join(30)
    return [found[number] for number in range(count)]


def killed_driver(study: Path, cell_ids: list[str]) -> int:
    """The pid of a driver that was killed while it had these."""

    def drive(ready: Any) -> None:
        claims = Claims(study, "killed")
        claims.__enter__()
        assert all(claims.take(cell_id) for cell_id in cell_ids)
        ready.send(None)
        time.sleep(60)

    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=drive, args=(sender,), daemon=True)
    child.start()
    sender.close()  # a child that ends without a word is an EOFError then
    try:
        assert receiver.poll(30)
        receiver.recv()
    finally:
        child.kill()
        child.join()
    assert child.pid is not None
    return child.pid


def taken_elsewhere(study: Path, clock: Clock, cell_id: str = "c1") -> Claims:
    """The claims of a driver that nobody here can see, which has the cell."""
    with from_elsewhere():
        far = Claims(study, "far", now=clock)
        assert far.take(cell_id)
    return far
