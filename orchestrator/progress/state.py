"""How far a sweep is: what the scheduler reports, and what follows from it. No output, no Ray.

Times are seconds on the clock that `Progress` is given.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.cell import Cell
from orchestrator.measure.context import CellOutcome, WorkerProgress
from orchestrator.plan.durations import Durations
from orchestrator.plan.plan import Deployment, Plan

WAITING, STARTING, ASLEEP = "waiting", "starting", "asleep"
WAKING, READY, MEASURING = "waking", "ready", "measuring"
PHASES = (WAITING, STARTING, ASLEEP, WAKING, READY, MEASURING)
ETA_AGE_S = 2.0


@dataclass(frozen=True)
class NodeUsage:
    """A node's GPUs, and how many of them others hold."""

    name: str
    gpus: float
    others: float = 0.0


@dataclass(frozen=True)
class Held:
    """A slot that the sweep holds: ``gpus`` on each of ``nodes``, for an engine of a deployment that has been
    in ``phase`` since ``phase_since_s``, or for none just now. Engines of the deployments ``asleep`` sleep
    there."""

    deployment: Deployment | None
    nodes: tuple[str, ...]
    gpus: float
    weight: float  # what it counts for in reserved seconds
    since_s: float
    phase: str
    phase_since_s: float
    asleep: frozenset[str] = frozenset()

    @property
    def total(self) -> float:
        return self.gpus * max(1, len(self.nodes))


@dataclass(frozen=True)
class Run:
    """A cell on a slot's engine; ``load`` is what the worker said last, at ``at_s``."""

    slot: Hashable
    deployment: Deployment
    cell: Cell
    since_s: float
    phase: str = "warm-up"
    phase_since_s: float = 0.0
    load: WorkerProgress | None = None
    at_s: float = 0.0
    token_per_s: float = 0.0


@dataclass(frozen=True)
class Failure:
    label: str
    status: str
    reason: str


class Progress:
    """The sweep's state, changed by events."""

    def __init__(
        self, plan: Plan, now: Callable[[], float] = time.monotonic, durations: Durations | None = None
    ) -> None:
        """``durations`` are read here, and learnt by whoever runs the plan."""
        self.plan = plan
        self.durations = durations or Durations.learnt_from(plan.cells)
        self.now = now
        self.began_s = now()
        self.total = sum(len(deployment.cells) for deployment in plan.deployments)
        self.counts: Counter[str] = Counter(done=0, invalid=0, failed=0)
        self.failures: list[Failure] = []
        self.runs: dict[str, Run] = {}
        self.held: dict[Hashable, Held] = {}
        self.nodes: dict[str, NodeUsage] = {}
        self.waits: tuple[str, ...] = ()
        self.done: Counter[str] = Counter()
        self.window_s = 0.0
        self._deployments = {one.deployment_id: one for one in plan.deployments}
        self._left = {one.deployment_id: {c.cell_id: c for c in one.cells} for one in plan.deployments}
        self._given_back_s = 0.0
        self._gpus = any(deployment.gpus for deployment in plan.deployments)
        self._eta: tuple[float, float | None] | None = None  # when it was reckoned, the end

    def weight(self, deployment: Deployment) -> float:
        """What a second of it counts: its GPUs, or 1 in a sweep that uses none."""
        return float(deployment.gpus) if self._gpus else 1.0

    def hold(self, slot: Hashable, deployment: Deployment | None, nodes: Sequence[str], gpus: float) -> None:
        """The slot is held from now on, or serves another deployment than before."""
        before, now_s = self.held.get(slot), self.now()
        weight = gpus * max(1, len(nodes)) if self._gpus else 1.0
        since_s = now_s if before is None else before.since_s
        self._idle(slot)
        asleep = before.asleep if before else frozenset()
        self.held[slot] = Held(deployment, tuple(nodes), gpus, weight, since_s, STARTING, now_s, asleep)

    def free(self, slot: Hashable) -> None:
        """The slot is given back. Nothing when it was not held."""
        self._idle(slot)
        if (held := self.held.pop(slot, None)) is not None:
            self._given_back_s += held.weight * (self.now() - held.since_s)

    def start(self, slot: Hashable) -> None:
        """An engine starts there; what one did there before is over."""
        self._idle(slot)
        self._phase(slot, STARTING)

    def sleep(self, slot: Hashable, deployment: Deployment) -> None:
        """The deployment's engine sleeps there, and another may have the slot."""
        if (held := self.held.get(slot)) is not None:
            self.held[slot] = replace(held, asleep=held.asleep | {deployment.deployment_id})

    def wake(self, slot: Hashable) -> None:
        """The engine of the deployment that has the slot wakes there, where it slept."""
        self._idle(slot)
        self._phase(slot, WAKING)
        held = self.held.get(slot)
        if held is not None and held.deployment is not None:
            self.held[slot] = replace(held, asleep=held.asleep - {held.deployment.deployment_id})

    def serve(self, slot: Hashable) -> None:
        """The engine there is ready, and measures nothing."""
        self._idle(slot)
        self._phase(slot, READY)

    def measure(self, slot: Hashable, deployment: Deployment, cell: Cell) -> None:
        now_s = self.now()
        self.runs[cell.cell_id] = Run(slot, deployment, cell, now_s, phase_since_s=now_s)
        self._phase(slot, MEASURING)

    def _phase(self, slot: Hashable, phase: str) -> None:
        if (held := self.held.get(slot)) is not None:
            self.held[slot] = replace(held, phase=phase, phase_since_s=self.now())

    def _idle(self, slot: Hashable) -> None:
        """Nothing is measured there."""
        self.runs = {cell: run for cell, run in self.runs.items() if run.slot != slot}

    def load(self, load: WorkerProgress) -> None:
        """What a worker said; nothing when it is about a cell that is over."""
        run = self.runs.get(load.cell_id or "")
        if run is None:
            return
        now_s, same = self.now(), run.phase == load.phase
        tokens = load.output_tokens - (run.load.output_tokens if run.load and same else 0)
        passed_s = now_s - (run.at_s if run.load and same else run.phase_since_s)
        self.runs[run.cell.cell_id] = replace(
            run,
            phase=load.phase,
            phase_since_s=run.phase_since_s if same else now_s,
            load=load,
            at_s=now_s,
            token_per_s=max(tokens, 0) / passed_s if same and passed_s > 0 else 0.0,
        )

    def finish(self, deployment: Deployment, cell: Cell, outcome: CellOutcome) -> None:
        self.counts[outcome.status] += 1
        self.done[deployment.deployment_id] += 1
        self._left[deployment.deployment_id].pop(cell.cell_id, None)
        run = self.runs.pop(cell.cell_id, None)
        self.window_s += (outcome.window_s or 0.0) * self.weight(deployment)
        if outcome.status != "done":
            why = outcome.reason or ", ".join(outcome.flags)
            self.failures.append(Failure(self.plan.label(cell), outcome.status, why))
        if run is not None:
            self._phase(run.slot, READY)

    def settle(self, deployment: Deployment, cell: Cell, status: str) -> None:
        """The cell has been measured by somebody else."""
        self.counts[status] += 1
        self.done[deployment.deployment_id] += 1
        self._left[deployment.deployment_id].pop(cell.cell_id, None)

    def left(self, deployment: Deployment) -> int:
        """Its cells that have not finished."""
        return len(self._left[deployment.deployment_id])

    @property
    def finished(self) -> int:
        return sum(self.counts.values())

    def cells(self) -> dict[str, int]:
        """Cells by status."""
        running = len(self.runs)
        return dict(self.counts) | {"running": running, "waiting": self.total - self.finished - running}

    def deployments(self) -> dict[str, int]:
        """Deployments with cells left by phase, that of the engine which is farthest."""
        phases = Counter(
            self._phase_of(self._deployments[key])[0] for key, left in self._left.items() if left
        )
        return {phase: phases[phase] for phase in PHASES}

    def gpus(self) -> dict[str, float]:
        """GPUs by state: measuring, reserved (held while nothing is measured), idle, others."""
        measuring = {run.slot for run in self.runs.values()}
        busy = sum(one.total for slot, one in self.held.items() if slot in measuring)
        held = sum(one.total for one in self.held.values())
        total = sum(node.gpus for node in self.nodes.values())
        others = sum(node.others for node in self.nodes.values())
        states = {"measuring": busy, "reserved": held - busy}
        return states | {"idle": max(0.0, total - others - held), "others": others} if self.nodes else states

    def reserved_s(self) -> float:
        """GPU-seconds held so far; in a sweep without GPUs, seconds of its slots."""
        now_s = self.now()
        return self._given_back_s + sum(one.weight * (now_s - one.since_s) for one in self.held.values())

    def efficiency(self) -> float | None:
        """Of what was reserved, the share inside measurement windows of finished cells."""
        reserved_s = self.reserved_s()
        return self.window_s / reserved_s if reserved_s > 0 and self.finished else None

    def token_per_s(self) -> float:
        return sum(run.token_per_s for run in self.runs.values())

    def running_tokens(self, deployment: Deployment) -> int:
        """Output tokens of its running cells so far."""
        loads = [run.load for run in self.runs.values() if run.deployment is deployment]
        return sum(load.output_tokens for load in loads if load is not None)

    def left_s(self) -> float | None:
        """Seconds until the last cell is done: what is left, over the GPUs that there are, or the longest
        deployment where that is more. None while nobody can tell how long a cell takes."""
        if self.finished >= self.total:
            return 0.0
        now_s = self.now()
        if self._eta is None or now_s - self._eta[0] > ETA_AGE_S:
            left_s = self._reckon(now_s)
            self._eta = now_s, None if left_s is None else now_s + left_s
        return None if self._eta[1] is None else max(0.0, self._eta[1] - now_s)

    def _reckon(self, now_s: float) -> float | None:
        work_s = longest_s = 0.0
        for key, cells in self._left.items():
            if not cells:
                continue
            deployment = self._deployments[key]
            times = [self._cell_left_s(cell, now_s) for cell in cells.values()]
            known = [seconds for seconds in times if seconds is not None]
            if len(known) < len(times):
                return None
            left_s = sum(known) + self._start_left_s(deployment, now_s)
            engines = sum(one.deployment is deployment for one in self.held.values())
            work_s += left_s * self.weight(deployment)
            longest_s = max(longest_s, left_s / max(1, engines))
        there = sum(node.gpus - node.others for node in self.nodes.values()) if self._gpus else 0.0
        room = max(there, sum(one.weight for one in self.held.values()), 1.0)
        return max(work_s / room, longest_s)

    def _cell_left_s(self, cell: Cell, now_s: float) -> float | None:
        expected_s = self.durations.cell_s(cell)
        run = self.runs.get(cell.cell_id)
        if expected_s is None or run is None:
            return expected_s
        left_s = expected_s - (now_s - run.since_s)
        if left_s > 0 or run.phase != "load" or run.load is None or not run.load.requests:
            return max(0.0, left_s)
        # It takes longer than expected: at the pace of its requests so far, if any has ended.
        if not run.load.finished:
            return None
        each_s = (run.at_s - run.phase_since_s) / run.load.finished
        return max(0.0, each_s * (run.load.requests - run.load.finished) - (now_s - run.at_s))

    def _start_left_s(self, deployment: Deployment, now_s: float) -> float:
        phase, since_s = self._phase_of(deployment)
        if phase not in (WAITING, STARTING):
            return 0.0
        expected_s = self.durations.start_s(deployment)
        return max(0.0, expected_s - (now_s - since_s)) if phase == STARTING else expected_s

    def _phase_of(self, deployment: Deployment) -> tuple[str, float]:
        """The phase of its engine that is farthest, and since when."""
        engines = [one for one in self.held.values() if one.deployment is deployment]
        farthest = max(engines, key=lambda one: PHASES.index(one.phase), default=None)
        if farthest is not None:
            return farthest.phase, farthest.phase_since_s
        sleeps = any(deployment.deployment_id in one.asleep for one in self.held.values())
        return ASLEEP if sleeps else WAITING, self.now()


def begins(deployment: Deployment) -> str:
    """What its start is, in words."""
    return "looking for the server" if deployment.theirs else "starting the engine"


def shares(progress: Progress) -> Mapping[str, Sequence[tuple[Deployment | None, float]]]:
    """For each node, who holds how many of its GPUs: the sweep's slots in their order."""
    found: dict[str, list[tuple[Deployment | None, float]]] = {node: [] for node in progress.nodes}
    for one in progress.held.values():
        for node in one.nodes:
            found.setdefault(node, []).append((one.deployment, one.gpus))
    return found
