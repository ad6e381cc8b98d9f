"""Runs compared block by block. In a block one slot measures one run of every deployment, in random order:
what the machine was like then (clocks, temperature, neighbours) is shared by all of them, and cancels in the
difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.metrics.compare import Comparison, Pairing, compare_runs
from orchestrator.metrics.significance import between_blocks, between_runs

FEWEST_BLOCKS = 2  # that both have; one tells no spread


@dataclass(frozen=True, slots=True)
class Placed:
    """One number of a run, with the block that it was in and its place there, from 1; None where it was in
    none, or its place is not known."""

    value: float
    block: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Pairs:
    """``a`` and ``b``: the numbers of both cells in each block that both have, in one order. ``one_order``:
    the same cell came first in each of them, as far as places are known. ``kept``: which runs these are, by
    their places in what was given."""

    a: list[float]
    b: list[float]
    one_order: bool
    kept: tuple[list[int], list[int]]


def pairs_of(a: Sequence[Placed], b: Sequence[Placed]) -> Pairs | None:
    """None where fewer than `FEWEST_BLOCKS` are shared. Of several runs of a cell in one block (of two seeds,
    say) the mean counts."""
    of_a, of_b = _by_block(a), _by_block(b)
    shared = [block for block in of_a if block in of_b]
    if len(shared) < FEWEST_BLOCKS:
        return None
    values = [[float(np.mean([run.value for run in of[block]])) for block in shared] for of in (of_a, of_b)]
    orders = {_place(of_a[block]) < _place(of_b[block]) for block in shared}
    known = all(run.position is not None for of in (of_a, of_b) for block in shared for run in of[block])
    kept = [[i for i, run in enumerate(side) if run.block in shared] for side in (a, b)]
    return Pairs(values[0], values[1], known and len(orders) == 1, (kept[0], kept[1]))


def compare_blocks(a: Sequence[Placed], b: Sequence[Placed]) -> Comparison | None:
    """The mean difference within a block, by the rule of `significance.between_blocks`. Runs in blocks that
    the other cell has not are left out; where fewer than `FEWEST_BLOCKS` are shared nothing is paired, and
    the comparison is that of `compare_runs`. An effect that is a factor takes logarithms."""
    pairs = pairs_of(a, b)
    if pairs is None:
        return compare_runs([run.value for run in a], [run.value for run in b])
    interval, method = between_blocks(pairs.a, pairs.b, one_order=pairs.one_order)
    unpaired = between_runs(pairs.a, pairs.b)
    whole = 0.0 if unpaired is None else unpaired[0].high - unpaired[0].low
    width = (interval.high - interval.low) / whole if whole > 0 else None
    pairing = Pairing((len(pairs.kept[0]), len(pairs.kept[1])), (len(a), len(b)), width)
    difference = float(np.mean(pairs.b) - np.mean(pairs.a))
    low, high, p = interval.low, interval.high, interval.p
    return Comparison(difference, low, high, p, 0, method, "block", len(pairs.a), pairing=pairing)


def _by_block(runs: Sequence[Placed]) -> dict[str, list[Placed]]:
    found: dict[str, list[Placed]] = {}
    for run in runs:
        if run.block is not None:
            found.setdefault(run.block, []).append(run)
    return found


def _place(runs: Sequence[Placed]) -> float:
    return float(np.mean([run.position or 0 for run in runs]))
