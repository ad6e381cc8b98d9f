"""The hand-written cases of tests/grading, graded and counted by their kind.

`CASES` names two files of JSON lines with the fields kind, response, reference, options (multiple choice
only) and expected. The second has other answers of the same kinds, so that a rule made for single wordings
shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.grading import grade_many
from orchestrator.records import Grade, Item

_FOLDER = Path(__file__).parents[2] / "tests/grading"
CASES = {"cases": _FOLDER / "cases.jsonl", "others": _FOLDER / "cases_others.jsonl"}


@dataclass(frozen=True, slots=True)
class Case:
    """A response, what it is graded against, and whether a reader would call it right."""

    kind: str
    item: Item
    response: str
    expected: bool


@dataclass(frozen=True, slots=True)
class Count:
    """Of the wrong responses of a kind, how many were accepted; of the right ones, how many refused."""

    wrong: int
    accepted: int
    right: int
    refused: int


def read(path: Path) -> list[Case]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [
        Case(
            row["kind"],
            Item(
                str(i),
                (),
                row["reference"],
                "choice" if "options" in row else "math",
                tuple(row.get("options", ())),
            ),
            row["response"],
            row["expected"],
        )
        for i, row in enumerate(rows)
    ]


def graded(cases: list[Case]) -> list[tuple[Case, Grade]]:
    grades = grade_many([c.item for c in cases], [c.response for c in cases], [False] * len(cases))
    return list(zip(cases, grades, strict=True))


def count(results: Iterable[tuple[Case, Grade]]) -> Count:
    verdicts = [(case.expected, bool(grade.correct)) for case, grade in results]
    return Count(
        wrong=sum(not expected for expected, _ in verdicts),
        accepted=verdicts.count((False, True)),
        right=sum(expected for expected, _ in verdicts),
        refused=verdicts.count((True, False)),
    )


def print_table() -> None:
    """One row per kind, both files in it, and each case that was not graded as it should be."""
    results = {name: graded(read(path)) for name, path in CASES.items()}
    kinds = dict.fromkeys(case.kind for rows in results.values() for case, _ in rows)
    titles = " | ".join(f"{name}: wrong accepted | right refused" for name in results)
    print(f"| kind | {titles} |\n|---|{'---|' * 2 * len(results)}")
    for kind in [*kinds, "all"]:
        cells = []
        for rows in results.values():
            counts = count(row for row in rows if kind in (row[0].kind, "all"))
            cells += [f"{counts.accepted} of {counts.wrong}", f"{counts.refused} of {counts.right}"]
        print(f"| {kind} | {' | '.join(cells)} |")
    for rows in results.values():
        for case, grade in rows:
            if bool(grade.correct) != case.expected:
                verdict = "accepted" if grade.correct else "refused"
                print(
                    f"    {verdict}: {case.kind}, reference {case.item.reference!r}: "
                    f"{case.response[-120:]!r} read as {grade.predicted!r}"
                )
