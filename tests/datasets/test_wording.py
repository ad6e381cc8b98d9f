from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets import prompts, wording


def test_the_wording_follows_style_and_shots_and_not_the_questions() -> None:
    base = DatasetConfig(name="gsm8k", prompt="plain")
    assert wording(base) == wording(replace(base, path="/other/file.jsonl"))
    others = [replace(base, prompt="boxed"), replace(base, shots=1), replace(base, shots=2)]
    assert len({wording(one) for one in [base, *others]}) == 4


def test_another_instruction_is_another_wording(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = DatasetConfig(name="arithmetic", prompt="plain")
    before = wording(dataset)
    changed = replace(prompts.STYLES["plain"], math="Answer.")
    monkeypatch.setitem(prompts.STYLES, "plain", changed)
    assert wording(dataset) != before
