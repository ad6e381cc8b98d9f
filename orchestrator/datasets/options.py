"""The options of a question, read strictly: their labels, their texts, and which of them is the right one."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from orchestrator.datasets.fields import Row, is_number, kind_of, shown, whole

_LETTERS = tuple(string.ascii_uppercase)

# "A. Rome", "A) Rome", "A: Rome", "(A) Rome", "[A] Rome", and the same with a number.
_PREFIXES = tuple(
    re.compile(rf"{opening}([A-Za-z]|\d{{1,2}}){closing}\s+(?=\S)", re.ASCII)
    for opening, closing in (("", r"\."), ("", r"\)"), ("", ":"), (r"\(", r"\)"), (r"\[", r"\]"))
)


class Options(NamedTuple):
    """``labels`` and ``texts`` go together; ``told`` where the row itself has the labels, and not only the
    order of the texts; ``moved`` where that order is not the row's."""

    labels: Sequence[str]
    texts: Sequence[str]
    told: bool
    moved: bool = False

    def labelled(self, row: Row, field: str) -> int:
        """The index of the option whose label is the field's whole value, in upper or lower case. Raises
        ValueError."""
        value = row[field]
        label = str(value).strip() if isinstance(value, str) or is_number(value) else ""
        for one in (label, label.upper(), label.lower()):
            if one in self.labels:
                return self.labels.index(one)
        raise ValueError(f"{field} is {shown(value)}, must be one of {', '.join(self.labels)}")


def options(row: Row, field: str) -> Options:
    """Of a list of texts (A, B, …), of a mapping of labels to texts, of one of the two lists ``label`` and
    ``text``, or of a list of objects with a ``label`` and a ``text``. A label that every text begins with
    ("A. Rome") is taken away where it is the option's own.

    Raises ValueError for everything else, for an empty text, and where label and text, or place and text,
    name different letters."""
    labels, texts = _parts(row[field], field)
    told = labels is not None
    if not isinstance(texts, list) or not isinstance(labels, list | None):
        raise ValueError(f"{field} is {kind_of(row[field])}, must be a list of texts")
    if not 2 <= len(texts) <= len(_LETTERS):
        raise ValueError(f"{field} has {len(texts)} options, must have 2 to {len(_LETTERS)}")
    labels = list(_LETTERS[: len(texts)]) if labels is None else labels
    if len(labels) != len(texts):
        raise ValueError(f"{field} has {len(labels)} labels for {len(texts)} options")
    for one in (*labels, *texts):
        if not isinstance(one, str) and not is_number(one):
            raise ValueError(f"{field} holds {kind_of(one)}, must hold texts")
    named = [str(label).strip() for label in labels]
    if len({one.upper() for one in named}) < len(named) or "" in named:
        raise ValueError(f"{field} has the labels {', '.join(named)}, which must differ")
    read = [whole(str(one), field).strip() for one in texts]
    if "" in read:
        raise ValueError(f"{field} has no text for {named[read.index('')]}")
    named, read, told = _without_prefixes(named, read, told, field)
    if sorted(one.upper() for one in named) == list(_LETTERS[: len(named)]):  # so "both A and C" stays true
        order = sorted(range(len(named)), key=lambda place: named[place].upper())
        moved = order != sorted(order)
        return Options([named[place] for place in order], [read[place] for place in order], told, moved)
    return Options(named, read, told)


def _parts(value: Any, field: str) -> tuple[Any, Any]:
    """Labels, None where there are none, and texts, as they stand."""
    if isinstance(value, Mapping):
        if not {"label", "text"} <= value.keys():
            return list(value), list(value.values())
        _check_keys(value, field)
        return value["label"], value["text"]
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        for one in value:
            _check_keys(one, field)
        return [one["label"] for one in value], [one["text"] for one in value]
    return None, value


def _check_keys(option: Mapping[str, Any], field: str) -> None:
    """An ``id`` or a ``key`` may be the label or not: nothing is taken for it unsaid."""
    if option.keys() != {"label", "text"}:
        found = ", ".join(sorted(map(str, option))) or "nothing"
        raise ValueError(f"{field} has an option with {found}, must have label and text and nothing else")


def _without_prefixes(
    labels: list[str], texts: list[str], told: bool, field: str
) -> tuple[list[str], list[str], bool]:
    """Texts that all begin with their own label, without it. Letters that name species ("E. coli") or
    isomers ("(R)-") are none: not each option has the letter of another."""
    for pattern in _PREFIXES:
        found = [pattern.match(text) for text in texts]
        marks = [one[1].upper() if one else None for one in found]
        own = [label.upper() for label in labels]
        numbers = [int(mark) for mark in marks if mark and mark.isdigit()]
        if not told and len(numbers) == len(texts) and min(numbers) < 2:  # numbered, without other labels
            own = [str(number) for number in range(min(numbers), min(numbers) + len(texts))]
        agreeing = [mark == label for mark, label in zip(marks, own, strict=True)]
        if all(agreeing):
            rest = [text[one.end() :] for text, one in zip(texts, found, strict=True) if one]
            return (labels if told else own), rest, True
        if set(marks) == set(own) or _goes_on(marks) or 2 <= sum(agreeing) >= len(own) / 2:
            place = agreeing.index(False)
            raise ValueError(f"{field} has {shown(texts[place])} where {own[place]} is due")
    return labels, texts, told


def _goes_on(marks: Sequence[str | None]) -> bool:
    """Whether they are at least three letters or numbers, one after another, wherever they begin."""
    codes = [int(one) if one and one.isdigit() else ord(one) if one else None for one in marks]
    first = codes[0]
    return first is not None and len(codes) > 2 and codes == list(range(first, first + len(codes)))
