"""What starts where: pure arithmetic on what is free now and on when the rest is expected to be.

Longest first, so that no long deployment is left to run alone at the end, and best fit, so that whole nodes
stay whole. What comes first and finds no room is promised nodes and a time; meanwhile others may pass it only
where they are gone by then, or take nothing that it needs (EASY backfilling: Lifka 1995, Mu'alem and
Feitelson 2001). A promise is kept even when estimates were wrong: once its time has passed, nothing more is
let onto its nodes, so they drain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

WORTH = 0.25  # a further engine must bring the end forward by this share of its own start,
WORTH_S = 10.0  # and by this much
SAME_MEMORY = 0.2  # by how much GPUs of one size differ: in what is reserved, in GB for GiB


@dataclass(frozen=True, slots=True)
class Need:
    """What a deployment takes of each of ``nodes`` different nodes. ``gpu_type`` None: of any.
    ``gpu_memory_gib`` is set where that label alone does not tell which GPU is meant."""

    gpus: float
    cpus: float
    nodes: int = 1
    gpu_type: str | None = None
    gpu_memory_gib: float | None = None
    memory_bytes: float = 0.0

    @property
    def all_gpus(self) -> float:
        return self.gpus * self.nodes


@dataclass(frozen=True, slots=True)
class Node:
    """What is free for us on a node; what others hold there is not. ``gpu_memory_gib`` is that of each of its
    GPUs; None where nobody can tell."""

    node_id: str
    gpus: float
    cpus: float
    gpu_types: frozenset[str] = frozenset()
    gpu_memory_gib: float | None = None
    memory_bytes: float = math.inf

    def holds(self, need: Need) -> bool:
        return (
            self.gpus >= need.gpus
            and self.cpus >= need.cpus
            and self.memory_bytes >= need.memory_bytes
            and is_kind(need, self.gpu_types, self.gpu_memory_gib)
        )

    def plus(self, need: Need, times: int = 1) -> Node:
        return replace(
            self,
            gpus=self.gpus + times * need.gpus,
            cpus=self.cpus + times * need.cpus,
            memory_bytes=self.memory_bytes + times * need.memory_bytes,
        )


def is_kind(need: Need, labels: Iterable[str], memory_gib: float | None) -> bool:
    """Whether GPUs that Ray labels so, of so much memory each, are those that ``need`` means. A label may say
    more than the type (``A100-40G``)."""
    if need.gpu_type is None:
        return True
    if not any(one == need.gpu_type or one.startswith(f"{need.gpu_type}-") for one in labels):
        return False
    if need.gpu_memory_gib is None or memory_gib is None:
        return True
    return abs(memory_gib - need.gpu_memory_gib) <= SAME_MEMORY * need.gpu_memory_gib


@dataclass(frozen=True, slots=True)
class Waiting:
    """``estimated_s``: from its start to its last cell's end; None where nobody can tell. ``avoid`` are nodes
    that it does not go to."""

    key: str
    need: Need
    estimated_s: float | None
    avoid: frozenset[str] = frozenset()

    def goes_to(self, nodes: Iterable[Node]) -> list[Node]:
        return [node for node in nodes if node.node_id not in self.avoid]


@dataclass(frozen=True, slots=True)
class Running:
    """``ends_s`` is on the clock of ``now_s``, and may have passed."""

    need: Need
    nodes: tuple[str, ...]
    ends_s: float | None


@dataclass(frozen=True, slots=True)
class Serving:
    """A deployment that is being served by ``engines`` engines which take cells from one queue. ``left_s``
    is the time of the cells in the queue, were there one engine; ``start_s`` that of one more start."""

    key: str
    need: Need
    engines: int
    cells: int
    left_s: float
    start_s: float


@dataclass(frozen=True, slots=True)
class Start:
    key: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Promise:
    """``starts_s`` None: nobody can tell when these nodes will have room."""

    key: str
    nodes: tuple[str, ...]
    starts_s: float | None


Decision = tuple[list[Start], Promise | None]
"""What starts now, and the promise to the first that must wait."""


def without(nodes: Iterable[Node], need: Need, taken: Sequence[str]) -> list[Node]:
    """What is left of the nodes once ``need`` is on those that are ``taken``."""
    return [node.plus(need, -1) if node.node_id in taken else node for node in nodes]


def longest_first(waiting: Iterable[Waiting]) -> list[Waiting]:
    """The order of admission; one whose length is unknown may be the longest."""
    return sorted(waiting, key=lambda one: (-or_infinite(one.estimated_s), -one.need.all_gpus))


def decide(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    nodes: Sequence[Node],
    now_s: float,
    promise: Promise | None = None,
) -> Decision:
    """What starts now, of ``waiting`` in its order, and the promise to the first that must wait. ``promise``
    is the one made before."""
    free = {node.node_id: node for node in nodes}
    going = list(running)
    starts: list[Start] = []
    held: _Held | None = None
    full: set[tuple[Need, frozenset[str]]] = set()  # has no room outside the promised nodes
    for one in waiting:
        is_full = (one.need, one.avoid) in full
        if held is None:
            chosen = None if is_full else _best_fit(one.need, one.goes_to(free.values()))
        else:
            apart = () if is_full else [n for n in free.values() if n.node_id not in held.then]
            passing = [free[name] for name in held.then if held.lets_pass(one, name, now_s)]
            chosen = _best_fit(one.need, one.goes_to([*apart, *passing]))
        if chosen is not None:
            starts.append(Start(one.key, chosen))
            ends_s = None if one.estimated_s is None else now_s + one.estimated_s
            going.append(Running(one.need, chosen, ends_s))
            free |= {name: free[name].plus(one.need, -1) for name in chosen}
            if held is not None:
                held.passed(one, chosen, now_s)
            continue
        full.add((one.need, one.avoid))
        if held is None:
            nodes_left = free.keys() - one.avoid
            kept = promise is not None and promise.key == one.key and set(promise.nodes) <= nodes_left
            made = promise if kept else _promise(one, one.goes_to(free.values()), going)
            if made is not None:
                held = _Held(made, one.need, free, going)
    return starts, None if held is None else held.promise


def widen(serving: Sequence[Serving], nodes: Sequence[Node]) -> list[Start]:
    """Further engines for deployments that many cells wait for, on GPUs that nothing else can use: the one
    that would end last first, as long as a further start saves more time than it takes."""
    free = {node.node_id: node for node in nodes}
    starts: list[Start] = []
    serving = list(serving)
    while serving:
        last = max(serving, key=lambda one: one.left_s / one.engines)
        serving.remove(last)
        saved_s = (last.left_s - last.engines * last.start_s) / (last.engines * (last.engines + 1))
        chosen = _best_fit(last.need, free.values())
        if chosen is None or last.cells <= last.engines or saved_s < max(WORTH * last.start_s, WORTH_S):
            continue
        starts.append(Start(last.key, chosen))
        free |= {name: free[name].plus(last.need, -1) for name in chosen}
        serving.append(replace(last, engines=last.engines + 1, left_s=last.left_s + last.start_s))
    return starts


class _Held:
    """The nodes of a promise: ``then`` is what will be free on each at its time."""

    def __init__(
        self, promise: Promise, need: Need, free: Mapping[str, Node], going: Sequence[Running]
    ) -> None:
        self.promise = promise
        self.need = need
        self.then = {name: free[name] for name in promise.nodes}
        for one in going:
            if or_infinite(one.ends_s) <= or_infinite(promise.starts_s):
                for name in one.nodes:
                    if name in self.then:
                        self.then[name] = self.then[name].plus(one.need)

    def lets_pass(self, one: Waiting, name: str, now_s: float) -> bool:
        return self._gone_by_then(one, now_s) or self.then[name].plus(one.need, -1).holds(self.need)

    def passed(self, one: Waiting, chosen: Sequence[str], now_s: float) -> None:
        if not self._gone_by_then(one, now_s):
            for name in set(chosen) & self.then.keys():
                self.then[name] = self.then[name].plus(one.need, -1)

    def _gone_by_then(self, one: Waiting, now_s: float) -> bool:
        return now_s + or_infinite(one.estimated_s) <= (self.promise.starts_s or 0.0)


def _promise(one: Waiting, nodes: Iterable[Node], going: Sequence[Running]) -> Promise | None:
    """The nodes that will have room first; None when even all that we run would leave too little."""
    there: list[tuple[float, float, str]] = []
    for node in nodes:
        at_s = _room_at_s(node, one.need, going)
        if at_s is not None:
            there.append((at_s, -node.gpus, node.node_id))
    there = sorted(there)[: one.need.nodes]
    if len(there) < one.need.nodes:
        return None
    latest_s = there[-1][0]
    return Promise(one.key, tuple(name for _, _, name in there), None if math.isinf(latest_s) else latest_s)


def _room_at_s(node: Node, need: Need, going: Sequence[Running]) -> float | None:
    """When the node will hold ``need``: infinite where nobody can tell, None for never."""
    at_s = -math.inf
    ending = sorted(
        (one for one in going if node.node_id in one.nodes), key=lambda one: or_infinite(one.ends_s)
    )
    for one in ending:
        if node.holds(need):
            return at_s
        at_s = or_infinite(one.ends_s)
        node = node.plus(one.need)
    return at_s if node.holds(need) else None


def _best_fit(need: Need, nodes: Iterable[Node]) -> tuple[str, ...] | None:
    """The nodes that hold ``need`` with the least left over."""
    fitting = [node for node in nodes if node.holds(need)]
    if len(fitting) < need.nodes:
        return None
    fitting.sort(key=lambda node: (node.gpus, node.cpus, node.node_id))
    return tuple(node.node_id for node in fitting[: need.nodes])


def or_infinite(seconds: float | None) -> float:
    """What nobody can tell may be the longest."""
    return math.inf if seconds is None else seconds
