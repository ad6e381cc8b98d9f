"""What optimizations do to a reasoning model's answers, of a study of the parts o and p (`parts.py`):

    python -m benchmarks.gpu.own docs/data/own-weights/vllm

Each cell beside ``opt=none`` of the same budget, question by question: the difference of the accuracies in
points with its 95 % interval and its p (McNemar). Below it accuracy and thinking by level of the largest
budget without an optimization. Tables in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.metrics.compare import compare_accuracy
from orchestrator.store.read import read_cells, read_requests

Row = Mapping[str, Any]
NONE: tuple[list[str], ...] = (["none"], [])
HEAD = (
    "opt",
    "max_tokens",
    "accuracy %",
    "against none",
    "p",
    "cut thinking %",
    "output tokens",
    "accepted %",
)
RATES = ("tokens/s", "TTFVT p50 s", "E2E p50 s")


def table(study: Path) -> list[str]:
    """Cells that count, by optimization and budget."""
    rows = [row for row in read_cells(study).to_pylist() if row["status"] == "done"]
    plain = {row["max_tokens"]: row for row in rows if row["opt"] in NONE}
    lines = [_line((*HEAD, *RATES)), _line(["---"] * len((*HEAD, *RATES)))]
    for row in sorted(rows, key=lambda row: (row["opt"] not in NONE, _opt(row), row["max_tokens"])):
        against = _against(study, row, plain.get(row["max_tokens"]))
        own = (
            *(
                100 * row[name] if row[name] is not None else None
                for name in ("accuracy", "truncated_thinking_rate")
            ),
            row["output_length_mean"],
            100 * row["spec_acceptance_rate"] if row["spec_acceptance_rate"] is not None else None,
        )
        accuracy, cut, length, accepted = (_number(value, 1) for value in own)
        rates = (
            *(_number(row["output_token_per_s"], 0), _number(row["ttfvt_s_p50"], 2)),
            _number(row["e2e_s_p50"], 2),
        )
        lines.append(_line((_opt(row), row["max_tokens"], accuracy, *against, cut, length, accepted, *rates)))
    return lines


def levels(study: Path) -> list[str]:
    """Of the largest budget without an optimization; empty where that was not measured."""
    rows = [r for r in read_cells(study).to_pylist() if r["status"] == "done" and r["opt"] in NONE]
    if not rows:
        return []
    largest = max(rows, key=lambda row: row["max_tokens"])
    asked = read_requests(study, [largest["cell_id"]]).to_pylist()
    by_level = {level: [one for one in asked if one["level"] == level] for level in _levels(asked)}
    right = [f"{100 * _mean([bool(one['correct']) for one in of]):.1f}" for of in by_level.values()]
    thinking = [f"{_mean([one['reasoning_tokens'] or 0 for one in of]):.0f}" for of in by_level.values()]
    return [
        _line(("level", *by_level)),
        _line(["---"] * (1 + len(by_level))),
        _line(("questions", *(len(of) for of in by_level.values()))),
        _line(("right %", *right)),
        _line(("tokens of thought, mean", *thinking)),
    ]


def _opt(row: Row) -> str:
    """With the folder of a draft model that was not the catalogue's."""
    drafts = [one.partition("=")[2] for one in row["overrides"] or () if one.startswith("model.draft=")]
    named = "none" if row["opt"] in NONE else "+".join(row["opt"])
    return f"{named} ({Path(drafts[-1]).name})" if drafts and "spec-draft" in row["opt"] else named


def _levels(asked: Sequence[Row]) -> list[int]:
    return sorted({one["level"] for one in asked if one["level"] is not None})


def _against(study: Path, row: Row, plain: Row | None) -> tuple[str, str]:
    if plain is None or plain is row:
        return "", ""
    found = compare_accuracy(*_answers(study, plain), *_answers(study, row))
    if found is None or found.low is None or found.high is None:
        return "", ""
    low, high = 100 * found.low, 100 * found.high
    return f"{100 * found.difference:+.1f} [{low:+.1f}, {high:+.1f}]", _number(found.p, 4)


def _answers(study: Path, row: Row) -> tuple[list[str], list[bool]]:
    asked = read_requests(study, [row["cell_id"]]).select(["item_id", "correct"]).to_pylist()
    graded = [one for one in asked if one["correct"] is not None]
    return [one["item_id"] for one in graded], [one["correct"] for one in graded]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("study", type=Path, nargs="+", help="a folder results/STUDY")
    for study in parser.parse_args().study:
        print("\n".join([f"{study.name}", "", *table(study), "", *levels(study), ""]))


if __name__ == "__main__":
    main()
