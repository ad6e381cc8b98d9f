"""More nodes, where an autoscaler can bring some: what to ask for, and the asking.

What finds no room becomes a placement group that names no node, which is what an autoscaler counts as demand.
A group ends with the driver however that ends, so nothing stays asked for; `request_resources` would, until
somebody asks for something else, and there is one such request in a cluster, whoever makes it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from uuid import uuid4

from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from orchestrator.cluster import ray_private
from orchestrator.cluster.admission import LABEL, bundles, could_hold
from orchestrator.cluster.packing import Need, Node, Waiting, decide
from orchestrator.cluster.ray_private import NodeGroup

LOOK_S = 1.0


def unplaced(
    waiting: Sequence[Waiting], free: Sequence[Node], groups: Sequence[NodeGroup] = ()
) -> dict[str, Need]:
    """What to ask nodes for: those of ``waiting`` that the ``free`` ones leave without room, and, where it is
    known what an autoscaler may bring (``groups``), only as many as that holds."""
    lacking = _without_room(waiting, free)
    if groups:
        without = {one.key for one in _without_room(lacking, _to_come(groups, lacking))}
        lacking = [one for one in lacking if one.key not in without]
    return {one.key: one.need for one in lacking}


def may_ever_come(need: Need, groups: Sequence[NodeGroup]) -> bool:
    """Whether an autoscaler could bring the nodes; True where nobody knows what it may bring."""
    return not groups or sum(one.most for one in groups if could_hold(need, one.resources)) >= need.nodes


def _without_room(waiting: Sequence[Waiting], nodes: Sequence[Node]) -> list[Waiting]:
    """Where they go if all start now, wherever there is room."""
    starts, _ = decide([Waiting(one.key, one.need, None) for one in waiting], (), nodes, 0.0)
    placed = {start.key for start in starts}
    return [one for one in waiting if one.key not in placed]


def _to_come(groups: Sequence[NodeGroup], lacking: Sequence[Waiting]) -> list[Node]:
    """The nodes that an autoscaler may bring, as far as these deployments could use them."""
    usable = sum(one.need.nodes for one in lacking)
    return [
        Node(
            f"{group.name} {number}",
            group.resources.get("GPU", 0.0),
            group.resources.get("CPU", 0.0),
            frozenset(key.removeprefix(LABEL) for key in group.resources if key.startswith(LABEL)),
            memory_bytes=group.resources.get("memory", math.inf),
        )
        for group in groups
        for number in range(min(group.most, usable))
    ]


class Demand:
    """The groups that are asked for, by deployment. ``autoscaled`` None: the cluster has not said yet."""

    def __init__(self) -> None:
        self.autoscaled: bool | None = None
        self.groups: list[NodeGroup] = []
        self._asked: dict[str, PlacementGroup] = {}
        self._looked_s = -math.inf

    def look(self) -> None:
        """Asks the cluster whether it can grow, now and then until it has said."""
        now_s = time.monotonic()
        if self.autoscaled is None and now_s >= self._looked_s + LOOK_S:
            self._looked_s = now_s
            self.autoscaled = ray_private.autoscaled()
            self.groups = ray_private.node_groups() if self.autoscaled else []

    @property
    def asked(self) -> frozenset[str]:
        """The deployments that nodes are asked for."""
        return frozenset(self._asked)

    def ask(self, wanted: Mapping[str, Need]) -> None:
        """Asks for what ``wanted`` names and for nothing else. A group that found room is given back at once:
        the scheduler starts there what it thinks best."""
        for key in list(self._asked):
            if key not in wanted or placement_group_table(self._asked[key])["state"] == "CREATED":
                self._drop(key)
        for key in wanted.keys() - self._asked.keys():
            self._asked[key] = _pending(key, wanted[key])

    def groups_asked(self) -> set[str]:
        """The ids of the groups."""
        return {group.id.hex() for group in self._asked.values()}

    def release(self) -> None:
        """Asks for nothing any more. Never raises."""
        for key in list(self._asked):
            self._drop(key)

    def _drop(self, key: str) -> None:
        with contextlib.suppress(Exception):
            remove_placement_group(self._asked.pop(key))


def _pending(key: str, need: Need) -> PlacementGroup:
    kind = {f"{LABEL}{need.gpu_type}": 0.001} if need.gpu_type else {}
    group: PlacementGroup = placement_group(
        [bundle | kind for bundle in bundles(need)],
        strategy="STRICT_PACK" if need.nodes == 1 else "STRICT_SPREAD",
        name=f"demand of {key} {uuid4().hex[:6]}",  # Ray refuses a name twice
    )
    return group
