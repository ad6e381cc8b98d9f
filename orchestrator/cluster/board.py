"""What a sweep is doing, for a person: a live table in a terminal, plain lines elsewhere, gauges in Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from orchestrator.cell import Cell
from orchestrator.cluster.measure import CellOutcome
from orchestrator.cluster.worker import WorkerProgress
from orchestrator.plan.plan import Deployment, Plan
from orchestrator.track.ray_metrics import SweepMetrics


@dataclass(frozen=True)
class _Line:
    """One deployment's state. ``since`` is when its phase began, on the monotonic clock."""

    deployment: Deployment
    phase: str
    since: float
    cell: Cell | None = None
    done: int = 0
    load: WorkerProgress | None = None


class Board:
    """Collects events of the scheduler; a context manager while it shows them."""

    def __init__(
        self, plan: Plan, console: Console, metrics: SweepMetrics, committed: Callable[[Cell], None]
    ) -> None:
        self._plan = plan
        self._console = console
        self._metrics = metrics
        self._committed = committed
        self._lines: dict[str, _Line] = {}
        self._began = time.monotonic()
        self._total = sum(len(deployment.cells) for deployment in plan.deployments)
        self._counts = {"done": 0, "invalid": 0, "failed": 0}
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Board:
        if self._console.is_terminal:
            self._live.start()
        self._publish()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def waiting(self, deployment: Deployment) -> None:
        self._set(deployment, "waiting for resources")

    def starting(self, deployment: Deployment) -> None:
        self._set(deployment, "starting the engine")
        self._say(f"{deployment.label}: starting the engine for {len(deployment.cells)} cells")

    def serving(self, deployment: Deployment, started_in_s: float) -> None:
        self._set(deployment, "ready")
        self._say(f"{deployment.label}: ready after {started_in_s:.1f} s")

    def measuring(self, deployment: Deployment, cell: Cell) -> None:
        self._set(deployment, "warm-up", cell)
        self._publish()

    def progress(self, deployment: Deployment, load: WorkerProgress) -> None:
        line = self._lines[deployment.deployment_id]
        if line.cell is not None and load.cell_id == line.cell.cell_id:
            since = line.since if load.phase == line.phase else time.monotonic()
            self._lines[deployment.deployment_id] = replace(line, phase=load.phase, since=since, load=load)
            self._metrics.tokens(deployment.label, load)

    def finished(self, deployment: Deployment, cell: Cell, outcome: CellOutcome) -> None:
        self._counts[outcome.status] += 1
        line = self._lines.get(deployment.deployment_id)
        if line is not None:
            self._lines[deployment.deployment_id] = replace(
                line, done=line.done + 1, cell=None, phase="ready"
            )
        count = f"[{sum(self._counts.values())}/{self._total}]"
        self._say(f"{count} {outcome.status:<7} {self._plan.label(cell)}{_figures(outcome)}")
        self._metrics.cell_tokens(outcome.output_tokens)
        self._publish()
        self._committed(cell)

    def ended(self, deployment: Deployment) -> None:
        self._lines.pop(deployment.deployment_id, None)
        self._publish()

    def _set(self, deployment: Deployment, phase: str, cell: Cell | None = None) -> None:
        before = self._lines.get(deployment.deployment_id)
        done = before.done if before is not None else 0
        self._lines[deployment.deployment_id] = _Line(deployment, phase, time.monotonic(), cell, done)
        self._publish()

    def _publish(self) -> None:
        live = sum(line.phase not in ("waiting for resources",) for line in self._lines.values())
        running = sum(line.cell is not None for line in self._lines.values())
        waiting = self._total - sum(self._counts.values()) - running
        self._metrics.cells(self._counts | {"running": running, "waiting": waiting})
        self._metrics.deployments(live)

    def _say(self, text: str) -> None:
        elapsed = time.monotonic() - self._began
        self._console.print(f"{elapsed:7.1f} s  {text}", markup=False, highlight=False)

    def _render(self) -> Table:
        finished = sum(self._counts.values())
        table = Table(
            box=None,
            pad_edge=False,
            title_justify="left",
            title=f"{finished}/{self._total} cells{self._eta()}",
        )
        for name in ("deployment", "cells", "phase", "requests", "tokens", "for"):
            table.add_column(name, overflow="fold")
        for line in self._lines.values():
            load = line.load
            table.add_row(
                line.deployment.label,
                f"{line.done}/{len(line.deployment.cells)}",
                f"{line.phase}{f': {self._plan.label(line.cell)}' if line.cell else ''}",
                f"{load.finished}/{load.requests}" if load and line.cell else "",
                f"{load.output_tokens:,}" if load and line.cell else "",
                f"{time.monotonic() - line.since:.0f} s",
            )
        return table

    def _eta(self) -> str:
        finished = sum(self._counts.values())
        if not finished:
            return ""
        left = (time.monotonic() - self._began) / finished * (self._total - finished)
        return f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left"


def _figures(outcome: CellOutcome) -> str:
    parts = []
    if outcome.accuracy is not None:
        parts.append(f"accuracy {100 * outcome.accuracy:.1f} %")
    if outcome.output_token_per_s is not None:
        parts.append(f"{outcome.output_token_per_s:,.1f} tokens/s")
    if outcome.status != "done":
        parts.append(outcome.reason.splitlines()[0] if outcome.reason else ", ".join(outcome.flags))
    return f"  ({'; '.join(parts)})" if parts else ""
