"""A cell as the final table has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A cell of the table: what is stored of it, and what sets it apart (``overrides`` by key, ``label`` in
    words). ``run_of`` is shared by the runs of a cell, which are one row."""

    cell_id: str
    run_of: str
    simulated: bool
    model: str
    overrides: Mapping[str, str]
    label: str
    row: Row | None


def runs_of(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines of one row each."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.run_of, []).append(line)
    return list(found.values())
