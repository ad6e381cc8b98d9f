"""Compare this project's grades with lm-evaluation-harness's on the same stored responses.

    python -m benchmarks.grading.agree --harness-python PYTHON RESPONSES.jsonl ...

PYTHON is an interpreter with ``lm-eval[math]``; the files are those of `collect`. With --data FOLDER also the
references of FOLDER/math500_test.jsonl, each and that of another item, in two styles. Each disagreement is
printed with both verdicts. Truncated responses are graded as if they had ended, since the harness does not
know that they were cut.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections import Counter
from pathlib import Path

from benchmarks.grading.__main__ import MATH_FILES, OFFSETS, math_cases
from benchmarks.grading.styles import MATH
from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets import load
from orchestrator.grading import grade_many
from orchestrator.records import Item


def styled(file: Path) -> list[dict[str, str]]:
    items = load(DatasetConfig(name="math500", path=str(file)), None).items
    return [
        {
            "dataset": f"math500, {title}",
            "item_id": case.item.item_id,
            "reference": case.item.reference,
            "response": case.text,
        }
        for title in ("boxed", "The final answer is $x$.")
        for case in math_cases(items, MATH[title], offsets=OFFSETS[:1])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--harness-python", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("responses", nargs="*", type=Path)
    args = parser.parse_args()
    rows = [json.loads(line) for path in args.responses for line in path.open()]
    if args.data is not None:
        rows += styled(args.data / MATH_FILES["math500"])
    items = [Item(row["item_id"], (), row["reference"], "math") for row in rows]
    grades = grade_many(items, [row["response"] for row in rows], [False] * len(rows))
    harness = subprocess.run(
        [args.harness_python, str(Path(__file__).parent / "harness.py")],
        input="".join(json.dumps(row) + "\n" for row in rows),
        capture_output=True,
        text=True,
        check=True,
    )
    verdicts = [json.loads(line) for line in harness.stdout.splitlines()]
    table: dict[str, Counter[tuple[bool, bool]]] = {}
    for row, mine, theirs in zip(rows, grades, verdicts, strict=True):
        table.setdefault(row["dataset"], Counter())[bool(mine.correct), theirs] += 1
        if bool(mine.correct) != theirs:
            print(
                f"{row['dataset']} {row['item_id']}: reference {row['reference']!r}, here "
                f"{mine.correct} (read as {mine.predicted!r}), there {theirs}; it ends in "
                f"{row['response'][-160:]!r}"
            )
    print("\n| dataset | responses | both right | both wrong | only here right | only there right | agree |")
    print("|---|---|---|---|---|---|---|")
    for name, counts in [*table.items(), ("all", sum(table.values(), Counter()))]:
        cells = [counts[True, True], counts[False, False], counts[True, False], counts[False, True]]
        agreed = (cells[0] + cells[1]) / sum(cells)
        print(f"| {name} | {sum(cells)} | {' | '.join(map(str, cells))} | {100 * agreed:.1f} % |")


if __name__ == "__main__":
    main()
