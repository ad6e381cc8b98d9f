"""The questions in steps, as a dataset."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from orchestrator import worked
from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets import fingerprint, load
from orchestrator.datasets.steps import LEVELS
from tests.support.compose import config_of

STEPS = DatasetConfig(name="steps", sample="head")


def test_the_items_say_their_level_and_family_and_are_asked_in_the_usual_words() -> None:
    config = config_of("dataset=steps").dataset
    loaded = load(config, 56)
    assert Counter((item.group, item.level) for item in loaded.items) == Counter(
        (family, level) for family in worked.FAMILIES for level in LEVELS
    )
    assert all(item.kind == "math" for item in loaded.items)
    assert all(str(item.messages[0]["content"]).endswith(worked.BOXED) for item in loaded.items)
    assert loaded.revision == fingerprint(config) == worked.VERSION


def test_there_are_thousands_and_a_smaller_limit_is_the_start_of_a_larger_one() -> None:
    config = config_of("dataset=steps").dataset
    items = load(config, None).items
    assert len(items) == config.size == 4480
    assert load(config, 100).items == items[:100]
    assert len({item.messages[0]["content"] for item in items}) == len(items)
    assert len({item.item_id for item in items}) == len(items)
    assert [item.reference for item in items[:1024]] == [
        str(each.answer) for each in worked.asked(1024, LEVELS)
    ]


def test_a_level_of_a_file_is_kept_as_a_number(tmp_path: Path) -> None:
    rows = [
        {"problem": "What?", "answer": "1", "level": 5, "subject": "Algebra"},
        {"problem": "Who?", "answer": "2", "level": "Level 3"},
        {"problem": "Why?", "answer": "3"},
        {"problem": "How?", "answer": "4", "level": "Level ?"},
    ]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = load(DatasetConfig(name="math500", path=str(file), sample="head"), None).items
    assert [(item.group, item.level) for item in items] == [
        ("Algebra", 5),
        (None, 3),
        (None, None),
        (None, None),
    ]
