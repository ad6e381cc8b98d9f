"""Draws that are the same in every Python version: of a seeded generator's methods ``random()`` alone is
promised to be."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draw:
    """``random`` gives a float in [0, 1)."""

    random: Callable[[], float]

    def between(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return low + int(self.random() * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.random() * len(choices))]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """``count`` different ones, in the order drawn."""
        left = list(choices)
        return [left.pop(int(self.random() * len(left))) for _ in range(count)]


def seeded(*names: object) -> Draw:
    return Draw(random.Random(" ".join(map(str, names))).random)
