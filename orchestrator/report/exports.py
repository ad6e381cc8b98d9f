"""Tables and figures as files: CSV for programs, LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.tables import Table
from orchestrator.report.tex import tex


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
        f"\\caption{{{tex(table.title)}. {tex(table.note)}}}",
        f"\\begin{{tabular}}{{{'l' * len(table.head)}}}",
        "\\toprule",
        " & ".join(tex(one) for one in table.head) + " \\\\",
        "\\midrule",
        *(" & ".join(tex(one) for one in row) + " \\\\" for row in table.cells),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"
