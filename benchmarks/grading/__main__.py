"""Grade hand-written cases by their kind, and with data, every reference in every style and real solutions.

    python -m benchmarks.grading [--data FOLDER] [--solutions example_model_solutions.jsonl]

The cases and the solutions are those of `cases` and `solutions`. FOLDER holds gsm8k_test.jsonl,
math500_test.jsonl, aime24_test.jsonl and mmlu_stem_test.jsonl; every reference answer is written in every
style, and what was not graded as it should be is printed. Right: the item's own reference is graded correct.
Refused: the reference of another item is graded wrong, for several other items each; items whose references
read the same are left out. Choices: another letter of the same item.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.grading import cases, solutions
from benchmarks.grading.styles import CHOICE, MATH
from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets import load
from orchestrator.grading import grade_many
from orchestrator.records import Item

MATH_FILES = {"gsm8k": "gsm8k_test.jsonl", "math500": "math500_test.jsonl", "aime24": "aime24_test.jsonl"}
CHOICE_FILES = {"mmlu-stem": "mmlu_stem_test.jsonl"}
OFFSETS = (1, 7, 19, 101, 307)  # which other items lend their reference


@dataclass(frozen=True, slots=True)
class Case:
    """A response that should be graded ``right``."""

    item: Item
    text: str
    right: bool


def math_cases(
    items: tuple[Item, ...], style: Callable[[Item], str | None], offsets: tuple[int, ...] = OFFSETS
) -> Iterator[Case]:
    for position, item in enumerate(items):
        if (text := style(item)) is not None:
            yield Case(item, text, right=True)
        for offset in offsets:
            other = items[(position + offset) % len(items)]
            if other.reference != item.reference and (text := style(other)) is not None:
                yield Case(item, text, right=False)


def choice_cases(items: tuple[Item, ...], style: Callable[[Item, str], str]) -> Iterator[Case]:
    for item in items:
        expected = item.options[ord(item.reference) - ord("A")]
        for i, option in enumerate(item.options):
            letter = chr(ord("A") + i)
            if letter == item.reference or option != expected:  # a few questions offer a text twice
                yield Case(item, style(item, letter), right=letter == item.reference)


def table(name: str, title: str, cases: list[Case]) -> tuple[int, float]:
    """Prints one row, and each case that was not graded as it should be; gives answers and seconds."""
    start = time.perf_counter()
    grades = grade_many([c.item for c in cases], [c.text for c in cases], [False] * len(cases))
    seconds = time.perf_counter() - start
    cells = []
    for right in (True, False):
        graded = [g.correct == right for c, g in zip(cases, grades, strict=True) if c.right == right]
        share = f"{100 * sum(graded) / len(graded):.2f} %" if graded else "-"
        cells.append(f"{sum(graded)} of {len(graded)} | {share}")
    print(f"| {name} | {title} | {' | '.join(cells)} |", flush=True)
    for case, result in zip(cases, grades, strict=True):
        if result.correct != case.right:
            verdict = "not accepted" if case.right else "accepted"
            print(
                f"    {verdict}: {name} {case.item.item_id}, reference {case.item.reference!r}"
                f"{f' of {case.item.options}' if case.item.options else ''}: "
                f"{case.text[-100:]!r} read as {result.predicted!r}"
            )
    return len(cases), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--solutions", type=Path)
    args = parser.parse_args()
    cases.print_table()
    if args.solutions is not None:
        solutions.print_table(args.solutions)
    if args.data is not None:
        styles_table(args.data)


def styles_table(data: Path) -> None:
    answers, seconds = 0, 0.0
    print("\n| dataset | style | right | | refused | |\n|---|---|---|---|---|---|")
    for name, file in MATH_FILES.items():
        items = load(DatasetConfig(name=name, path=str(data / file)), None).items
        for title, style in MATH.items():
            count, took = table(name, title, list(math_cases(items, style)))
            answers, seconds = answers + count, seconds + took
    for name, file in CHOICE_FILES.items():
        items = load(DatasetConfig(name=name, path=str(data / file)), None).items
        for title, choice_style in CHOICE.items():
            count, took = table(name, title, list(choice_cases(items, choice_style)))
            answers, seconds = answers + count, seconds + took
    print(f"\n{answers} answers in {seconds:.1f} s, one process: {answers / seconds:.0f} answers/s")


if __name__ == "__main__":
    main()
