"""What a family makes: the words of a question, its answer, and how it is worked out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.worked.draw import Draw
from orchestrator.worked.pen import Pen

LEVELS = (1, 2, 3, 4, 5, 6, 7, 8)

NAMES = (
    *("Ana", "Ben", "Chloe", "Dan", "Eva", "Finn", "Grace", "Hugo", "Iris", "Jack"),
    *("Kim", "Leo", "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Uma"),
)
THINGS = (
    *("apples", "books", "coins", "eggs", "marbles", "pencils", "shells", "stamps", "cards", "stickers"),
    *("beads", "nuts"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """``key`` says what is computed, whatever the words; ``think`` writes the way to ``answer``."""

    family: str
    level: int
    key: str
    text: str
    answer: int
    think: Callable[[Pen], None]


Maker = Callable[[Draw, int], Problem]


def by_level(*values: int) -> dict[int, int]:
    """One value for each of `LEVELS`."""
    return dict(zip(LEVELS, values, strict=True))
