"""Real solutions to GSM8K with the final mark taken off, here and with lm-evaluation-harness's regex.

The file is ``grade_school_math/data/example_model_solutions.jsonl`` of github.com/openai/grade-school-math:
four models' solutions to each test question, each with whether it is right. Its last line, "A: 18", and the
calculator's annotations are removed, so that the answer has to be found in the text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from orchestrator.grading import grade_many
from orchestrator.records import Item

_MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
_ANNOTATION = re.compile(r"<<[^<>]*>>")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")  # flexible-extract of lm-evaluation-harness's gsm8k


def flexible(text: str) -> str | None:
    """The last match of flexible-extract, without what its metric ignores (commas, dollars, a full stop)."""
    found = _FLEXIBLE.findall(text)
    return re.sub(r"\.$", "", re.sub(r"[,$]", "", next(filter(None, found[-1])).strip())) if found else None


def read(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Reference, solution without its mark, and whether it is right; those without a mark are left out."""
    for line in path.open(encoding="utf-8"):
        row = json.loads(line)
        reference = row["ground_truth"].rpartition("A: ")[2].replace(",", "").strip()
        for model in _MODELS:
            body, mark, _ = _ANNOTATION.sub("", row[model]["solution"]).rpartition("\nA: ")
            if mark:
                yield reference, body, row[model]["is_correct"]


def print_table(path: Path) -> None:
    rows = list(read(path))
    grades = grade_many(
        [Item(str(i), (), reference, "math") for i, (reference, _, _) in enumerate(rows)],
        [body for _, body, _ in rows],
        [False] * len(rows),
    )
    accepted: Counter[tuple[str, bool]] = Counter()
    for (reference, body, right), grade in zip(rows, grades, strict=True):
        accepted["here", right] += bool(grade.correct)
        accepted["flexible-extract", right] += flexible(body) == reference
    count = Counter(right for _, _, right in rows)
    print("\n| GSM8K's solutions without the mark | right accepted | wrong accepted |\n|---|---|---|")
    for name in ("here", "flexible-extract"):
        right, wrong = accepted[name, True], accepted[name, False]
        print(f"| {name} | {right} of {count[True]} | {wrong} of {count[False]} |")
