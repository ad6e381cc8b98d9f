"""Which runs a difference is explained by: as they are compared, those in blocks that both sides have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.blocks import Placed, pairs_of
from orchestrator.report.pairs import Pair
from orchestrator.report.variants import Run

Blocks = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The number of the block that each run was in, from 0, by side."""


def in_blocks(pair: Pair, able: Callable[[Run], bool] = lambda run: True) -> tuple[Pair, Blocks | None]:
    """The pair with the paired runs alone, of those that are ``able``, and their blocks; as it is, and None,
    where fewer than two blocks are shared."""
    sides = [[run for run in side.runs if able(run)] for side in (pair.baseline, pair.variant)]
    found = pairs_of(*([Placed(0.0, run.row.get("block")) for run in side] for side in sides))
    if found is None:
        return pair, None
    kept = [[side[i] for i in of] for side, of in zip(sides, found.kept, strict=True)]
    numbers: dict[object, int] = {}
    for run in kept[0]:
        numbers.setdefault(run.row["block"], len(numbers))
    places = [np.array([numbers[run.row["block"]] for run in side]) for side in kept]
    baseline, variant = (
        replace(pair.baseline, runs=tuple(kept[0])),
        replace(pair.variant, runs=tuple(kept[1])),
    )
    return replace(pair, baseline=baseline, variant=variant), (places[0], places[1])


def runs_told(counts: Sequence[int], blocks: Blocks | None) -> str:
    """``3 and 3 runs``, and that they are paired where they are."""
    return f"{counts[0]} and {counts[1]} runs{'' if blocks is None else ', paired by block'}"
