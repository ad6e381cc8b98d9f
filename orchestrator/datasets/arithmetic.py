"""Sums and one-step word problems, made here: a dataset that needs no file and no network, easy enough that
a model of 135 million parameters gets a good part of it right."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

from orchestrator.datasets.question import Family, Question, Row

SIZE = 512
VERSION = "arithmetic-1"

_NAMES = ("Ana", "Ben", "Chloe", "Dan", "Eva", "Finn", "Grace", "Hugo", "Iris", "Jack")
_THINGS = ("apples", "books", "coins", "eggs", "marbles", "pencils", "shells", "stamps")
_TEMPLATES = (
    ("sum", "What is {a} + {b}?"),
    ("sum", "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?"),
    ("sum", "{name} has {a} {things}. {name} buys {b} more {things}. How many {things} is that in total?"),
    ("difference", "What is {c} - {b}?"),
    ("difference", "{name} has {c} {things} and gives away {b}. How many {things} does {name} have left?"),
    ("product", "What is {d} times {e}?"),
    ("product", "Calculate {d} * {e}."),
    ("product", "{name} has {d} boxes with {e} {things} in each. How many {things} does {name} have?"),
)


@functools.cache
def rows() -> Sequence[Row]:
    """All items, no question twice, in a fixed order. Only ``random()`` is drawn from: of a seeded
    generator's methods it alone is promised to give the same sequence in every Python version."""
    draw = random.Random(VERSION).random
    result: dict[str, Row] = {}
    while len(result) < SIZE:
        group, template = _TEMPLATES[int(draw() * len(_TEMPLATES))]
        a, b, d, e = 2 + int(draw() * 11), 2 + int(draw() * 8), 2 + int(draw() * 7), 2 + int(draw() * 7)
        name, things = _NAMES[int(draw() * len(_NAMES))], _THINGS[int(draw() * len(_THINGS))]
        text = template.format(a=a, b=b, c=a + b, d=d, e=e, name=name, things=things)
        answer = {"sum": a + b, "difference": a, "product": d * e}[group]
        item_id = f"{len(result):04d}"
        result.setdefault(text, {"id": item_id, "question": text, "answer": str(answer), "group": group})
    return tuple(result.values())


def _question(row: Row) -> Question:
    return Question(row["id"], row["question"], row["answer"], group=row["group"])


FAMILY = Family(
    fields=("id", "question", "answer", "group"),
    question=_question,
    rows=lambda _: rows(),
    size=SIZE,
    version=VERSION,
)
