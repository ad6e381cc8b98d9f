"""What a family makes of one row, before any prompt style is applied."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config.schema import DatasetConfig
from orchestrator.records import AnswerKind

Row = Mapping[str, Any]

# "both A and C", "all of the above": such an option means something else in another place.
_POSITIONAL = re.compile(
    r"\b(?:above|below)\b"
    r"|(?:\b|\()[A-J]\)?(?:,| and| or| nor| &) ?(?:and |or )?\(?[A-J]\b"
    r"|\b[A-C] B and C\b",
)


@dataclass(frozen=True, slots=True)
class Question:
    """One question. ``answer`` is the reference (the letter when there are ``options``, empty when no answer
    is right or wrong) and ``worked`` a worked solution, for use as a few-shot example: its final answer
    is stated after it, and a box around it is taken away."""

    item_id: str
    text: str
    answer: str
    options: tuple[str, ...] = ()
    worked: str = ""
    group: str | None = None
    level: int | None = None

    @property
    def kind(self) -> AnswerKind:
        if self.options:
            return "choice"
        return "math" if self.answer else "none"


@dataclass(frozen=True, slots=True)
class Family:
    """How the rows of one dataset become questions.

    ``fields`` are the columns every row must have. ``question`` raises ValueError when a row makes no
    sense, and gives None for a row that is not part of the dataset (another subject, say). ``exemplars``
    are the field's standard few-shot examples; without them a few items are held out instead. ``rows``
    replaces reading a file or the hub, and gives ``size`` of them. ``repeated`` are the ids of published
    items of which two options are the same.
    """

    fields: tuple[str, ...]
    question: Callable[[Row], Question | None]
    exemplars: tuple[Question, ...] = ()
    rows: Callable[[DatasetConfig], Sequence[Row]] | None = None
    size: int | None = None
    version: str | None = None
    repeated: frozenset[str] = frozenset()


class Repeated(ValueError):
    """Two options of a question are the same. ``once`` is the question with the right one asked once."""

    def __init__(self, text: str, once: Question) -> None:
        super().__init__(f"two options are {text[:40]!r}")
        self.once = once


def content_id(*texts: str) -> str:
    """The id of a row that has none: the same wherever the row is read from."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def choice(
    item_id: str, text: str, options: Sequence[str], correct: int, group: str | None = None
) -> Question:
    """A multiple-choice question with its options in an order that depends on the item alone, so that it is
    the same in every cell, for every seed, and wherever the correct option stood in the file.

    Options that refer to each other by letter or place keep the order of the file. Raises `Repeated` where
    two are the same.
    """
    again = [text for place, text in enumerate(options) if text in options[:place]]
    kept = [i for i, one in enumerate(options) if i == correct or one != options[correct]]
    order = list(kept)
    if not any(_POSITIONAL.search(option) for option in options):
        order.sort(key=lambda i: hashlib.sha256(f"{item_id}\0{options[i]}".encode()).digest())
    letter = chr(ord("A") + order.index(correct))
    made = Question(item_id, text, letter, tuple(options[i] for i in order), group=group)
    if again:
        raise Repeated(again[0], made)
    return made
