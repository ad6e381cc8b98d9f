"""Loading: which items, in which order, in which words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets import FAMILIES, STYLES, fingerprint, load
from orchestrator.datasets.question import choice

SHARED = Path(__file__).parents[3] / "shared/data"


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def problems(path: Path, count: int) -> str:
    return write(path, [{"problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(count)])


def shared(name: str) -> str:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return str(path)


@given(small=st.integers(1, 60), large=st.integers(1, 60))
def test_a_smaller_limit_is_the_start_of_a_larger_one(small: int, large: int) -> None:
    small, large = sorted((small, large))
    dataset = DatasetConfig(name="arithmetic", prompt="plain")
    assert load(dataset, large).items[:small] == load(dataset, small).items


def test_hash_sampling_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(50)]
    one = DatasetConfig(name="math500", path=write(tmp_path / "a.jsonl", rows))
    other = DatasetConfig(name="math500", path=write(tmp_path / "b.jsonl", rows[::-1]))
    assert load(one, 10).items == load(other, 10).items
    assert {item.reference for item in load(one, 10).items} != {str(i) for i in range(1, 11)}


def test_head_sampling_takes_the_first_of_the_file(tmp_path: Path) -> None:
    dataset = DatasetConfig(name="math500", path=problems(tmp_path / "a.jsonl", 20), sample="head")
    assert [item.reference for item in load(dataset, 3).items] == ["1", "2", "3"]


def test_a_limit_above_the_size_gives_every_item(tmp_path: Path) -> None:
    dataset = DatasetConfig(name="math500", path=problems(tmp_path / "a.jsonl", 5))
    assert len(load(dataset, 100).items) == len(load(dataset, None).items) == 5


def test_a_repeated_question_keeps_its_own_id(tmp_path: Path) -> None:
    row = {"problem": "What is 1 + 1?", "answer": "2"}
    items = load(DatasetConfig(name="math500", path=write(tmp_path / "a.jsonl", [row, row])), None).items
    assert len({item.item_id for item in items}) == 2


def test_the_item_id_follows_the_question_and_not_its_place(tmp_path: Path) -> None:
    first = DatasetConfig(name="math500", path=problems(tmp_path / "a.jsonl", 3))
    second = DatasetConfig(name="math500", path=problems(tmp_path / "b.jsonl", 9))
    assert {i.item_id for i in load(first, None).items} < {i.item_id for i in load(second, None).items}


@given(order=st.permutations(["red", "green", "blue", "grey"]))
def test_the_order_of_options_depends_on_the_item_alone(order: list[str]) -> None:
    question = choice("item", "Which?", order, order.index("blue"))
    again = choice("item", "Which?", ["red", "green", "blue", "grey"], 2)
    assert question.options == again.options
    assert question.answer == again.answer
    assert question.options[ord(question.answer) - ord("A")] == "blue"


def test_the_right_letter_is_spread_over_all_letters() -> None:
    letters = [choice(str(i), "Which?", ["a1", "b1", "c1", "d1"], 0).answer for i in range(400)]
    assert all(70 < letters.count(letter) < 130 for letter in "ABCD")


@pytest.mark.parametrize(
    "options",
    [
        ("Neptune", "Uranus", "Saturn", "all of the above"),
        ("first", "second", "third", "Both A and C"),
        ("first", "second", "third", "(A), (B), and (C)"),
        ("Impacts", "Erosion", "Volcanism", "A B and C"),
    ],
)
def test_options_that_refer_to_places_keep_their_order(options: tuple[str, ...]) -> None:
    for item_id in map(str, range(20)):
        assert choice(item_id, "Which?", options, 3).options == options


@pytest.mark.parametrize(
    ("name", "row", "reference", "options"),
    [
        ("gsm8k", {"question": "How many?", "answer": "2 * 35000 = 70,000\n#### 70,000"}, "70000", None),
        ("math500", {"problem": "What?", "answer": "\\frac{1}{2}", "unique_id": "x/1"}, "\\frac{1}{2}", None),
        ("aime24", {"problem": "What?", "answer": "033", "id": 60}, "33", None),
        ("aime25", {"problem": "What?", "answer": "70", "id": "0"}, "70", None),
        (
            "gpqa-diamond",
            {
                "Question": "Which?",
                "Correct Answer": "yes\n",
                "Incorrect Answer 1": "no",
                "Incorrect Answer 2": "maybe",
                "Incorrect Answer 3": "never",
                "Record ID": "rec1",
            },
            "yes",
            {"yes", "no", "maybe", "never"},
        ),
        (
            "supergpqa",
            {"question": "Which?", "options": ["p", "q", "r", "s", "t"], "answer_letter": "E", "uuid": "u"},
            "t",
            {"p", "q", "r", "s", "t"},
        ),
        (
            "commonsenseqa",
            {
                "id": "c1",
                "question": "Where?",
                "choices": {"label": ["A", "B", "C"], "text": ["bank", "shop", "park"]},
                "answerKey": "C",
            },
            "park",
            {"bank", "shop", "park"},
        ),
        (
            "mmlu-stem",
            {"question": "Which?", "subject": "astronomy", "choices": ["p", "q", "r", "s"], "answer": 1},
            "q",
            {"p", "q", "r", "s"},
        ),
    ],
)
def test_each_family_reads_its_own_fields(
    tmp_path: Path, name: str, row: dict[str, Any], reference: str, options: set[str] | None
) -> None:
    (item,) = load(DatasetConfig(name=name, path=write(tmp_path / "a.jsonl", [row])), None).items
    if options is None:
        assert (item.kind, item.reference) == ("math", reference)
    else:
        assert item.kind == "choice"
        assert set(item.options) == options
        assert item.options[ord(item.reference) - ord("A")] == reference
        for letter, option in zip("ABCDE", item.options, strict=False):
            assert f"{letter}) {option}" in item.messages[0]["content"]


def test_mmlu_stem_leaves_other_subjects_out(tmp_path: Path) -> None:
    row = {"question": "Which?", "choices": ["p", "q", "r", "s"], "answer": 1}
    path = write(tmp_path / "a.jsonl", [row | {"subject": "astronomy"}, row | {"subject": "philosophy"}])
    (item,) = load(DatasetConfig(name="mmlu-stem", path=path), None).items
    assert item.group == "astronomy"


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("gsm8k", "gsm8k_test.jsonl", 1319),
        ("math500", "math500_test.jsonl", 500),
        ("aime24", "aime24_test.jsonl", 30),
        ("mmlu-stem", "mmlu_stem_test.jsonl", 3018),
    ],
)
def test_the_real_files_load_whole(name: str, file: str, count: int) -> None:
    items = load(DatasetConfig(name=name, path=shared(file)), None).items
    assert len(items) == len({item.item_id for item in items}) == count


def test_boxed_is_the_instruction_of_deepseek_in_the_user_message() -> None:
    (item,) = load(DatasetConfig(name="arithmetic", prompt="boxed"), 1).items
    (message,) = item.messages
    assert message["role"] == "user"
    assert message["content"].endswith(
        "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    )


@pytest.mark.parametrize("style", STYLES)
def test_standard_examples_end_as_the_style_answers(tmp_path: Path, style: str) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "How many?", "answer": "#### 1"}])
    (item,) = load(DatasetConfig(name="gsm8k", path=path, prompt=style, shots=8), None).items
    content = item.messages[0]["content"]
    assert content.count("Question: ") == 9
    assert STYLES[style].answer.format("29") in content
    assert content.index("How many?") > content.index("Olivia has $23.")


def test_held_out_examples_are_not_asked(tmp_path: Path) -> None:
    dataset = DatasetConfig(name="math500", path=problems(tmp_path / "a.jsonl", 10), shots=3)
    items = load(dataset, None).items
    assert len(items) == 7
    examples = items[0].messages[0]["content"].rpartition("Question: ")[0]
    assert examples.count("Question: ") == 3
    assert not any(item.messages[0]["content"].rpartition("Question: ")[2] in examples for item in items)


def test_arithmetic_is_pinned() -> None:
    items = load(DatasetConfig(name="arithmetic", prompt="plain", sample="head"), 3).items
    asked = [item.messages[0]["content"].partition("\n")[0] for item in items]
    assert asked == ["Calculate 5 * 5.", "What is 3 + 6?", "What is 5 + 7?"]
    assert [item.reference for item in items] == ["25", "9", "12"]


def test_arithmetic_never_asks_the_same_twice() -> None:
    items = load(DatasetConfig(name="arithmetic", prompt="plain"), None).items
    assert len({item.messages[0]["content"] for item in items}) == len(items) == 512


def test_a_local_file_is_planned_without_the_datasets_library(tmp_path: Path) -> None:
    path = problems(tmp_path / "a.jsonl", 3)
    code = (
        "import sys, orchestrator.config.schema as c, orchestrator.datasets as d\n"
        f"assert d.load(c.DatasetConfig(name='math500', path={path!r}), None).revision[:7] == 'sha256:'\n"
        "assert d.fingerprint(c.DatasetConfig(name='arithmetic')).startswith('arithmetic-')\n"
        "assert not {'datasets', 'pyarrow', 'math_verify'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_fingerprint_of_a_file_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    dataset = DatasetConfig(name="math500", path=problems(path, 3))
    before = fingerprint(dataset)
    assert before == load(dataset, None).revision
    problems(path, 4)
    assert fingerprint(dataset) != before


def test_the_fingerprint_of_a_hub_dataset_is_its_revision() -> None:
    assert fingerprint(DatasetConfig(name="gsm8k", hub_id="openai/gsm8k", revision="abc")) == "abc"


def test_every_family_has_a_config_that_names_a_pinned_revision() -> None:
    from omegaconf import OmegaConf

    folder = Path(__file__).parents[2] / "conf/dataset"
    assert {path.stem for path in folder.glob("*.yaml")} == set(FAMILIES)
    for path in folder.glob("*.yaml"):
        dataset = OmegaConf.merge(OmegaConf.structured(DatasetConfig), OmegaConf.load(path))
        assert dataset.name == path.stem
        assert FAMILIES[dataset.name].version or len(dataset.revision) == 40


def test_hub_rows_go_through_the_same_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: dict[str, Any] = {}
    row = {
        "id": "c1",
        "question": "Where?",
        "choices": {"label": ["A", "B", "C"], "text": ["bank", "shop", "park"]},
        "answerKey": "C",
    }

    def load_dataset(hub_id: str, subset: str | None, **rest: Any) -> datasets.Dataset:
        asked.update(hub_id=hub_id, subset=subset, **rest)
        return datasets.Dataset.from_list([row])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset = DatasetConfig(name="commonsenseqa", hub_id="tau/x", split="validation", revision="abc")
    loaded = load(dataset, 1)
    (item,) = loaded.items
    assert (item.options[ord(item.reference) - ord("A")], loaded.revision) == ("park", "abc")
    assert asked == {"hub_id": "tau/x", "subset": None, "split": "validation", "revision": "abc"}
