"""What equal cells came to: every pair compared as different ones would be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.metrics.blocks import Placed, compare_blocks
from orchestrator.metrics.compare import Comparison, compare_accuracy
from orchestrator.metrics.significance import LEVEL, holm
from orchestrator.store.read import read_cells, read_requests

COLUMNS = ("output_token_per_s", "ttft_s_p50", "tpot_s_p50", "e2e_s_p50", "e2e_s_p99")
ACCURACY = "accuracy"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two cells that differ in their seed alone: the rows of their runs."""

    number: int
    first: tuple[Row, ...]
    second: tuple[Row, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        return (*self.first, *self.second)

    def counts(self, runs: int) -> bool:
        """Whether all runs of both are there and count."""
        return all(
            len(side) == runs and all(row["status"] == "done" for row in side)
            for side in (self.first, self.second)
        )


@dataclass(frozen=True)
class Compared:
    pair: int
    column: str
    comparison: Comparison
    adjusted_p: float | None


def seeds(pair: int) -> tuple[int, int]:
    return 2 * pair, 2 * pair + 1


def pairs(study_dir: Path, numbers: Sequence[int]) -> list[Pair]:
    """Those with any run stored."""
    by_seed: dict[int, list[Row]] = {}
    for row in read_cells(study_dir).to_pylist():
        by_seed.setdefault(row["seed"], []).append(row)
    found = [Pair(n, *(tuple(by_seed.get(seed, ())) for seed in seeds(n))) for n in numbers]
    return [one for one in found if one.rows]


def compared(study_dir: Path, of: Sequence[Pair]) -> list[Compared]:
    """Every pair in every column, with Holm's correction over the whole table."""
    found: list[tuple[int, str, Comparison]] = []
    for pair in of:
        for column in COLUMNS:
            sides = [
                [
                    Placed(row[column], row["block"], row["block_position"])
                    for row in side
                    if row[column] is not None
                ]
                for side in (pair.first, pair.second)
            ]
            if (one := compare_blocks(*sides)) is not None:
                found.append((pair.number, column, one))
        answers = [_answers(study_dir, side) for side in (pair.first, pair.second)]
        if (one := compare_accuracy(*answers[0], *answers[1])) is not None:
            found.append((pair.number, ACCURACY, one))
    adjusted = holm([one.p for _, _, one in found])
    return [Compared(*one, p) for one, p in zip(found, adjusted, strict=True)]


def false_positives(of: Sequence[Compared], *, adjusted: bool) -> tuple[int, int]:
    """How many of the comparisons that have a p call equal cells different, and how many have one."""
    p = [one.adjusted_p if adjusted else one.comparison.p for one in of]
    known = [value for value in p if value is not None]
    return sum(value < LEVEL for value in known), len(known)


def flags(of: Sequence[Pair]) -> Counter[str]:
    """In how many runs each flag was raised."""
    return Counter(flag for pair in of for row in pair.rows for flag in row["flags"] or ())


def _answers(study_dir: Path, rows: Sequence[Row]) -> tuple[list[str], list[bool]]:
    table = read_requests(study_dir, [str(row["cell_id"]) for row in rows]).select(["item_id", "correct"])
    graded = [one for one in table.to_pylist() if one["correct"] is not None]
    return [one["item_id"] for one in graded], [one["correct"] for one in graded]
