"""The order in which waiting deployments are admitted (`orchestrator.cluster.order`)."""

from __future__ import annotations

from statistics import fmean

from benchmarks.schedule.sets import ON_ONE_HOST, draw
from benchmarks.schedule.simulate import Policy, Simulation, bound_s
from orchestrator.cluster.order import FEW_NODES, FEW_WAITING, ordered
from orchestrator.cluster.packing import Need, Node, Waiting


def wait(key: str, gpus: int, seconds: float | None) -> Waiting:
    return Waiting(key, Need(gpus=gpus, cpus=1.0), seconds)


def node(name: str, gpus: int) -> Node:
    return Node(name, gpus, 64.0)


def keys(waiting: list[Waiting]) -> list[str]:
    return [one.key for one in waiting]


LENGTHS = ("b", 2, 110.0), ("a1", 4, 100.0), ("c", 2, 95.0), ("a2", 4, 90.0), ("d", 2, 80.0)
MIXED = [wait(*one) for one in LENGTHS]


def test_on_one_node_the_order_that_ends_first_is_taken() -> None:
    """Longest first: b and c, a1 at 110, a2 at 210, and d alone from 300 to 380. Widest first: a1, a2, and
    from 190 b and c, which d follows until 365."""
    assert keys(ordered(MIXED, [], [node("n", 4)], 0.0)) == ["a1", "a2", "b", "c", "d"]
    # Without d both end at 300, and so does what comes first by length.
    assert keys(ordered(MIXED[:-1], [], [node("n", 4)], 0.0)) == ["b", "a1", "c", "a2"]


def test_lengths_that_nobody_can_tell_many_nodes_and_many_deployments_are_taken_longest_first() -> None:
    unknown = [wait("a", 1, 10.0), wait("b", 4, None), wait("c", 1, 20.0)]
    assert keys(ordered(unknown, [], [node("n", 4)], 0.0)) == ["b", "c", "a"]
    nodes = [node(f"n{index}", 4) for index in range(FEW_NODES + 1)]
    assert keys(ordered(MIXED, [], nodes, 0.0)) == ["b", "a1", "c", "a2", "d"]
    many = [wait(str(index), 1 + index % 2, 100.0 + index) for index in range(FEW_WAITING + 1)]
    assert keys(ordered(many, [], [node("n", 4)], 0.0)) == keys(
        sorted(many, key=lambda one: -(one.estimated_s or 0))
    )


def test_on_one_host_sweeps_end_sooner_than_longest_first_ends_them() -> None:
    def mean(policy: Policy) -> float:
        drawn = [draw(ON_ONE_HOST[0], seed, deployments=12, cells=24, nodes=1) for seed in range(12)]
        return fmean(Simulation(*one, policy).run().makespan_s / bound_s(*one) for one in drawn)

    assert mean("best order") <= mean("longest first") - 0.01
