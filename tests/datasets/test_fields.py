"""Question files as people have them (`datasets.fields`): each field read rightly or refused with its row,
when planning as when loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets import FAMILIES, count, fingerprint, load
from orchestrator.errors import ConfigError
from orchestrator.records import Item
from tests.datasets.test_load import shared, write

CHOICES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "supergpqa": ("options", "answer_letter", {"question": "Capital?"}),
    "commonsenseqa": ("choices", "answerKey", {"question": "Capital?"}),
    "mmlu-stem": ("choices", "answer", {"question": "Capital?"}),
}


NAMES = ["Paris", "Rome", "Bern"]


def one(path: Path, name: str, row: dict[str, Any]) -> Item:
    (item,) = load(DatasetConfig(name=name, path=write(path / "a.jsonl", [row])), None).items
    return item


def right(item: Item) -> str:
    return item.options[ord(item.reference) - ord("A")]


def refused(path: Path, name: str, row: dict[str, Any]) -> str:
    """What is said of a file whose second row is ``row``, the same when planning and when loading."""
    first: dict[str, dict[str, Any]] = {
        "gsm8k": {"question": "How many?", "answer": "#### 1"},
        "math500": {"problem": "What?", "answer": "1"},
        "aime24": {"problem": "What?", "answer": "1"},
        "gpqa-diamond": gpqa(),
        **{
            family: rest | {options: ["p", "q"], letter: "A"}
            for family, (options, letter, rest) in CHOICES.items()
        },
    }
    file = write(path / "a.jsonl", [first[name], first[name] | row])
    dataset = DatasetConfig(name=name, path=file)
    said = []
    for call in (lambda: fingerprint(dataset), lambda: load(dataset, 1), lambda: count(dataset, 1)):
        with pytest.raises(ConfigError) as caught:
            call()
        said.append(str(caught.value))
    assert len(set(said)) == 1
    assert said[0].startswith(f"dataset.path={file}: row 2 ")
    assert "\n" not in said[0]
    return said[0]


def gpqa(**change: Any) -> dict[str, Any]:
    wrong = {f"Incorrect Answer {number}": f"w{number}" for number in (1, 2, 3)}
    return {"Question": "Which?", "Correct Answer": "r", **wrong, **change}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize(
    "options",
    [
        ["Paris", "Rome", "Bern"],
        {"A": "Paris", "B": "Rome", "C": "Bern"},
        {"label": ["A", "B", "C"], "text": ["Paris", "Rome", "Bern"]},
        [{"label": "A", "text": "Paris"}, {"label": "B", "text": "Rome"}, {"label": "C", "text": "Bern"}],
        ["A. Paris", "B. Rome", "C. Bern"],
        ["(a) Paris", "(b) Rome", "(c) Bern"],
        {"A": "A: Paris", "B": "B: Rome", "C": "C: Bern"},
        [
            {"label": "C", "text": "C) Bern"},
            {"label": "B", "text": "B) Rome"},
            {"label": "A", "text": "A) Paris"},
        ],
    ],
    ids=["list", "mapping", "two lists", "objects", "prefixes", "small ones", "in a mapping", "in objects"],
)
@pytest.mark.parametrize("letter", ["C", "c", " C "])
def test_options_of_every_form_are_read(tmp_path: Path, name: str, options: object, letter: str) -> None:
    field, answer, rest = CHOICES[name]
    item = one(tmp_path, name, rest | {field: options, answer: letter})
    assert set(item.options) == {"Paris", "Rome", "Bern"}
    assert right(item) == "Bern"


def test_options_that_name_letters_keep_what_they_mean(tmp_path: Path) -> None:
    options = {"C": "Both A and B", "a": "Paris", "B": "Rome"}
    item = one(tmp_path, "supergpqa", {"question": "Capital?", "options": options, "answer_letter": "B"})
    assert item.options == ("Paris", "Rome", "Both A and B")
    assert item.reference == "B"


def test_labels_may_be_numbers_and_the_answer_a_number(tmp_path: Path) -> None:
    choices: dict[str, list[Any]] = {"label": ["1", "2"], "text": [10, 2.5]}
    row: dict[str, Any] = {"question": "Which?", "choices": choices, "answerKey": "2"}
    assert right(one(tmp_path, "commonsenseqa", row)) == "2.5"
    for answer in (1, "1"):
        row = {"question": "Which?", "choices": ["p", "q"], "answer": answer}
        assert right(one(tmp_path, "mmlu-stem", row)) == "q"


@pytest.mark.parametrize(
    "options",
    [
        {"1": "Rome", "2": "Paris", "3": "Bern"},
        {"3": "Bern", "1": "Rome", "2": "Paris"},
        {"label": [1, 2, 3], "text": ["Rome", "Paris", "Bern"]},
        [{"label": label, "text": text} for label, text in (("2", "Paris"), ("1", "Rome"), ("3", "Bern"))],
        ["1. Rome", "2. Paris", "3. Bern"],
    ],
    ids=["mapping", "in another order", "two lists", "objects", "prefixes"],
)
@pytest.mark.parametrize("name", CHOICES)
def test_an_answer_is_a_label_before_it_is_a_place(tmp_path: Path, name: str, options: object) -> None:
    field, answer, rest = CHOICES[name]
    for label in (2, "2"):
        item = one(tmp_path, name, rest | {field: options, answer: label})
        assert set(item.options) == {"Rome", "Paris", "Bern"}
        assert right(item) == "Paris"
    assert "must be one of" in refused(tmp_path, name, {field: options, answer: 0})


def test_an_answer_that_may_be_either_of_two_is_refused(tmp_path: Path) -> None:
    for row, says in (
        ({"choices": ["1", "2", "0"], "answer": "1"}, "one option's place and another's text"),
        ({"choices": ["B", "A", "C"], "answer": "A"}, "one option's place and another's text"),
        ({"choices": {"B": "Paris", "A": "Rome"}, "answer": 1}, "not in their labels' order"),
    ):
        assert says in refused(tmp_path, "mmlu-stem", row)
    item = one(tmp_path, "mmlu-stem", {"question": "Sum?", "choices": ["1", "2", "0"], "answer": 1})
    assert right(item) == "2"
    item = one(tmp_path, "mmlu-stem", {"question": "Sum?", "choices": {"0": "1", "1": "0"}, "answer": "1"})
    assert right(item) == "0"


@pytest.mark.parametrize(
    "texts", [["E. coli", "S. aureus", "B. subtilis"], ["(R) form", "(S) form"], ["A", "B"]]
)
def test_letters_that_are_no_labels_stay(tmp_path: Path, texts: list[str]) -> None:
    item = one(tmp_path, "supergpqa", {"question": "Which?", "options": texts, "answer_letter": "A"})
    assert set(item.options) == set(texts)
    assert right(item) == texts[0]


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize(
    "options", [["p", "q", "p"], {"A": "q", "B": "p", "C": "p"}, ["A. p", "B. p", "C. q"]]
)
def test_two_options_that_are_the_same_are_refused(tmp_path: Path, name: str, options: object) -> None:
    assert refused(tmp_path, name, {CHOICES[name][0]: options}).endswith(": two options are 'p'")
    assert refused(tmp_path, "gpqa-diamond", {"Incorrect Answer 2": "r"}).endswith(": two options are 'r'")


def test_a_published_item_of_which_an_option_stands_twice_asks_the_right_one_once() -> None:
    items = load(DatasetConfig(name="mmlu-stem", path=shared("mmlu_stem_test.jsonl")), None).items
    (twice,) = (item for item in items if item.item_id == "efadeba51ef1")
    assert sorted(twice.options) == ["1,493", "1,695", "687"]
    assert right(twice) == "687"


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("['Paris', 'Rome']", "is a text, must be a list of texts"),
        ("Paris, Rome", "is a text, must be a list of texts"),
        (7, "is a number, must be a list of texts"),
        ([], "has 0 options, must have 2 to 26"),
        (["Paris"], "has 1 options"),
        ([str(number) for number in range(27)], "has 27 options"),
        (["Paris", None], "holds null"),
        (["Paris", ["Rome"]], "holds a list"),
        (["Paris", True], "holds true"),
        ([{"text": "Paris"}, "Rome"], "holds a mapping"),
        ([{"label": "A"}, {"label": "B"}], "has an option with label, must have label and text"),
        ([{"text": "Paris"}, {"text": "Rome"}], "has an option with text, must have label and text"),
        ([{"id": "B", "text": "Paris"}, {"id": "A", "text": "Rome"}], "has an option with id, text, must"),
        ([{"label": "A", "text": "p", "key": "B"}, {"label": "B", "text": "q"}], "has an option with key, "),
        ({"label": ["A", "B"], "text": ["p", "q"], "id": [2, 1]}, "has an option with id, label, text"),
        ([{"label": "A", "text": None}, {"label": "B", "text": "q"}], "holds null"),
        (["Paris", " "], "has no text for B"),
        ({"A": "", "B": "Rome"}, "has no text for A"),
        ({"a": "Paris", "A": "Rome"}, "has the labels a, A, which must differ"),
        (["B. Paris", "A. Rome"], "has 'B. Paris' where A is due"),
        (["B) x", "C) y", "D) z"], "has 'B) x' where A is due"),
        (["A. Paris", "B. Rome", "None of them"], "has 'None of them' where C is due"),
        ({"A": "B. Paris", "B": "A. Rome"}, "has 'B. Paris' where A is due"),
        (["2. Paris", "1. Rome", "3. Bern"], "has '2. Paris' where 1 is due"),
        ({"A": "Paris", "B": {"text": "Rome"}}, "holds a mapping"),
        ({"label": ["A"], "text": ["Paris", "Rome"]}, "has 1 labels for 2 options"),
        ({"label": ["A", "A"], "text": ["Paris", "Rome"]}, "has the labels A, A, which must differ"),
        ({"label": "AB", "text": "xy"}, "is a mapping, must be a list of texts"),
        (["Paris", "\ud83d"], r"holds \ud83d, half of a surrogate pair"),
    ],
)
def test_options_of_no_known_form_are_refused(tmp_path: Path, name: str, options: object, says: str) -> None:
    field = CHOICES[name][0]
    assert f"{field} {says}" in refused(tmp_path, name, {field: options})


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("answer", ["Bern", "p", "C", "AB", "A and B", "-1", -1, 2, 0.5, True, ["A"], "Ａ"])
def test_an_answer_that_is_no_label_is_refused(tmp_path: Path, name: str, answer: object) -> None:
    field = CHOICES[name][1]
    said = refused(tmp_path, name, {field: answer})
    assert f"{field} is " in said
    assert said.endswith(("must be one of A, B", "must be one of 0, 1"))


@pytest.mark.parametrize(
    "question",
    [[{"role": "user", "content": "How many?"}], {"stem": "How many?"}, 7, True, "  ", "half \ud83d"],
    ids=["messages", "mapping", "number", "true", "blank", "surrogate"],
)
@pytest.mark.parametrize("name", ["gsm8k", "math500", "aime24", "gpqa-diamond", *CHOICES])
def test_a_question_that_is_no_text_is_refused(tmp_path: Path, name: str, question: object) -> None:
    field = FAMILIES[name].fields[0]
    assert f" item: {field} " in refused(tmp_path, name, {field: question})


@pytest.mark.parametrize(
    ("name", "answer", "reference"),
    [
        ("gsm8k", "#### $42", "42"),
        ("gsm8k", "#### -$1,234.50", "-1234.50"),
        ("gsm8k", "#### $ 1,234,567", "1234567"),
        ("gsm8k", "42", "42"),
        ("gsm8k", 42, "42"),
        ("math500", 7, "7"),
        ("math500", 0.5, "0.5"),
        ("aime24", 33, "33"),
        ("aime24", "007", "7"),
    ],
)
def test_answers_as_people_write_them(tmp_path: Path, name: str, answer: object, reference: str) -> None:
    assert one(tmp_path, name, {FAMILIES[name].fields[0]: "How?", "answer": answer}).reference == reference


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        *(
            ("gsm8k", f"#### {answer}")
            for answer in ("", "42 %", "1,2", "12,34", "1 2", "€42", "x", "--5", "٣")
        ),
        *(("gsm8k", answer) for answer in ("", [42], True, float("nan"))),
        *(("math500", answer) for answer in ("", "  ", ["1"], True, {"value": 1}, float("inf"), "\udc00")),
        *(("aime24", answer) for answer in ("", "1000", "-1", "3_3", "3.0", 33.0, "x^2", "٣")),
    ],
)
def test_answers_that_are_none_are_refused(tmp_path: Path, name: str, answer: object) -> None:
    assert f"row 2 is not a {name} item: answer " in refused(tmp_path, name, {"answer": answer})


def test_an_answer_that_is_no_number_is_called_by_its_name(tmp_path: Path) -> None:
    for value, name in ((float("nan"), "NaN"), (float("-inf"), "Infinity"), (True, "true")):
        said = refused(tmp_path, "math500", {"answer": value})
        assert said.endswith(f"answer is {name}, must be a text or a finite number")


def test_an_answer_that_gpqa_lacks_is_refused(tmp_path: Path) -> None:
    for value in ("", ["r"], False, "\ud83d"):
        said = refused(tmp_path, "gpqa-diamond", {"Incorrect Answer 2": value})
        assert "Incorrect Answer 2 " in said


@pytest.mark.parametrize("style", ["boxed", "cot", "plain"])
@pytest.mark.parametrize(
    ("solution", "shown"),
    [
        (r"So $x=\boxed{\frac{1}{2}}$.", r"So $x=\frac{1}{2}$."),
        (r"First $\boxed{1}$, then \fbox{\boxed{2}}.", r"First $1$, then 2."),
        (r"It is $\boxed 5$.", r"It is $5$."),
        (r"It is $\boxed{\left\{ 5 \right.}$", r"It is $\left\{ 5 \right.$"),
        (r"It is $\boxed{5", r"It is ${5"),
        ("It is 5.", "It is 5."),
    ],
)
def test_a_worked_example_states_its_answer_once(
    tmp_path: Path, style: str, solution: str, shown: str
) -> None:
    rows = [{"problem": f"What is {i}?", "answer": "ANSWER", "solution": solution} for i in range(2)]
    path = write(tmp_path / "a.jsonl", rows)
    (item,) = load(DatasetConfig(name="math500", path=path, prompt=style, shots=1), None).items
    example = item.messages[0]["content"].rpartition("Question: ")[0]
    assert shown in example
    assert example.count("ANSWER") == 1
    assert example.count("boxed") == (style == "boxed")


def test_more_examples_than_there_are_questions_are_refused_when_planning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"problem": "What?", "answer": "1"}])
    for dataset in (
        DatasetConfig(name="math500", path=path, shots=1),
        DatasetConfig(name="arithmetic", shots=512),
    ):
        with pytest.raises(ConfigError, match=r"no questions are left to ask \(dataset.shots="):
            fingerprint(dataset)


def test_how_many_questions_there_will_be(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {i}?", "answer": "1"} for i in range(5)]
    dataset = DatasetConfig(name="math500", path=write(tmp_path / "a.jsonl", rows), shots=2)
    assert [count(dataset, limit) for limit in (None, 2, 9)] == [3, 2, 3]
    assert count(DatasetConfig(name="gsm8k", hub_id="openai/gsm8k"), 5) is None
    made = DatasetConfig(name="arithmetic", shots=12)
    assert count(made, None) == len(load(made, None).items) == 500


@pytest.mark.parametrize("name", ["math500", "aime24"])
def test_real_solutions_show_no_second_box(name: str) -> None:
    dataset = DatasetConfig(name=name, path=shared(f"{name}_test.jsonl"), shots=20)
    asked = load(dataset, 1).items[0].messages[0]["content"].rpartition("Question: ")[0]
    assert asked.count(r"\boxed") == 20
