"""The driver's loop: what is free, what starts there, and what the next on each slot will be.

It decides by its own view of the cluster (`packing`), again whenever something has ended or joined, so a
placement group that Ray cannot meet blocks nobody: it goes back after some seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import Any

from orchestrator import interruption
from orchestrator.cluster.admission import impossible, needs, server_of
from orchestrator.cluster.capacity import Capacity
from orchestrator.cluster.kept import Kept
from orchestrator.cluster.nodes import alive_nodes
from orchestrator.cluster.order import ordered
from orchestrator.cluster.packing import (
    Decision,
    Node,
    Promise,
    Running,
    Serving,
    Start,
    Waiting,
    decide,
    widen,
    without,
)
from orchestrator.cluster.queues import Rotation, Work, works
from orchestrator.cluster.run_context import Limits, RunContext
from orchestrator.cluster.runner import serve, serve_in_turns
from orchestrator.cluster.slot import Slot, SlotLost, free_nodes
from orchestrator.cluster.spec import left_nonce
from orchestrator.cluster.watch import NodeWatch
from orchestrator.cluster.worker import EngineWorker
from orchestrator.plan.durations import Durations
from orchestrator.plan.plan import Deployment, Plan
from orchestrator.progress.board import Board
from orchestrator.search.source import Sharing

TICK_S = 1.0  # how soon GPUs are noticed that others gave back, or a node that joined
AVOID_S = 30.0  # a node where Ray did not find the room that we saw, or a deployment's engine did not start
LOOK_ELSEWHERE_S = 3.0  # how often the cells are looked after that other drivers have taken
PREPARE_S = 60.0  # what is left when the next is prepared; the last cell at the latest


async def run_deployments(
    plan: Plan,
    board: Board,
    worker: Any = EngineWorker,
    limits: Limits | None = None,
    durations: Durations | None = None,
    sharing: Sharing | None = None,
    kept: Kept | None = None,
) -> None:
    """Runs every deployment of the plan. Returns when each of its cells is committed, done or failed, here or
    by another driver of the study. Raises StorageError when they cannot be stored any more."""
    kept = kept or Kept()
    with left_nonce(plan.study_dir) as nonce:
        context = RunContext(plan, board, limits, durations, nonce, keep=kept.engines)
        scheduler = Scheduler(context, worker, sharing)
        scheduler.parked += kept.give_slots()
        try:
            await scheduler.run()
        finally:
            kept.slots += scheduler.kept


class Scheduler:
    """``worker`` is the class of the actors, `EngineWorker` or what stands in for it in a test."""

    def __init__(self, context: RunContext, worker: Any, sharing: Sharing | None = None) -> None:
        self.context, self.worker = context, worker
        self.works = {one.key: one for one in works(context.plan.deployments, sharing)}
        self.needs = {key: needs(one.deployment) for key, one in self.works.items()}
        self.waiting = list(self.works)
        self.leases: dict[asyncio.Task[bool], tuple[Work, Slot]] = {}
        self.parked: list[Slot] = []
        self.kept: list[Slot] = []  # those whose engines still serve when all is done
        self.closing: dict[Slot, asyncio.Task[None]] = {}
        self.promise: Promise | None = None
        self.capacity = Capacity(self.needs, context.limits(context.plan.deployments[0]).resources_s)
        self._avoided: dict[str, float] = {}  # nodes, and until when
        self._bad_starts: dict[tuple[str, str], float] = {}  # a deployment and a node, and until when
        self._looked_s = -math.inf
        self._elsewhere: set[str] = set()  # deployments of which only others' cells are left
        self._preparing: set[asyncio.Task[None]] = set()
        self._nodes = NodeWatch(context.board)

    async def run(self) -> None:
        try:
            self._look_elsewhere()
            while True:
                self.capacity.look()
                self._drop_hopeless()
                if not (self.waiting or self.leases or self._elsewhere):
                    break
                self._place()
                self._ask_for_nodes()
                await asyncio.wait(
                    {*self.leases, *self.closing.values()} or {asyncio.create_task(asyncio.sleep(TICK_S))},
                    timeout=TICK_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._collect()
                self._look_elsewhere()
            self.kept = [slot for slot in self.parked if slot.serving]
        finally:
            await interruption.undisturbed(self._end())

    async def _end(self) -> None:
        """Nothing of ours is left when this returns."""
        self.capacity.release()
        for task in (*self.leases, *self._preparing):
            task.cancel()
        await asyncio.gather(*self.leases, *self._preparing, self._nodes.end(), return_exceptions=True)
        for slot in {*self.parked, *(slot for _, slot in self.leases.values())}.difference(self.kept):
            self._close(slot)
        await asyncio.gather(*self.closing.values(), return_exceptions=True)

    def _place(self) -> None:
        """Starts what can start; a slot that nothing starts on is given back."""
        nodes = self._free(self.parked)
        for slot in list(self.parked):
            key = slot.serving if slot.serving in self.waiting else slot.prepared
            if key in {one.key for one in self._waiting()}:
                nodes = without(nodes, slot.need, slot.nodes)
                self._begin(key, slot)
        if self.waiting:
            starts, self.promise = self._decide(self._waiting(), self._running(), nodes)
        else:
            starts = widen(self._serving(), nodes)
        for start in starts:
            self._begin(start.key, self._slot_for(start))
        # Engines that a further batch may go on with stay where nobody waits for their room: no deployment of
        # this driver, and no other driver, which may need it for the cells that this one waits for.
        wanted = self.waiting or self._elsewhere or not all(slot.actor for _, slot in self.leases.values())
        may_stay = self.context.keep and not wanted
        for slot in [slot for slot in self.parked if not (may_stay and slot.serving)]:
            self.parked.remove(slot)
            self._close(slot)

    def _decide(self, waiting: list[Waiting], running: list[Running], nodes: list[Node]) -> Decision:
        now_s = time.monotonic()
        order = ordered(waiting, running, nodes, now_s, self.promise)
        # What another driver serves has an engine already: this one begins with the others.
        order.sort(key=lambda one: bool(self.works[one.key].source.elsewhere))
        return decide(order, running, nodes, now_s, self.promise)

    def _collect(self) -> None:
        """Takes note of what has ended."""
        for slot in [slot for slot, task in self.closing.items() if task.done()]:
            del self.closing[slot]
        for task in [task for task in self.leases if task.done()]:
            work, slot = self.leases.pop(task)
            work.engines.discard(slot)
            if task.exception() is None and task.result():
                self.parked.append(slot)
                self.context.board.parked(slot)
            else:
                self._close(slot)
            task.result()
            if work.engines:
                continue
            self._sort_out(work)

    def _sort_out(self, work: Work) -> None:
        """Where a deployment belongs that no engine serves."""
        self.context.settle(work)
        if work.source.waiting:
            self.waiting.append(work.key)
        elif work.source.elsewhere:
            self._elsewhere.add(work.key)
            self.context.board.waiting_for_others(len(work.source.elsewhere))
        else:
            for queue in work.queues:
                self.context.board.ended(queue.deployment)

    def _look_elsewhere(self) -> None:
        """Looks now and then what other drivers of the study have taken, given up and finished."""
        now_s = time.monotonic()
        if now_s < self._looked_s + LOOK_ELSEWHERE_S:
            return
        self._looked_s = now_s
        for key, work in self.works.items():
            if not (work.source.waiting or work.source.elsewhere):
                continue
            before = len(work.source.elsewhere)
            work.source.look_again()
            self.context.settle(work)
            if work.engines:
                continue
            if key in self.waiting and not work.source.waiting:
                self.waiting.remove(key)
                self._sort_out(work)
            elif key in self._elsewhere and (work.source.waiting or not work.source.elsewhere):
                self._elsewhere.discard(key)
                self._sort_out(work)
            elif key in self._elsewhere and len(work.source.elsewhere) < before:
                self.context.board.waiting_for_others(len(work.source.elsewhere))

    def _begin(self, key: str, slot: Slot) -> None:
        """Launches the deployment unless other drivers have all of its cells."""
        if self.context.reserve(self.works[key]):
            self._launch(key, slot)
        elif key in self.waiting:
            self.waiting.remove(key)
            self._sort_out(self.works[key])

    def _launch(self, key: str, slot: Slot) -> None:
        work = self.works[key]
        if slot in self.parked:
            self.parked.remove(slot)
        if key in self.waiting:
            self.waiting.remove(key)
        slot.prepared, slot.until_s = None, time.monotonic() + self.context.durations.start_s(work.deployment)
        work.engines.add(slot)
        self.leases[asyncio.create_task(self._lease(work, slot))] = work, slot

    async def _lease(self, work: Work, slot: Slot) -> bool:
        """Serves it on the slot; whether the slot can serve another."""
        if slot.actor is None:
            here = [task for other, task in self.closing.items() if set(other.nodes) & set(slot.nodes)]
            if here:  # they end by themselves, also where this lease is cancelled
                await asyncio.wait(here)
            name = f"{work.deployment.label} {work.deployment.deployment_id}"
            if not await slot.open(self.worker, name, self.context.limits(work.deployment).place_s):
                self._avoided |= dict.fromkeys(slot.nodes, time.monotonic() + AVOID_S)
                return False
        self.context.board.placed(work.deployment, slot.nodes, slot.need.gpus, slot)
        watch = asyncio.create_task(self._watch(slot))
        try:
            if isinstance(work, Rotation):
                await serve_in_turns(work, slot, self.context, lambda next: self._prepare(next, slot))
                return False  # what sleeps there would take memory from the next
            await serve(work.queues[0], slot, self.context, lambda: self._prepare_next(work, slot))
        except SlotLost as lost:
            elsewhere = [node for name, node in alive_nodes().items() if name not in slot.nodes]
            if lost.cause == "start_failed" and impossible(slot.need, elsewhere) is None:
                # It may be the node's doing, or only this deployment's: others may still go there.
                pairs = [(work.key, node) for node in slot.nodes]
                self._bad_starts |= dict.fromkeys(pairs, time.monotonic() + AVOID_S)
            return False
        finally:
            watch.cancel()
        return True

    async def _watch(self, slot: Slot) -> None:
        """Shows how far the worker is, once a second."""
        with contextlib.suppress(Exception):
            while True:
                await asyncio.sleep(1.0)
                self.context.board.progress(slot.served[-1], await slot.actor.progress.remote())

    def _prepare_next(self, work: Work, slot: Slot) -> None:
        """Has the slot's likely next deployment prepared beside the last cells of this one."""
        left_s = self.context.queued_s(work)
        if work.source.waiting and (left_s is None or left_s / len(work.engines) > PREPARE_S):
            return
        if slot.prepared in self.waiting or (key := self._successor(slot)) is None:
            return
        self._prepare(self.works[key].deployment, slot)

    def _prepare(self, deployment: Deployment, slot: Slot) -> None:
        spec = self.context.spec(deployment)
        if spec.config.prepare == "off":
            return
        task = asyncio.create_task(slot.prepare(spec))
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    def _successor(self, slot: Slot) -> str | None:
        """What would start on the slot, were it free now."""
        if not self.waiting:
            return None
        elsewhere = {other.prepared for _, other in self.leases.values()}
        waiting = [one for one in self._waiting() if one.key not in elsewhere]
        starts, _ = self._decide(waiting, self._running(slot), self._free([slot]))
        fitting = (one.key for one in starts if one.nodes == slot.nodes and self.needs[one.key] == slot.need)
        return next(fitting, None)

    def _slot_for(self, start: Start) -> Slot:
        need = self.needs[start.key]
        reusable = (slot for slot in self.parked if slot.nodes == start.nodes and slot.need == need)
        return next(reusable, None) or Slot(need, start.nodes)

    def _close(self, slot: Slot) -> None:
        self.closing[slot] = asyncio.create_task(self._give_back(slot))

    async def _give_back(self, slot: Slot) -> None:
        await slot.give_back(self.context.plan.study_dir)
        self.context.board.freed(slot)

    def _free(self, given: list[Slot]) -> list[Node]:
        """What is free, and what ``given`` slots hold."""
        now_s = time.monotonic()
        nodes = self._all_free(given)
        return [node for node in nodes if self._avoided.get(node.node_id, 0.0) <= now_s]

    def _all_free(self, given: list[Slot]) -> list[Node]:
        """With the nodes that are avoided."""
        held = [*(slot for _, slot in self.leases.values()), *self.parked]
        counted = [slot for slot in held if slot not in given]
        return self.capacity.sized(free_nodes([*held, *self.closing], counted=counted))

    def _ask_for_nodes(self) -> None:
        """Asks for those that the waiting deployments lack, and shows what they wait for."""
        if self.capacity.grows:
            self.capacity.ask(self._waiting(), self._all_free(self.parked))
        slots = [*(slot for _, slot in self.leases.values()), *self.parked, *self.closing]
        self._nodes.show(slots, self.capacity.groups(), waits=bool(self.waiting))
        self.context.board.waits([*self.capacity.waits(self.waiting), *self._nodes.held_by_others])

    def _waiting(self) -> list[Waiting]:
        """What may start. Of those that measure one external server only one does: its load is theirs."""
        found, now_s = [], time.monotonic()
        loaded = {server_of(work.deployment) for work, _ in self.leases.values()} - {None}
        for key in self.waiting:
            work = self.works[key]
            if (server := server_of(work.deployment)) in loaded:
                continue
            loaded |= {server} - {None}
            avoid = frozenset(node for (bad, node), t in self._bad_starts.items() if bad == key and t > now_s)
            left_s = self.context.queued_s(work)
            estimated_s = None if left_s is None else self.context.start_s(work) + left_s
            found.append(Waiting(key, self.needs[key], estimated_s, avoid))
        return found

    def _running(self, but: Slot | None = None) -> list[Running]:
        slots = [(work, slot) for work, slot in self.leases.values() if slot is not but]
        return [Running(slot.need, slot.nodes, self._ends_s(work, slot)) for work, slot in slots]

    def _ends_s(self, work: Work, slot: Slot) -> float | None:
        left_s = self.context.queued_s(work)
        if left_s is None or slot.until_s is None:
            return None
        return max(slot.until_s, time.monotonic()) + left_s / max(1, len(work.engines))

    def _serving(self) -> list[Serving]:
        """The deployments that a further engine may help."""
        found = []
        for key, work in self.works.items():
            left_s = self.context.queued_s(work)
            may = work.deployment.gpus and work.engines and not work.alone and not work.failed_starts
            if may and left_s:
                engines, start_s = len(work.engines), self.context.start_s(work)
                found.append(Serving(key, self.needs[key], engines, work.shares, left_s, start_s))
        return found

    def _drop_hopeless(self) -> None:
        """Fails what no node could hold, once one was waited for long enough."""
        for key, reason in self.capacity.hopeless(list(self.waiting)).items():
            self.waiting.remove(key)
            for queue in self.works[key].queues:
                self.context.fail_waiting(queue, reason, "no_resources", 0)
            self._sort_out(self.works[key])
