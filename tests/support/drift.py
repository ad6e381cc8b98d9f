"""Runs of two cells on a machine that becomes slower: the level of all it measures falls steadily."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.blocks import Placed

Sides = tuple[list[Placed], list[Placed]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Machine:
    """``drift``: how much the level changes from the first run to the last, and ``noise``: the standard
    deviation of a run, both of logarithms."""

    drift: float = -0.2
    noise: float = 0.01

    def in_blocks(self, effect: float, blocks: int, seed: int) -> Sides:
        """Logarithms of runs of A and of B, which is higher by ``effect``, each block in a random order."""
        random = np.random.default_rng(seed)
        places = np.where(random.random(blocks) < 0.5, 1, 2)
        starts = 2 * np.arange(blocks)
        a, b = (self._runs(random, starts + of - 1) for of in (places, 3 - places))
        return _placed(a, places), _placed(b + effect, 3 - places)

    def one_after_the_other(self, effect: float, runs: int, seed: int) -> Sides:
        """All runs of A, then all of B."""
        random = np.random.default_rng(seed)
        a, b = (self._runs(random, np.arange(runs) + start) for start in (0, runs))
        return [Placed(float(one)) for one in a], [Placed(float(one + effect)) for one in b]

    def _runs(self, random: np.random.Generator, times: NDArray[np.int64]) -> Floats:
        found: Floats = self.drift * times / (2 * len(times)) + random.normal(0, self.noise, len(times))
        return found


def _placed(values: Floats, places: NDArray[np.int64]) -> list[Placed]:
    return [
        Placed(float(value), f"b{block}", int(place))
        for block, (value, place) in enumerate(zip(values, places, strict=True))
    ]
