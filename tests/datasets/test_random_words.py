from __future__ import annotations

import pytest

from orchestrator import datasets
from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets.random_words import WORDS
from orchestrator.errors import ConfigError


def random(prompt_tokens: int = 32) -> DatasetConfig:
    return DatasetConfig(name="random", prompt="bare", prompt_tokens=prompt_tokens)


def text(number: int, prompt_tokens: int = 32) -> str:
    return datasets.load(random(prompt_tokens), 64).items[number].messages[0]["content"]


def test_a_prompt_has_as_many_words_as_was_asked_and_nothing_else() -> None:
    assert len(text(0).split()) == 32
    assert len(text(0, prompt_tokens=7).split()) == 7
    assert set(text(0).split()) <= set(WORDS)
    assert len(set(WORDS)) == len(WORDS)


@pytest.mark.slow
def test_no_two_prompts_begin_alike() -> None:
    assert len({" ".join(text(number).split()[:8]) for number in range(64)}) == 64


def test_nothing_is_right_or_wrong() -> None:
    (item,) = datasets.load(random(), 1).items
    assert (item.kind, item.reference) == ("none", "")


def test_the_length_of_other_prompts_cannot_be_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.prompt_tokens=9: only for dataset=random"):
        datasets.load(DatasetConfig(name="arithmetic", prompt_tokens=9), 1)
