"""Deployments that take turns on a slot, on a Ray cluster, with workers that only pretend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from orchestrator.plan.plan import Deployment
from tests.cluster.driven import cause, outcomes, ran, run, runs
from tests.cluster.fake_worker import events
from tests.cluster.plans import deployment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def sleeping(name: str, cells: Sequence[str] = ("",)) -> Deployment:
    return deployment(8, name=name, model="m", sleepers=3, runs=3, cells=cells)


def test_runs_alternate_and_each_engine_starts_once(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, *(sleeping(name) for name in "abc"))
    assert set(outcomes(tmp_path).values()) == {"done"}
    assert set(runs(tmp_path).values()) == {1}
    assert Counter(one["deployment"] for one in events(tmp_path, "start")) == {"a": 1, "b": 1, "c": 1}
    assert Counter(one["deployment"] for one in events(tmp_path, "wake")) == {"a": 3, "b": 3, "c": 3}
    started_s = max(one["at_s"] for one in events(tmp_path, "start"))
    assert started_s < min(one["at_s"] for one in ran(tmp_path)), "no start lies inside a block"
    assert len({one["pid"] for one in ran(tmp_path)}) == 1
    blocks = [list(inside) for _, inside in groupby(ran(tmp_path), key=lambda one: one["block"])]
    assert [{one["deployment"] for one in inside} for inside in blocks] == [{"a", "b", "c"}] * 3
    assert [[one["position"] for one in inside] for inside in blocks] == [[1, 2, 3]] * 3


def test_an_engine_that_does_not_start_takes_no_other_with_it(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, sleeping("a"), sleeping("b!oom"), sleeping("c"))
    found = outcomes(tmp_path)
    assert {status for cell, status in found.items() if cell.startswith("b")} == {"failed"}
    assert {status for cell, status in found.items() if not cell.startswith("b")} == {"done"}
    assert cause(tmp_path, "b!oom-0") == "oom"
    assert Counter(one["deployment"] for one in events(tmp_path, "start")) == {"a": 1, "b!oom": 1, "c": 1}


def test_a_block_goes_on_after_its_worker_died(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, sleeping("a"), sleeping("b", cells=("once:die",)), sleeping("c"))
    assert set(outcomes(tmp_path).values()) == {"done"}
    assert len(outcomes(tmp_path)) == 9
    started = Counter(one["deployment"] for one in events(tmp_path, "start"))
    assert (
        max(started.values()) <= 1 + 3
    )  # each of the runs of b kills one worker, and with it what sleeps there
    pids = {
        block: {one["pid"] for one in ran(tmp_path) if one["block"] == block} for block in blocks(tmp_path)
    }
    assert all(len(inside) == 1 for inside in pids.values())


def test_the_next_engine_is_prepared_while_one_starts(cluster: Cluster, tmp_path: Path) -> None:
    run(tmp_path, *(sleeping(name) for name in "abc"))
    started = events(tmp_path, "start")
    assert [one["deployment"] for one in events(tmp_path, "prepare")] == [
        one["deployment"] for one in started[1:]
    ]


def blocks(folder: Path) -> set[str]:
    return {one["block"] for one in ran(folder)}
