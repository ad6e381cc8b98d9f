"""What a report is doing: a line with a bar that moves on a terminal, else one line a stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

HELD_S = 5.0


class Progress(Protocol):
    """Told of each stage when it begins, and how far it is where that can be counted."""

    def __call__(self, stage: str, done: int = 0, of: int | None = None) -> None: ...


def silent(stage: str, done: int = 0, of: int | None = None) -> None:
    """Says nothing."""


@contextmanager
def shown(console: Console) -> Iterator[Progress]:
    """On this console, until the block ends."""
    if not console.is_terminal:
        lines = _Lines(console)
        yield lines
        lines.flush()
        return
    columns = (SpinnerColumn(), TextColumn("report: {task.description}"), BarColumn(20, pulse_style="dim"))
    with Bars(*columns, MofNCompleteColumn(), TimeElapsedColumn(), console=console, transient=True) as bars:
        task = bars.add_task("", total=None)

        def say(stage: str, done: int = 0, of: int | None = None) -> None:
            bars.update(task, description=stage, completed=done, total=of)

        yield say


class _Lines:
    """One for each stage, with how much there is to do. Those of the first `HELD_S` come together after it,
    so that of what cannot be reported at all nothing is said but why."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._last = ""
        self._held: list[str] = []

    def __call__(self, stage: str, done: int = 0, of: int | None = None) -> None:
        if stage != self._last:
            count = "" if of is None else f" ({of:,})"
            self._held.append(f"report: {stage}{count}")
        self._last = stage
        if time.monotonic() - self._began > HELD_S:
            self.flush()

    def flush(self) -> None:
        for line in self._held:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._held.clear()
