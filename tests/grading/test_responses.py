"""Real answers of SmolLM2-135M-Instruct to 200 items of the arithmetic dataset (temperature 0; 128 in the
plain style with 64 tokens, 72 in the boxed style with 256), each read against the reference and the end of
the answer: stored with ``python -m benchmarks.grading.collect``."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets import load
from orchestrator.grading import grade_many
from orchestrator.records import Item

ROWS = [json.loads(line) for line in (Path(__file__).parent / "responses.jsonl").open()]


def test_real_answers_are_graded_as_a_reader_would() -> None:
    grades = grade_many(
        [Item(row["item_id"], (), row["reference"], "math") for row in ROWS],
        [row["response"] for row in ROWS],
        [row["finish_reason"] == "length" for row in ROWS],
    )
    wrongly = [
        (row["reference"], row["response"][-100:], result)
        for row, result in zip(ROWS, grades, strict=True)
        if result.correct != row["right"]
    ]
    assert not wrongly


def test_the_stored_items_are_those_of_the_dataset() -> None:
    references = {item.item_id: item.reference for item in load(DatasetConfig(name="arithmetic"), None).items}
    assert all(references[row["item_id"]] == row["reference"] for row in ROWS)
