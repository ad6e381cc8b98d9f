"""What is tried again after it was lost, and how often. Pure."""

from __future__ import annotations

from collections.abc import Sequence

RETRIES = 1  # on a fresh engine
MOVES = 3  # to another node: losing one is not the cell's doing, yet a cell may also be what kills nodes
MOVED = frozenset({"node_died"})
START_MOVES = 16  # of one deployment's starts, which take longer than most cells
DEATHS = 4  # of a deployment's engines in a row, with no cell finished between
FINAL = frozenset(
    {"config", "oom", "oom_serving", "unsupported", "bad_flag", "no_results_dir", "timeout"}
    | {"version_mismatch", "weights_mismatch", "served_mismatch"}
)  # it would happen again


def may_retry(causes: Sequence[str]) -> bool:
    """Whether what was lost to ``causes``, the latest last, is tried once more."""
    moves = sum(cause in MOVED for cause in causes)
    return causes[-1] not in FINAL and moves <= MOVES and len(causes) - moves <= RETRIES


def may_start_again(causes: Sequence[str], elsewhere: bool) -> bool:
    """Whether a deployment whose starts were lost to ``causes``, the latest last, is started once more.
    ``elsewhere``: other nodes could hold it. Where none could, the next start waits for one."""
    moves = sum(cause in MOVED for cause in causes)
    own = [cause for cause in causes if cause not in MOVED]
    return (not own or may_retry(own)) and (moves <= START_MOVES or not elsewhere)
