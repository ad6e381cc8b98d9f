"""Tables and figures as files: CSV for programs, LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.tables import Table


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is absent is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_latex(table: Table) -> str:
    """A table environment; its rules are those of the package booktabs."""
    lines = [
        "\\begin{table}",
        f"\\caption{{{_tex(table.title)}. {_tex(table.note)}}}",
        f"\\begin{{tabular}}{{{'l' * len(table.head)}}}",
        "\\toprule",
        " & ".join(_tex(one) for one in table.head) + " \\\\",
        "\\midrule",
        *(" & ".join(_tex(one) for one in row) + " \\\\" for row in table.cells),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}
_TEX |= {"−": "$-$", "±": r"$\pm$", "·": r"$\cdot$", "–": "--", "<": "$<$", ">": "$>$"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)
