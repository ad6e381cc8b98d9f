"""Real answers of SmolLM2-135M-Instruct to 200 items of the arithmetic dataset (temperature 0; 128 in the
plain style with 64 tokens, 72 in the boxed style with 256), each checked by eye: stored with
``python -m benchmarks.grading.collect``."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.grading import grade_many
from orchestrator.metrics.accuracy import accuracy
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


def test_a_small_model_gets_a_good_part_of_the_plain_style_right() -> None:
    plain = ROWS[:128]
    result = accuracy([row["item_id"] for row in plain], [row["right"] for row in plain])
    assert result is not None
    assert 0.2 < result.mean < 0.8
