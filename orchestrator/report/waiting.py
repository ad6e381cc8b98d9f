"""What waits for draws, so that many comparisons go through the same ones together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.compare import Comparison, compare_grouped
from orchestrator.metrics.grouped import Grouped
from orchestrator.metrics.significance import Interval, sign_flips

SEED = 0
RESAMPLES = 2000  # of an interval within one run, which decides nothing
FLIPS = 10_000

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Flips(Generic[T]):
    """``then`` makes the result of what `sign_flips` finds in paired ``differences``."""

    differences: NDArray[np.float64]
    then: Callable[[Interval | None], T]


@dataclass(frozen=True, eq=False)
class Resamples(Generic[T]):
    """``then`` makes the result of what `compare_grouped` finds in the two ``sides``."""

    sides: tuple[Grouped, Grouped]
    quantile: float | None
    then: Callable[[Comparison | None], T]


def settled(found: Sequence[T | Flips[T] | Resamples[T]]) -> list[T]:
    """The results, in their order."""
    results: dict[int, T] = {}
    flips = {i: one for i, one in enumerate(found) if isinstance(one, Flips)}
    intervals = sign_flips([one.differences for one in flips.values()], SEED, FLIPS)
    for (i, flip), interval in zip(flips.items(), intervals, strict=True):
        results[i] = flip.then(interval)
    resamples = {i: one for i, one in enumerate(found) if isinstance(one, Resamples)}
    for quantile in {one.quantile for one in resamples.values()}:
        alike = {i: one for i, one in resamples.items() if one.quantile == quantile}
        sides = [one.sides for one in alike.values()]
        for (i, one), comparison in zip(
            alike.items(), compare_grouped(sides, quantile, SEED, RESAMPLES), strict=True
        ):
            results[i] = one.then(comparison)
    return [results[i] if isinstance(one, Flips | Resamples) else one for i, one in enumerate(found)]
