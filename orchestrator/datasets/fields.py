"""A row's fields, read strictly: what has another form than a dataset's own is refused, not made a text."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def text(row: Row, field: str) -> str:
    """A text with something in it, stripped. Raises ValueError."""
    value = row[field]
    if not isinstance(value, str):
        raise ValueError(f"{field} is {_kind(value)}, must be a text")
    if not (stripped := _whole(value, field).strip()):
        raise ValueError(f"{field} is empty")
    return stripped


def answer(row: Row, field: str) -> str:
    """As `text`, or a number, as it is printed."""
    value = row[field]
    return str(value) if _is_number(value) else text(row, field)


def name(row: Row, field: str) -> str | None:
    """What names a row, or its group; None where the field is absent, null or empty."""
    value = row.get(field)
    if value is None or value == "":
        return None
    return str(value) if _is_number(value) else text(row, field)


def optional(row: Row, field: str) -> str:
    """As `text`, or empty where the field is absent, null or empty."""
    return "" if row.get(field) in (None, "") else text(row, field)


def options(row: Row, field: str) -> tuple[list[str], list[str]]:
    """The labels of the options, and their texts: of a list of texts (A, B, …), of a mapping of labels to
    texts, of one of the two lists ``label`` and ``text``, or of a list of objects with a ``label`` and a
    ``text``. Raises ValueError for everything else."""
    value = row[field]
    letters = list(string.ascii_uppercase)
    labels: Any
    texts: Any
    if isinstance(value, Mapping):
        if {"label", "text"} <= value.keys():
            labels, texts = value["label"], value["text"]
        else:
            labels, texts = list(value), list(value.values())
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        labels = [one.get("label", letter) for one, letter in zip(value, letters, strict=False)]
        texts = [one.get("text") for one in value]
    else:
        labels, texts = letters[: len(value)] if isinstance(value, list) else [], value
    if not isinstance(texts, list) or not isinstance(labels, list):
        raise ValueError(f"{field} is {_kind(value)}, must be a list of texts")
    if not 2 <= len(texts) <= len(letters):
        raise ValueError(f"{field} has {len(texts)} options, must have 2 to {len(letters)}")
    if len(labels) != len(texts):
        raise ValueError(f"{field} has {len(labels)} labels for {len(texts)} options")
    for one in (*labels, *texts):
        if not isinstance(one, str) and not _is_number(one):
            raise ValueError(f"{field} holds {_kind(one)}, must hold texts")
    named = [str(label).strip() for label in labels]
    if len(set(named)) < len(named) or "" in named:
        raise ValueError(f"{field} has the labels {', '.join(named)}, which must differ")
    read = [_whole(str(one), field).strip() for one in texts]
    if sorted(one.upper() for one in named) == letters[: len(named)]:  # "both A and C" then means the same
        order = sorted(range(len(named)), key=lambda place: named[place].upper())
        return [named[place] for place in order], [read[place] for place in order]
    return named, read


def labelled(row: Row, field: str, labels: Sequence[str]) -> int:
    """The index of the option whose label is the field's whole value, in upper or lower case. Raises
    ValueError."""
    value = row[field]
    label = str(value).strip() if isinstance(value, str) or _is_number(value) else ""
    for one in (label, label.upper(), label.lower()):
        if one in labels:
            return labels.index(one)
    raise ValueError(f"{field} is {_shown(value)}, must be one of {', '.join(labels)}")


def _whole(value: str, field: str) -> str:
    """Raises ValueError for half of a surrogate pair, which no request can carry."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise ValueError(f"{field} holds {half}, half of a surrogate pair") from None
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    names = {str: "a text", list: "a list", dict: "a mapping", int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")


def _shown(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str) else str(value)[:40]
