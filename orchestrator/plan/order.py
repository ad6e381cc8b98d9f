"""In which order the cells of a deployment are measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.cell import Cell

if TYPE_CHECKING:
    from orchestrator.plan.plan import PlannedCell


def cheapest_first(members: Sequence[PlannedCell]) -> tuple[Cell, ...]:
    """The first run of every cell before any second one, then every point once before any is repeated with
    another seed, then the shortest first: what is known early is the most, a drift of the machine falls on
    all points alike, and the runs of a cell are apart in time."""
    seen: Counter[tuple[object, ...]] = Counter()
    rounds = []
    for one in sorted(members, key=lambda one: one.estimated_s or one.cell.config.max_tokens):
        words = tuple(o for o in one.cell.overrides if o.lstrip("+").split("=", 1)[0] != "seed")
        point = (one.cell.run, *words)
        rounds.append(((one.cell.run, seen[point]), one.cell))
        seen[point] += 1
    return tuple(cell for _, cell in sorted(rounds, key=lambda pair: pair[0]))
