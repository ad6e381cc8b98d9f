"""In which order waiting deployments are admitted: the one that ends first, tried in simulated time.

Longest first leaves no long deployment alone at the end. On few nodes it mixes sizes, and each deployment
that takes a whole node then waits until that node has drained: there widest first ends sooner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.cluster.packing import (
    Node,
    Promise,
    Running,
    Waiting,
    decide,
    longest_first,
    or_infinite,
    without,
)

FEW_NODES, FEW_WAITING = 2, 32  # beyond these it gains little and costs much
SOONER = 0.99  # another order has to end that much sooner, since estimates are no better


def widest_first(one: Waiting) -> tuple[float, ...]:
    """By GPUs, then by length."""
    return (-one.need.all_gpus, -or_infinite(one.estimated_s))


def largest_first(one: Waiting) -> tuple[float, ...]:
    """By GPU-seconds."""
    return (-one.need.all_gpus * or_infinite(one.estimated_s), -one.need.all_gpus)


def ordered(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    nodes: Sequence[Node],
    now_s: float,
    promise: Promise | None = None,
) -> list[Waiting]:
    """``waiting`` in the order of admission. Longest first where not all lengths can be told."""
    best = longest_first(waiting)
    told = [one.estimated_s for one in waiting] + [one.ends_s for one in running]
    if not 2 <= len(waiting) <= FEW_WAITING or len(nodes) > FEW_NODES or None in told:
        return best
    soonest_s = _length_s(best, running, nodes, now_s, promise)
    for key in (widest_first, largest_first):
        other = sorted(waiting, key=key)
        length_s = _length_s(other, running, nodes, now_s, promise)
        if length_s < SOONER * soonest_s:
            best, soonest_s = other, length_s
    return best


def _length_s(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    nodes: Sequence[Node],
    now_s: float,
    promise: Promise | None,
) -> float:
    """Seconds until the last has ended, when they are admitted in this order; infinite where one never is."""
    left, going, free = list(waiting), list(running), list(nodes)
    at_s = now_s
    while True:
        starts, promise = decide(left, going, free, at_s, promise)
        for start in starts:
            one = next(one for one in left if one.key == start.key)
            left.remove(one)
            going.append(Running(one.need, start.nodes, at_s + or_infinite(one.estimated_s)))
            free = without(free, one.need, start.nodes)
        if not left or not going:
            break
        at_s = max(at_s, min(or_infinite(one.ends_s) for one in going))
        for ended in [one for one in going if or_infinite(one.ends_s) <= at_s]:
            going.remove(ended)
            free = [node.plus(ended.need) if node.node_id in ended.nodes else node for node in free]
    return math.inf if left else max((or_infinite(one.ends_s) for one in going), default=at_s) - now_s
