"""A table for other programs: Markdown and LaTeX of what is shown."""

from __future__ import annotations

from orchestrator.progress.results_table import Grid
from orchestrator.tabular import tabular


def markdown(grid: Grid) -> str:
    """A table of GitHub's kind, its title above."""
    rule = [":---" if number < grid.left else "---:" for number in range(len(grid.header))]
    body = [
        [" ".join(one.split()).replace("\\", "\\\\").replace("|", "\\|") for one in row]
        for row in (grid.header, *grid.rows)
    ]
    rows = [body[0], rule, *body[1:]]
    return "\n".join([f"**{grid.title}**", "", *(f"| {' | '.join(row)} |" for row in rows), ""])


def latex(grid: Grid) -> str:
    """A ``tabular``, its title as a comment."""
    head = f"% {' '.join(grid.title.split())}; needs \\usepackage{{booktabs}}"
    return "\n".join([head, *tabular(grid.header, grid.rows, grid.left), ""])
