"""Tables for other programs: Markdown and LaTeX of what is shown, CSV of all that is stored."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from orchestrator.progress.results_table import Grid

_TEX = {
    **{one: f"\\{one}" for one in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "µ": r"$\mu$",
}


def markdown(grid: Grid) -> str:
    """A table of GitHub's kind, its title above."""
    rule = [":---" if number < grid.left else "---:" for number in range(len(grid.header))]
    body = [
        [_flat(one).replace("\\", "\\\\").replace("|", "\\|") for one in row]
        for row in (grid.header, *grid.rows)
    ]
    rows = [body[0], rule, *body[1:]]
    return "\n".join([f"**{grid.title}**", "", *(f"| {' | '.join(row)} |" for row in rows), ""])


def latex(grid: Grid) -> str:
    """A ``tabular`` with the rules of the booktabs package, its title as a comment."""
    columns = "l" * grid.left + "r" * (len(grid.header) - grid.left)
    header, *rows = ([_tex(one) for one in row] for row in (grid.header, *grid.rows))
    return "\n".join(
        [
            f"% {_flat(grid.title)}; needs \\usepackage{{booktabs}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            " & ".join(header) + r" \\",
            "\\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """Every column in full precision; absent is empty, a list is JSON, a time is ISO 8601."""
    said = io.StringIO()
    writer = csv.writer(said, lineterminator="\n")
    names = list(columns)
    writer.writerow(names)
    for row in rows:
        writer.writerow([_plain(row.get(name)) for name in names])
    return said.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _tex(text: str) -> str:
    return "".join(_TEX.get(one, one) for one in _flat(text))


def _flat(text: str) -> str:
    return " ".join(text.split())
