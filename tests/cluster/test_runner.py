from __future__ import annotations

import pytest

from orchestrator.cluster.runner import MOVES, may_retry


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
