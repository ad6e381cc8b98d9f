"""Which deployments take turns."""

from __future__ import annotations

from orchestrator.cluster.admission import needs
from orchestrator.plan.plan import Deployment
from orchestrator.plan.rotation import rotations
from tests.cluster.plans import deployment


def names(*made: Deployment) -> list[list[str]]:
    return [[one.deployment_id for one in group] for group in rotations(made, alike=needs)]


def test_those_of_one_model_and_one_need_that_sleep_are_together() -> None:
    made = [deployment(1, name=name, model="m", sleepers=5) for name in "abc"]
    assert names(*made) == [["a", "b", "c"]]


def test_one_that_does_not_sleep_is_by_itself() -> None:
    a, c = (deployment(1, name=name, model="m", sleepers=5) for name in "ac")
    assert names(a, deployment(1, name="b", model="m"), c) == [["a", "c"], ["b"]]


def test_another_model_or_another_need_is_another_group() -> None:
    made = [
        deployment(1, name="a", model="m", sleepers=5),
        deployment(1, name="b", model="n", sleepers=5),
        deployment(2, name="c", model="m", sleepers=5),
        deployment(1, name="d", model="n", sleepers=5),
    ]
    assert names(*made) == [["a"], ["b", "d"], ["c"]]


def test_as_many_are_together_as_may_sleep_beside_the_one_that_is_awake() -> None:
    made = [deployment(1, name=name, model="m", sleepers=1) for name in "abcde"]
    assert names(*made) == [["a", "b"], ["c", "d"], ["e"]]
    assert names(*(deployment(1, name=name, model="m", sleepers=0) for name in "ab")) == [["a"], ["b"]]
