"""Tables as files for other programs: CSV, and LaTeX with the rules of the booktabs package."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "µ": r"$\mu$"}
_TEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}
_TEX |= {"−": "$-$", "±": r"$\pm$", "·": r"$\cdot$", "–": "--", "<": "$<$", ">": "$>$"}
_AS_TEX = str.maketrans(_TEX)


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """``columns``, by default all that a row has, in full precision; absent is empty, a list is JSON, a time
    is ISO 8601."""
    said = io.StringIO()
    writer = csv.writer(said, lineterminator="\n")
    names = list(dict.fromkeys(key for row in rows for key in row)) if columns is None else columns
    writer.writerow(names)
    for row in rows:
        writer.writerow([_plain(row.get(name)) for name in names])
    return said.getvalue()


def tabular(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> list[str]:
    """The lines of a ``tabular``, whose first ``left`` columns are aligned to the left."""
    return [
        f"\\begin{{tabular}}{{{'l' * left + 'r' * (len(head) - left)}}}",
        "\\toprule",
        _row(head),
        "\\midrule",
        *map(_row, rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]


def tex(text: str) -> str:
    """The text in one line, as it is where LaTeX would read some of it as its own."""
    return " ".join(text.split()).translate(_AS_TEX)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(tex, cells)) + r" \\"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
