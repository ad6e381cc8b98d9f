"""A sweep's progress as a person follows it in a terminal: what holds which GPU, what runs, what failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import cycle, islice
from string import ascii_lowercase, ascii_uppercase, digits

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.plan.plan import Deployment
from orchestrator.progress.state import ASLEEP, STARTING, WAITING, Held, Progress, begins, shares

NAMES = ascii_uppercase + digits + ascii_lowercase
COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_red", "bright_cyan", "bright_green")
FREE, OTHERS, HELD = "·", "×", "○"
FAILURES, NODES = 5, 16


class Display:
    """``rows`` is how many lines of deployments are shown. A deployment keeps its letter while it lasts."""

    def __init__(self, progress: Progress, rows: int = 20) -> None:
        self._progress = progress
        self._rows = rows
        self._marks: dict[str, tuple[str, str]] = {}

    def render(self) -> Group:
        parts: Sequence[RenderableType | None] = (
            self._heading(),
            self._gpu_map(),
            self._waits(),
            self._deployments(),
            self._failures(),
        )
        return Group(*(part for part in parts if part is not None))

    def _heading(self) -> Group:
        progress = self._progress
        cells = progress.cells()
        counts = [f"{count:,} {name}" for name, count in cells.items() if count or name == "done"]
        pace = []
        if (left_s := progress.left_s()) is not None and progress.finished < progress.total:
            end = datetime.now() + timedelta(seconds=left_s)
            pace.append(f"about {duration(left_s)} left, until {end:%H:%M}")
        if tokens := progress.token_per_s():
            pace.append(f"{tokens:,.0f} tokens/s")
        if (efficiency := progress.efficiency()) is not None:
            pace.append(f"{100 * efficiency:.0f} % of reserved time measured")
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(progress.total, 1), completed=progress.finished, width=20)
        grid.add_row(f"{progress.finished:,}/{progress.total:,} cells", bar, Text(" · ".join(counts)))
        return Group(grid, Text(" · ".join(pace))) if pace else Group(grid)

    def _gpu_map(self) -> Table | None:
        """One character a GPU; the sweep's first, then others', then free ones."""
        progress = self._progress
        if not any(node.gpus for node in progress.nodes.values()):
            return None
        grid = Table.grid(padding=(0, 1))
        by_node = shares(progress)
        shown = sorted(progress.nodes.items(), key=lambda one: one[1].name)
        for key, node in shown[:NODES]:
            line = Text()
            for deployment, gpus in by_node.get(key, ()):
                mark, colour = (HELD, "dim") if deployment is None else self._mark(deployment)
                line.append(f"{mark} " * round(gpus), colour)
            line.append(f"{OTHERS} " * round(node.others), "dim red")
            line.append(f"{FREE} " * (round(node.gpus) - len(line.plain) // 2), "dim")
            grid.add_row(Text(node.name), line)
        if len(shown) > NODES:
            grid.add_row(Text("…"), Text(f"{len(shown) - NODES} more nodes", "dim"))
        states = progress.gpus()
        said = [f"{FREE} free"] * bool(states.get("idle")) + [f"{OTHERS} others'"] * bool(
            states.get("others")
        )
        if any(held.deployment is None for held in progress.held.values()):
            said.append(f"{HELD} held, between deployments")
        if said:
            grid.add_row("", Text("  ".join(said), "dim"))
        return grid

    def _waits(self) -> Text | None:
        """What the deployments wait for that is not only their turn."""
        lines = [f"waiting: {line}" for line in self._progress.waits[:FAILURES]]
        return Text("\n".join(lines), "yellow", overflow="ellipsis", no_wrap=True) if lines else None

    def _deployments(self) -> Table | None:
        progress = self._progress
        table = Table(box=None, pad_edge=False)
        for name in ("", "deployment", "GPUs", "cells", "doing", "requests", "tokens", "for"):
            right = name in ("GPUs", "cells", "requests", "tokens", "for")
            table.add_column(name, justify="right" if right else "left", no_wrap=name != "doing")
        lines = list(self._lines())
        for line in lines[: self._rows]:
            table.add_row(*line)
        counted = {"more running": len(lines) - self._rows}
        counted |= {phase: progress.deployments()[phase] for phase in (ASLEEP, WAITING)}
        more = [f"{count} {what}" for what, count in counted.items() if count > 0]
        if more:
            table.add_row("", Text(", ".join(more), "dim", no_wrap=True))
        return table if table.row_count else None

    def _lines(self) -> Iterator[tuple[Text | str, ...]]:
        """One for each engine."""
        progress, now_s = self._progress, self._progress.now()
        runs = {run.slot: run for run in progress.runs.values()}
        for slot, held in progress.held.items():
            if (deployment := held.deployment) is None:
                continue
            mark, colour = self._mark(deployment)
            first = (
                Text(mark, colour),
                Text(deployment.label),
                f"{deployment.gpus:g}" if deployment.gpus else "",
                f"{progress.done[deployment.deployment_id]}/{len(deployment.cells)}",
            )
            if (run := runs.get(slot)) is None:
                yield (*first, self._between(held), "", "", duration(now_s - held.phase_since_s))
                continue
            load = None if run.phase == "grade" else run.load  # then nothing is sent any more
            yield (
                *first,
                Text(f"{run.phase}: {progress.plan.label(run.cell)}"),
                f"{load.finished}/{load.requests}" if load else "",
                f"{load.output_tokens:,}" if load else "",
                duration(now_s - run.phase_since_s),
            )

    def _between(self, held: Held) -> str:
        """What an engine does that measures nothing."""
        if held.deployment and not self._progress.left(held.deployment):
            return "leaving the server" if held.deployment.theirs else "stopping the engine"
        return begins(held.deployment) if held.deployment and held.phase == STARTING else held.phase

    def _failures(self) -> Table | None:
        failures = self._progress.failures
        if not failures:
            return None
        grid = Table.grid(padding=(0, 1))
        if len(failures) > FAILURES:
            grid.add_row("", Text(f"{len(failures) - FAILURES} earlier ones", "dim"))
        for one in failures[-FAILURES:]:
            why = next(iter(one.reason.strip().splitlines()), "")
            colour = "red" if one.status == "failed" else "yellow"
            grid.add_row(
                Text(one.status, colour), Text(f"{one.label}: {why}", overflow="ellipsis", no_wrap=True)
            )
        return grid

    def _mark(self, deployment: Deployment) -> tuple[str, str]:
        """Its letter and colour: the first letter that no deployment shown has."""
        key = deployment.deployment_id
        live = {held.deployment.deployment_id for held in self._progress.held.values() if held.deployment}
        if key not in self._marks:
            self._marks = {one: mark for one, mark in self._marks.items() if one in live}
            used = {mark for mark, _ in self._marks.values()}
            free = next((index for index, name in enumerate(NAMES) if name not in used), len(NAMES) - 1)
            self._marks[key] = NAMES[free], next(islice(cycle(COLOURS), free, None))
        return self._marks[key]


def duration(seconds: float) -> str:
    """As short as it can be read: ``42 s``, ``7 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
