"""Questions with worked thoughts, by family and level, from a seed: what `training` teaches a small model and
what `dataset=steps` asks of it.

A question's numbers decide on which side it lies (`held_out`), so that nothing is asked that was taught, in
whatever words. Nothing here imports more than the standard library: the host that trains needs no other part
of the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.worked import chains, numbers
from orchestrator.worked.draw import Draw, seeded
from orchestrator.worked.pen import Pen, Piece
from orchestrator.worked.problem import LEVELS, Maker, Problem

__all__ = ["FAMILIES", "LEVELS", "VERSION", "Lesson", "Piece", "Problem", "asked", "held_out", "lessons"]

VERSION = "steps-1"
HELD_OUT = 4  # one question in so many is asked and never taught

FAMILIES: dict[str, Maker] = {
    "operation": numbers.operation,
    "expression": numbers.expression,
    "division": numbers.division,
    "divisor": numbers.divisor,
    "story": chains.story,
    "series": chains.series,
    "time": chains.time,
    "rule": chains.rule,
}

# How a question ends, in the words of `orchestrator.datasets.prompts`, and how it is answered.
BOXED = r"Please reason step by step, and put your final answer within \boxed{}."
PLAIN = "Reply with the final answer only."
COT = 'Think step by step. End with a line of the form "Answer: X", where X is the final answer.'
_ENDINGS = (
    (BOXED, r"The answer is \boxed{{{}}}."),
    (BOXED, r"The answer is \boxed{{{}}}."),
    ("", r"The answer is \boxed{{{}}}."),
    (PLAIN, "{}"),
    (COT, "Answer: {}"),
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question as it is put to the model, the pieces of its thought and the answer after it."""

    problem: Problem
    prompt: str
    thought: tuple[Piece, ...]
    reply: str


def held_out(problem: Problem) -> bool:
    """Whether it is asked rather than taught: by what is computed, not by the words around it."""
    digest = hashlib.sha256(f"{problem.family} {problem.key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT == 0


def asked(count: int, levels: Sequence[int] = LEVELS) -> Iterator[Problem]:
    """``count`` held-out problems, no question twice: levels change fastest, then families, so that the
    first ones are spread over both."""
    seen: set[str] = set()
    names = list(FAMILIES)
    for number in range(count):
        level = levels[number % len(levels)]
        family = names[number // len(levels) % len(names)]
        draw = seeded(VERSION, "asked", number)
        problem = FAMILIES[family](draw, level)
        while not held_out(problem) or problem.text in seen:
            problem = FAMILIES[family](draw, level)
        seen.add(problem.text)
        yield problem


def lessons(seed: int) -> Iterator[Lesson]:
    """Taught problems without end, each family and level as often as any other."""
    draw = seeded(VERSION, "taught", seed)
    names = tuple(FAMILIES)
    while True:
        problem = FAMILIES[draw.pick(names)](draw, draw.pick(LEVELS))
        if not held_out(problem):
            yield _lesson(problem, draw)


def _lesson(problem: Problem, draw: Draw) -> Lesson:
    pen = Pen(draw)
    problem.think(pen)
    ending, reply = draw.pick(_ENDINGS)
    prompt = f"{problem.text}\n\n{ending}" if ending else problem.text
    return Lesson(problem, prompt, pen.pieces(), reply.format(problem.answer))
