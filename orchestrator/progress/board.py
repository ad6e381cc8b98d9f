"""What a sweep is doing, for a person: live in a terminal, plain lines elsewhere, metrics in Ray."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.cell import Cell
from orchestrator.measure.context import CellOutcome, WorkerProgress
from orchestrator.plan.durations import Durations
from orchestrator.plan.plan import Deployment, Plan
from orchestrator.progress.display import Display
from orchestrator.progress.state import NodeUsage, Progress, begins
from orchestrator.track.ray_metrics import SweepMetrics

ROWS_BESIDE = 14  # of a terminal's lines, what everything but the deployments may take
REASON_CHARS = 160
PUBLISH_S = 0.5  # how often what only grows is published


class Board:
    """Collects events of the scheduler; a context manager while it shows them."""

    def __init__(
        self,
        plan: Plan,
        console: Console,
        metrics: SweepMetrics,
        committed: Callable[[Cell], None],
        durations: Durations | None = None,
    ) -> None:
        self._plan = plan
        self._console = console
        self._metrics = metrics
        self._committed = committed
        self.state = Progress(plan, durations=durations)
        self._waits: list[str] = []
        self._reserved_s = self._window_s = self._published_s = 0.0
        display = Display(self.state, max(4, console.height - ROWS_BESIDE))
        self._live = Live(
            get_renderable=display.render, console=console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> Board:
        if self._console.is_terminal:
            self._live.start()
        self._publish()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._publish()
        if self._console.is_terminal:
            self._live.stop()
        self._say_efficiency()

    def nodes(self, nodes: Mapping[str, NodeUsage]) -> None:
        """The cluster's live nodes, by their id: their GPUs and how many others hold."""
        self.state.nodes = dict(nodes)
        self._publish()

    def say(self, text: str) -> None:
        """A line of its own; from any thread."""
        self._say(text)

    def waits(self, lines: Sequence[str]) -> None:
        """What the deployments that wait are waiting for; empty when for nothing but their turn. Said when it
        is something else than before: seconds and dates in it count down, and are no other thing."""
        kinds = [line.partition(";")[0] for line in lines]
        for kind, line in zip(kinds, lines, strict=True):
            if kind not in self._waits:
                self._say(f"waiting: {line}")
        self._waits = kinds
        self.state.waits = tuple(lines)

    def placed(
        self, deployment: Deployment, nodes: Sequence[str], gpus_per_node: float, slot: Hashable
    ) -> None:
        """An engine of the deployment is on these nodes from now on; ``slot`` tells it from others of it, and
        stays the same when it serves one deployment after another."""
        self.state.hold(slot, deployment, nodes, gpus_per_node)
        self._publish()

    def parked(self, slot: Hashable) -> None:
        """The slot is still held, and serves none."""
        if (held := self.state.held.get(slot)) is not None:
            self.state.hold(slot, None, held.nodes, held.gpus)
        self._publish()

    def freed(self, slot: Hashable) -> None:
        """The slot's GPUs were given back."""
        self.state.free(slot)
        self._publish()

    def starting(self, deployment: Deployment, slot: Hashable) -> None:
        self.state.start(slot)
        self._publish()
        engines = sum(held.deployment is deployment for held in self.state.held.values())
        doing = begins(deployment) if engines == 1 else "starting a further engine"
        self._say(f"{deployment.label}: {doing} for {self.state.left(deployment)} cells")

    def goes_on(self, deployment: Deployment, slot: Hashable) -> None:
        """The engine that the slot has kept serves these cells too."""
        self.state.start(slot)
        self.state.serve(slot)
        self._publish()
        left = self.state.left(deployment)
        self._say(f"{deployment.label}: goes on with the engine that serves already, for {left} cells")

    def asleep(self, deployment: Deployment, slot: Hashable) -> None:
        """The deployment's engine sleeps on the slot until its next turn."""
        self.state.sleep(slot, deployment)
        self._publish()

    def waking(self, slot: Hashable) -> None:
        """The engine of the deployment that has the slot wakes there."""
        self.state.wake(slot)
        self._publish()

    def woken(self, slot: Hashable) -> None:
        self.state.serve(slot)
        self._publish()

    def serving(self, deployment: Deployment, slot: Hashable, started_in_s: float) -> None:
        self.state.serve(slot)
        self._publish()
        self._say(f"{deployment.label}: ready after {started_in_s:.1f} s")

    def measuring(self, deployment: Deployment, slot: Hashable, cell: Cell) -> None:
        self.state.measure(slot, deployment, cell)
        self._publish()

    def progress(self, deployment: Deployment, load: WorkerProgress) -> None:
        if load.cell_id in self.state.runs:
            self.state.load(load)
            tokens = self.state.running_tokens(deployment)
            self._metrics.set("cell_output_tokens", tokens, deployment=deployment.label)
            if self.state.now() - self._published_s > PUBLISH_S:
                self._publish()

    def finished(self, deployment: Deployment, cell: Cell, outcome: CellOutcome) -> None:
        self.state.finish(deployment, cell, outcome)
        count = f"[{self.state.finished}/{self.state.total}]"
        self._say(f"{count} {outcome.status:<7} {self._plan.label(cell)}{_figures(outcome)}")
        self._metrics.add("output_tokens", outcome.output_tokens)
        self._metrics.add("finished_cells", 1, status=outcome.status)
        self._publish()
        self._committed(cell)

    def settled_elsewhere(self, deployment: Deployment, cell: Cell, status: str) -> None:
        """Another driver of the study has measured the cell."""
        self.state.settle(deployment, cell, status)
        count = f"[{self.state.finished}/{self.state.total}]"
        self._say(f"{count} {status:<7} {self._plan.label(cell)}  (measured by another driver)")
        self._publish()

    def taken_over(self, cell: Cell, slot: Hashable) -> None:
        """Another driver has the cell that was measured in the slot."""
        self.state.serve(slot)
        self._say(f"{self._plan.label(cell)}: another driver of this study has taken it over")

    def waiting_for_others(self, cells: int) -> None:
        """Nothing is left here but cells that other drivers are measuring."""
        self._say(f"waiting for {cells} cells that other drivers of this study are measuring")

    def lost(self, deployment: Deployment, cell: Cell | None, reason: str) -> None:
        """Something befell the cell, or without one the engine's start, and it is tried once more."""
        what = "the start" if cell is None else self._plan.label(cell)
        lines = reason.strip().splitlines() or ["it was lost"]
        short = lines[0] if len(lines[0]) <= REASON_CHARS else f"{lines[0][:REASON_CHARS]}…"
        self._say(f"{deployment.label}: {what} is tried again: {short}")

    def ended(self, deployment: Deployment) -> None:
        self._metrics.set("cell_output_tokens", 0, deployment=deployment.label)
        self._publish()

    def _publish(self) -> None:
        state, metrics = self.state, self._metrics
        self._published_s = state.now()
        metrics.set_each("cells", "status", state.cells())
        metrics.set_each("deployments", "phase", state.deployments())
        metrics.set_each("gpus", "state", state.gpus())
        metrics.set("output_tokens_per_second", state.token_per_s())
        if (left_s := state.left_s()) is not None:
            metrics.set("eta_seconds", left_s)
        if (efficiency := state.efficiency()) is not None:
            metrics.set("efficiency", efficiency)
        reserved_s = state.reserved_s()
        metrics.add("reserved_gpu_seconds", reserved_s - self._reserved_s)
        metrics.add("window_gpu_seconds", state.window_s - self._window_s)
        self._reserved_s, self._window_s = reserved_s, state.window_s

    def _say_efficiency(self) -> None:
        if (efficiency := self.state.efficiency()) is None:
            return
        simulated = "SIMULATED: " if any(one.simulated for one in self._plan.deployments) else ""
        seconds = "GPU-seconds" if any(one.gpus for one in self._plan.deployments) else "seconds"
        reserved = f"{self.state.reserved_s():,.1f} reserved {seconds}"
        self._say(f"{simulated}measured {self.state.window_s:,.1f} of {reserved}: {100 * efficiency:.0f} %")

    def _say(self, text: str) -> None:
        elapsed_s = self.state.now() - self.state.began_s
        self._console.print(Text(f"{elapsed_s:7.1f} s  {text}"))


def _figures(outcome: CellOutcome) -> str:
    parts = []
    if outcome.accuracy is not None:
        parts.append(f"accuracy {100 * outcome.accuracy:.1f} %")
    if outcome.output_token_per_s is not None:
        parts.append(f"{outcome.output_token_per_s:,.1f} tokens/s")
    if outcome.status != "done":
        parts.append(outcome.reason.splitlines()[0] if outcome.reason else ", ".join(outcome.flags))
    return f"  ({'; '.join(parts)})" if parts else ""
