"""A sweep in simulated time: the scheduler's own decisions, with nothing behind them that takes long."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.cluster.order import ordered
from orchestrator.cluster.packing import (
    Need,
    Node,
    Promise,
    Running,
    Serving,
    Start,
    Waiting,
    decide,
    longest_first,
    widen,
)
from orchestrator.plan.pace import Pace

Policy = Literal["in order", "first fit", "longest first", "best order", "shared"]
"""``in order``: the user's order, the next when it fits. ``first fit``: the user's order, whatever fits may
pass. ``longest first``: with promises. ``best order``: with promises, on few nodes in whichever order ends
first. ``shared``: that, and idle GPUs help where many cells are left."""


@dataclass(frozen=True)
class Work:
    """One deployment: what it needs, and for its start and each of its cells the seconds they really take;
    estimates are these times ``estimated``, or absent where that is None. ``kind`` is what it shares its
    pace with."""

    key: str
    need: Need
    start_s: float
    cells_s: tuple[float, ...]
    kind: str = ""
    estimated: float | None = 1.0

    @property
    def chain_s(self) -> float:
        return self.start_s + sum(self.cells_s)


@dataclass(frozen=True)
class Result:
    """``makespan_s`` in simulated time; ``planned_s`` what all the decisions took, in seconds of
    one CPU."""

    makespan_s: float
    planned_s: float
    starts: int


def bound_s(works: Sequence[Work], nodes: Sequence[Node]) -> float:
    """No schedule that gives each deployment one engine is shorter: the longest chain of cells, or
    `area_bound_s`."""
    return max(area_bound_s(works, nodes), *(work.chain_s for work in works))


def area_bound_s(works: Sequence[Work], nodes: Sequence[Node]) -> float:
    """GPU-seconds, a start for every deployment among them, over GPUs; by type where they have one."""
    bounds = [_area_s(works) / sum(node.gpus for node in nodes)]
    for kind in {work.need.gpu_type for work in works} - {None}:
        mine = [work for work in works if work.need.gpu_type == kind]
        bounds.append(_area_s(mine) / sum(node.gpus for node in nodes if kind in node.gpu_types))
    return max(bounds)


def _area_s(works: Sequence[Work]) -> float:
    return sum(work.need.gpus * work.need.nodes * work.chain_s for work in works)


@dataclass
class _Live:
    work: Work
    queue: deque[float]
    engines: dict[int, tuple[str, ...]] = field(default_factory=dict)  # by number, the nodes of each


class Simulation:
    """``run`` gives every deployment its GPUs as ``policy`` says and counts the time."""

    def __init__(self, works: Sequence[Work], nodes: Sequence[Node], policy: Policy) -> None:
        self.works = {work.key: work for work in works}
        self.nodes = {node.node_id: node for node in nodes}
        self.policy = policy
        self.now_s = 0.0
        self.waiting = list(self.works)
        self.live: dict[str, _Live] = {}
        self.promise: Promise | None = None
        self.pace = Pace()
        self.starts = 0
        self._events: list[tuple[float, int, str, float | None]] = []  # when, engine, deployment, its cell
        self._planned_s = 0.0

    def run(self) -> Result:
        self._place()
        while self._events:
            self.now_s, engine, key, cell_s = heapq.heappop(self._events)
            live = self.live[key]
            if cell_s is not None:
                self.pace.observe(_groups(live.work), _estimate(live.work, cell_s), cell_s)
            if live.queue:
                cell_s = live.queue.popleft()
                heapq.heappush(self._events, (self.now_s + cell_s, engine, key, cell_s))
                continue
            self._give(live.engines.pop(engine), live.work.need, 1)
            if not live.engines:
                del self.live[key]
            if not self._events or self._events[0][0] > self.now_s:
                self._place()
        assert not self.waiting, "something was never started"
        return Result(self.now_s, self._planned_s, self.starts)

    def _place(self) -> None:
        began = time.process_time()
        starts = self._decide()
        self._planned_s += time.process_time() - began
        for start in starts:
            if start.key in self.waiting:
                self.waiting.remove(start.key)
                work = self.works[start.key]
                self.live[start.key] = _Live(work, deque(sorted(work.cells_s)))
            live = self.live[start.key]
            self.starts += 1
            self._give(start.nodes, live.work.need, -1)
            live.engines[self.starts] = start.nodes
            heapq.heappush(self._events, (self.now_s + live.work.start_s, self.starts, start.key, None))

    def _give(self, names: tuple[str, ...], need: Need, times: int) -> None:
        for name in names:
            self.nodes[name] = self.nodes[name].plus(need, times)

    def _decide(self) -> list[Start]:
        nodes = list(self.nodes.values())
        waiting = [self._as_waiting(self.works[key]) for key in self.waiting]
        if self.policy == "in order":
            starts: list[Start] = []
            for one in waiting:  # one at a time: the first that does not fit ends it
                found, _ = decide([one], [], nodes, self.now_s)
                if not found:
                    break
                starts += found
                nodes = [n.plus(one.need, -1) if n.node_id in found[0].nodes else n for n in nodes]
            return starts
        if self.policy == "first fit":
            return decide(waiting, [], nodes, self.now_s)[0]  # nothing runs, as far as it can see: no promise
        running = [self._as_running(live, at) for live in self.live.values() for at in live.engines.values()]
        order = longest_first(waiting)
        if self.policy != "longest first":
            order = ordered(waiting, running, nodes, self.now_s, self.promise)
        starts, self.promise = decide(order, running, nodes, self.now_s, self.promise)
        if self.policy == "shared" and not starts and not self.waiting:
            starts = widen([self._as_serving(live) for live in self.live.values() if live.queue], nodes)
        return starts

    def _as_waiting(self, work: Work) -> Waiting:
        return Waiting(work.key, work.need, self._expect_s(work, work.cells_s, work.start_s))

    def _as_running(self, live: _Live, at: tuple[str, ...]) -> Running:
        """The scheduler does not know when the present cell really ends; it takes what it expects."""
        left_s = self._expect_s(live.work, tuple(live.queue), 0.0)
        ends_s = None if left_s is None else self.now_s + left_s / len(live.engines)
        return Running(live.work.need, at, ends_s)

    def _as_serving(self, live: _Live) -> Serving:
        left_s = self._expect_s(live.work, tuple(live.queue), 0.0)
        return Serving(
            live.work.key,
            live.work.need,
            len(live.engines),
            len(live.queue),
            left_s or 0.0,
            live.work.start_s,
        )

    def _expect_s(self, work: Work, cells_s: Sequence[float], start_s: float) -> float | None:
        left_s = self.pace.total_s(_groups(work), [_estimate(work, cell_s) for cell_s in cells_s])
        return None if left_s is None else start_s + left_s


def _groups(work: Work) -> tuple[str, str]:
    return work.key, work.kind


def _estimate(work: Work, cell_s: float) -> float | None:
    return None if work.estimated is None else cell_s * work.estimated
