from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator import datasets
from orchestrator.config.schema import DatasetConfig
from orchestrator.engines.simulated.answers import answer, prompt_blocks, prompt_of, prompt_tokens
from orchestrator.grading import grade_many
from orchestrator.records import Item
from tests.engines.test_simulated_batching import SETTINGS

ID = "cell-00001-0"


def items(prompt: str = "boxed") -> tuple[Item, ...]:
    return tuple(datasets.load(DatasetConfig(name="arithmetic", prompt=prompt), None).items)


def body(item: Item, **others: Any) -> dict[str, Any]:
    return {"messages": [dict(one) for one in item.messages], "seed": 7} | others


def graded(asked: tuple[Item, ...], accuracy: float) -> list[bool | None]:
    settings = replace(SETTINGS, accuracy=accuracy)
    texts = []
    for item in asked:
        document = body(item)
        given = answer(settings, document, ID, prompt_of(document), 2000)
        assert not given.truncated
        texts.append(given.text(0, len(given.words)))
    return [grade.correct for grade in grade_many(asked, texts, [False] * len(asked))]


@pytest.mark.slow
@pytest.mark.parametrize("style", ["plain", "cot", "boxed"])
def test_every_sum_can_be_answered_and_every_one_missed(style: str) -> None:
    assert set(graded(items(style), 1.0)) == {True}
    assert set(graded(items(style)[:50], 0.0)) == {False}


def test_accuracy_is_the_share_that_was_asked_for() -> None:
    right = graded(items(), 0.7)
    assert 0.6 < sum(map(bool, right)) / len(right) < 0.8


def test_an_answer_depends_on_its_request_alone() -> None:
    document = body(items()[0])
    prompt = prompt_of(document)
    given = answer(SETTINGS, document, ID, prompt, 500)
    assert given == answer(SETTINGS, dict(document), "another", prompt, 500)
    other = [answer(SETTINGS, document | {"seed": seed}, ID, prompt, 500) for seed in range(5)]
    assert len({one.words for one in other}) > 1


def test_without_a_seed_an_answer_goes_by_the_request_s_id() -> None:
    document = body(items()[0])
    del document["seed"]
    given = [answer(SETTINGS, document, name, prompt_of(document), 500) for name in ("a", "b", "c", "d", "a")]
    assert given[0] == given[-1]
    assert len({one.words for one in given}) > 1


def test_lengths_are_what_the_request_demands() -> None:
    document = body(items()[0])
    prompt = prompt_of(document)

    def given(max_tokens: int, **others: Any) -> tuple[int, bool]:
        one = answer(SETTINGS, document | others, ID, prompt, max_tokens)
        return len(one.words), one.truncated

    assert given(5) == (5, True)
    assert given(300, ignore_eos=True) == (300, True)
    length, cut = given(2000, min_tokens=900)
    assert (length >= 900, cut) == (True, False)


def test_only_a_reasoning_model_thinks_and_it_answers_in_the_open() -> None:
    document = body(items()[0])
    prompt = prompt_of(document)
    assert answer(SETTINGS, document, ID, prompt, 2000).reasoning == 0
    thought = answer(replace(SETTINGS, reasoning=True), document, ID, prompt, 5000)
    assert 0 < thought.reasoning < len(thought.words)
    assert "answer" in thought.text(thought.reasoning, len(thought.words))
    assert "answer" not in thought.text(0, thought.reasoning)


def test_prompts_share_blocks_exactly_as_far_as_they_are_alike() -> None:
    common = "a" * 640
    first, second = prompt_blocks(common + "b" * 640), prompt_blocks(common + "c" * 640)
    assert len(first) == len(second) == 20
    assert [one == other for one, other in zip(first, second, strict=True)] == [True] * 10 + [False] * 10
    assert prompt_tokens("a" * 640) > 160


@pytest.mark.parametrize(
    "messages", [None, [], "hello", [{"role": "user"}], [{"role": "user", "content": 1}]]
)
def test_a_body_without_a_conversation_is_refused(messages: Any) -> None:
    with pytest.raises(ValueError, match="messages"):
        prompt_of({"messages": messages})
