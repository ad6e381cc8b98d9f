"""Sums and one-step word problems, made here: a dataset that needs no file and no network, easy enough that
a model of 135 million parameters gets a good part of it right."""

from __future__ import annotations

import random
from collections.abc import Sequence

from orchestrator.datasets.question import Family, Question, Row

SIZE = 1024
VERSION = "arithmetic-1"

_NAMES = ("Ana", "Ben", "Chloe", "Dan", "Eva", "Finn", "Grace", "Hugo", "Iris", "Jack")
_THINGS = ("apples", "books", "coins", "eggs", "marbles", "pencils", "shells", "stamps")
_TEMPLATES = (
    ("sum", "What is {a} + {b}?"),
    ("sum", "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?"),
    ("difference", "What is {c} - {b}?"),
    ("difference", "{name} has {c} {things} and gives away {b}. How many {things} does {name} have left?"),
    ("product", "What is {d} times {e}?"),
    ("product", "{name} has {d} boxes with {e} {things} in each. How many {things} does {name} have?"),
)


def rows() -> Sequence[Row]:
    """All items, in a fixed order. Only ``random()`` is drawn from: of a seeded generator's methods it alone
    is promised to give the same sequence in every Python version."""
    return [_row(i) for i in range(SIZE)]


def _row(index: int) -> Row:
    draw = random.Random(f"{VERSION}/{index}").random
    a, b = 2 + int(draw() * 18), 2 + int(draw() * 8)
    d, e = 2 + int(draw() * 8), 2 + int(draw() * 8)
    group, template = _TEMPLATES[index % len(_TEMPLATES)]
    text = template.format(
        a=a,
        b=b,
        c=a + b,
        d=d,
        e=e,
        name=_NAMES[int(draw() * len(_NAMES))],
        things=_THINGS[int(draw() * len(_THINGS))],
    )
    answer = {"sum": a + b, "difference": a, "product": d * e}[group]
    return {"id": f"{index:04d}", "question": text, "answer": str(answer), "group": group}


def _question(row: Row) -> Question:
    return Question(row["id"], row["question"], row["answer"], group=row["group"])


FAMILY = Family(fields=("id", "question", "answer", "group"), question=_question, rows=rows, version=VERSION)
