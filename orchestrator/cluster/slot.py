"""A slot: a placement group on chosen nodes, and the actor in it that serves one deployment after another."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.cluster.admission import LABEL, bundles
from orchestrator.cluster.nodes import alive_nodes
from orchestrator.cluster.packing import Need, Node
from orchestrator.cluster.ray_private import available_resources_per_node
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.plan.plan import Deployment
from orchestrator.store.ledger import Reservation, record

NODE_ID = "ray.io/node-id"  # the label that Ray gives every node
POLL_S = 0.05
STOP_S = 45.0
NODE_FATE_S = 30.0  # Ray calls a node dead after about 15 s of silence
CALLS_AT_ONCE = 5  # what works, and beside it: prepare, progress, stop

LossCause = Literal["worker_died", "node_died", "timeout", "start_failed"]


class SlotLost(Exception):
    """The slot is of no use any more."""

    def __init__(self, cause: LossCause, reason: str) -> None:
        super().__init__(reason)
        self.cause: LossCause = cause


@dataclass(eq=False)
class Slot:
    """Not there before `open`. ``serving`` is the deployment whose engine serves and has nothing to do,
    ``prepared`` the one it was told to prepare for; ``until_s`` when what it does now is expected to be over,
    on the clock of ``time.monotonic`` as ``placed_s`` and ``closed_s``. ``served`` are the deployments that
    it was given, in order, ``asleep`` those whose engines sleep there."""

    need: Need
    nodes: tuple[str, ...]
    group: PlacementGroup | None = None
    placed_at: datetime | None = None
    placed_s: float = 0.0
    closed_s: float | None = None
    served: list[Deployment] = field(default_factory=list)
    actor: Any = None
    lost: bool = False
    prepared: str | None = None
    serving: str | None = None
    until_s: float | None = None
    asleep: set[str] = field(default_factory=set)

    @property
    def placed(self) -> bool:
        return self.placed_at is not None

    async def open(self, worker: Any, name: str, place_s: float) -> bool:
        """Starts an actor of class ``worker`` on exactly these nodes; False when Ray has not found the room
        there in ``place_s``."""
        name = f"{name} {uuid4().hex[:6]}"  # Ray refuses a name twice
        self.group = placement_group(
            bundles(self.need),
            strategy="STRICT_PACK" if self.need.nodes == 1 else "STRICT_SPREAD",
            name=name,
            bundle_label_selector=[{NODE_ID: node} for node in self.nodes],
        )
        deadline = time.monotonic() + place_s
        while placement_group_table(self.group)["state"] != "CREATED":
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_S)
        self.placed_at, self.placed_s = datetime.now(UTC), time.monotonic()
        actor: Any = ray.remote(worker)  # Ray's own types lose the class's methods
        self.actor = actor.options(
            name=name,
            num_cpus=self.need.cpus,
            num_gpus=self.need.gpus,
            max_concurrency=CALLS_AT_ONCE,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                placement_group=self.group,
                placement_group_bundle_index=0,
                placement_group_capture_child_tasks=False,
            ),
        ).remote()
        return True

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        """Calls the worker. Raises what it raised, or SlotLost when it is gone or does not answer."""
        try:
            return await asyncio.wait_for(getattr(self.actor, method).remote(*arguments), timeout_s)
        except RayTaskError as error:
            raise error.cause from error
        except RayActorError as error:
            self.lost = True
            died = await self._died_with_its_node(error)
            words = " ".join(str(error).split())[:500]
            if died:
                raise SlotLost("node_died", f"its node died: {words}") from error
            raise SlotLost("worker_died", f"the worker died: {words}") from error
        except TimeoutError as error:
            self.lost = True
            raise SlotLost("timeout", f"no answer to {method} in {timeout_s:.0f} s") from error

    async def close(self) -> None:
        """Ends the worker and what it runs, and gives the GPUs back, also where it is cancelled."""
        try:
            if self.actor is not None and not self.lost:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self.actor.stop.remote(), STOP_S)
        finally:
            with contextlib.suppress(Exception):
                if self.actor is not None:
                    ray.kill(self.actor)
            with contextlib.suppress(Exception):
                if self.group is not None:
                    remove_placement_group(self.group)
            self.closed_s = self.closed_s or time.monotonic()

    async def prepare(self, spec: WorkerSpec) -> None:
        """Has the worker prepare for that deployment; what goes wrong its start will tell."""
        self.prepared = spec.deployment_id
        with contextlib.suppress(Exception):
            await self.actor.prepare.remote(spec)

    async def give_back(self, study_dir: Path) -> None:
        """Closes the slot and writes down what it held."""
        try:
            await self.close()
        finally:
            if (reservation := self.reservation()) is not None:
                with contextlib.suppress(OSError):  # what cannot be written is noticed where cells are
                    record(study_dir, reservation)

    def reservation(self) -> Reservation | None:
        """What it held, once it is closed; None where Ray never placed it."""
        if self.placed_at is None or self.closed_s is None:
            return None
        return Reservation(
            started_at=self.placed_at,
            duration_s=self.closed_s - self.placed_s,
            gpus=self.need.gpus,
            cpus=self.need.cpus,
            nodes=self.nodes,
            deployments=tuple(key for key, _ in groupby(one.deployment_id for one in self.served)),
            simulated=any(one.simulated for one in self.served),
        )

    async def _died_with_its_node(self, error: RayActorError) -> bool:
        if getattr(error, "preempted", False):
            return True
        deadline = time.monotonic() + (NODE_FATE_S if isinstance(error, ActorUnavailableError) else 0.0)
        while set(self.nodes) <= alive_nodes().keys():
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True


def free_nodes(slots: Iterable[Slot], counted: Iterable[Slot]) -> list[Node]:
    """The live nodes with what is free for us: all but what others hold and what our ``counted`` slots do.
    ``slots`` are all of ours: they tell what is not others'."""
    available = available_resources_per_node()
    placed, kept = [slot for slot in slots if slot.placed], list(counted)
    nodes = []
    for node_id, total in alive_nodes().items():
        now = available.get(node_id, {})
        ours, held = _sum(placed, node_id), _sum(kept, node_id)
        gpus, cpus, memory_bytes = (
            total.get(key, 0.0) - max(0.0, total.get(key, 0.0) - now.get(key, 0.0) - our) - hold
            for key, our, hold in zip(("GPU", "CPU", "memory"), ours, held, strict=True)
        )
        types = frozenset(key.removeprefix(LABEL) for key in total if key.startswith(LABEL))
        nodes.append(Node(node_id, gpus, cpus, types, memory_bytes=memory_bytes))
    return nodes


def _sum(slots: Iterable[Slot], node_id: str) -> tuple[float, float, float]:
    """The GPUs, CPUs and memory of the node that these slots hold."""
    here = [slot.need for slot in slots if node_id in slot.nodes]
    return (
        sum(need.gpus for need in here),
        sum(need.cpus for need in here),
        sum(need.memory_bytes for need in here),
    )
