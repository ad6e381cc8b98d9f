from __future__ import annotations

import pytest

from orchestrator.cluster.retry import MOVES, START_MOVES, may_retry, may_start_again


@pytest.mark.parametrize("cause", ["crash", "hang", "worker_died", "start_timeout", "storage"])
def test_what_may_be_an_accident_is_tried_once_more(cause: str) -> None:
    assert may_retry([cause])
    assert not may_retry([cause, cause])


@pytest.mark.parametrize("cause", ["oom", "oom_serving", "unsupported", "bad_flag", "timeout"])
def test_what_would_happen_again_is_not(cause: str) -> None:
    assert not may_retry([cause])
    assert not may_retry(["node_died", cause])


def test_losing_nodes_is_not_the_cells_doing_but_not_without_end_either() -> None:
    assert may_retry(["node_died"] * MOVES)
    assert not may_retry(["node_died"] * (MOVES + 1))
    assert may_retry(["node_died", "crash"])
    assert not may_retry(["crash", "node_died", "crash"])


def test_nodes_that_are_lost_during_starts_fail_no_deployment_but_not_without_end_either() -> None:
    assert may_start_again(["node_died"] * 4, elsewhere=True)
    assert may_start_again(["node_died", "crash", "node_died", "node_died"], elsewhere=True)
    assert may_start_again(["node_died"] * (START_MOVES + 1), elsewhere=False), "it waits for a node anyway"
    assert not may_start_again(["node_died"] * (START_MOVES + 1), elsewhere=True)


def test_starts_that_fail_by_themselves_count_beside_lost_nodes() -> None:
    assert not may_start_again(["crash", "node_died", "crash"], elsewhere=True)
    assert not may_start_again(["node_died", "oom"], elsewhere=True)
    assert not may_start_again(["config"], elsewhere=True), "what was asked for is as wrong the next time"
