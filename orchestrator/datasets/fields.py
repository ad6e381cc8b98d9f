"""A row's fields, read strictly: what has another form than a dataset's own is refused, not made a text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


def text(row: Row, field: str) -> str:
    """A text with something in it, stripped. Raises ValueError."""
    value = row[field]
    if not isinstance(value, str):
        raise ValueError(f"{field} is {kind_of(value)}, must be a text")
    if not (stripped := whole(value, field).strip()):
        raise ValueError(f"{field} is empty")
    return stripped


def answer(row: Row, field: str) -> str:
    """As `text`, or a number, as it is printed."""
    value = row[field]
    if not isinstance(value, str) and not is_number(value):
        raise ValueError(f"{field} is {kind_of(value)}, must be a text or a finite number")
    return str(value) if is_number(value) else text(row, field)


def name(row: Row, field: str) -> str | None:
    """What names a row, or its group; None where the field is absent, null or empty."""
    value = row.get(field)
    if value is None or value == "":
        return None
    return str(value) if is_number(value) else text(row, field)


def optional(row: Row, field: str) -> str:
    """As `text`, or empty where the field is absent, null or empty."""
    return "" if row.get(field) in (None, "") else text(row, field)


def whole(value: str, field: str) -> str:
    """Raises ValueError for half of a surrogate pair, which no request can carry."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise ValueError(f"{field} holds {half}, half of a surrogate pair") from None
    return value


def is_number(value: object) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def kind_of(value: object) -> str:
    """For a message: what it is instead of a text."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity"
    names = {str: "a text", list: "a list", dict: "a mapping", int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")


def shown(value: object) -> str:
    """For a message: the beginning of a value."""
    return repr(value)[:40] if isinstance(value, str) else str(value)[:40]
