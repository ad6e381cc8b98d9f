"""Processes that read and draw for a large report, where there is more than one CPU: threads would not help,
since neither many small columns of Parquet nor the drawing library leave the interpreter to others."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Protocol, TypeVar

from orchestrator.errors import ConfigError
from orchestrator.load.client.linux import die_with_parent

WORTH = 200  # cells, from which on starting them pays
PROCESSES = 2

T = TypeVar("T")
R = TypeVar("R")


class Mapped(Protocol):
    """What a function of a module makes of each value, in their order. All of them are begun at once."""

    def __call__(self, function: Callable[[T], R], values: Iterable[T], /) -> Iterator[R]: ...


@contextmanager
def workers(cells: int) -> Iterator[Mapped]:
    """For a report on so many cells; in this process alone where that is faster. None is left afterwards.
    Raises ConfigError where one is ended from outside."""
    if cells < WORTH or (os.cpu_count() or 1) < 2:
        yield map
        return
    pool = ProcessPoolExecutor(PROCESSES, get_context("spawn"), _begin, (os.getpid(),))
    try:
        yield pool.map
    except BrokenProcessPool:
        raise ConfigError(
            f"a process that reads and draws for the report on {cells:,} cells was ended from outside, or "
            "lacked memory; the same command begins again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """Ctrl-C is for the process that has begun it, which ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
