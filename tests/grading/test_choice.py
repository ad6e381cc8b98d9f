"""Which option a response names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.grading import grade
from orchestrator.records import Grade, Item

OPTIONS = ("a cat that sleeps", "the red shift", "12 m/s", "$\\frac{1}{2}$")


def read(text: str, options: tuple[str, ...] = OPTIONS) -> str | None:
    return grade(Item("x", (), "A", "choice", options), text, truncated=False).predicted


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("\\boxed{B}", "B"),
        ("\\boxed{\\text{B}}", "B"),
        ("\\boxed{B) the red shift}", "B"),
        ("\\boxed{\\frac{1}{2}}", "D"),
        ("The answer is (C).", "C"),
        ("The answer is option D.", "D"),
        ("**Answer:** B", "B"),
        ("**Answer: B**", "B"),
        ("Answer: **B) the red shift**", "B"),
        ("### Final Answer\n\n**C**", "C"),
        ("The correct option is B, as shown above.", "B"),
        ("Therefore option C is correct.", "C"),
        ("I would choose D.", "D"),
        ("The answer is the red shift.", "B"),
        ("The correct answer is: 12 m/s", "C"),
        ("The answer is A cat that sleeps.", "A"),
        ("The answer is A because cats sleep.", "A"),
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B) the red shift", "B"),
        ("the red shift", "B"),
        ("C\n\nThe speed is the distance over the time.", "C"),
        ("After a long thought about A and D, it must be the red shift that does it.", "B"),
    ],
)
def test_the_stated_option_is_read(text: str, letter: str) -> None:
    assert read(text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A and B can be ruled out. D is tempting. The answer is C. I hope A did not mislead you.", "C"),
        ("The answer is B? No, wait. The answer is D.", "D"),
        ("Answer: B\nA final remark: C was close.", "B"),
        ("The answer is A. But \\boxed{C}", "C"),
    ],
)
def test_the_statement_comes_before_stray_letters(text: str, letter: str) -> None:
    assert read(text) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot tell.",
        "A plan: first look at the data.",
        "The answer is A, C.",
        "\\boxed{A, B}",
        "\\boxed{E}",
    ],
)
def test_what_names_no_single_option_is_no_answer(text: str) -> None:
    assert read(text) is None


def test_the_word_i_is_not_the_ninth_option() -> None:
    options = tuple(f"option number {i}" for i in range(10))
    assert read("The answer is I think option number 3.", options) != "I"
    assert read("The answer is I.", options) == "I"


def test_a_lone_letter_is_a_letter_even_where_options_are_letters() -> None:
    assert read("Answer: A\nThat is all.", ("c", "b", "a", "d")) == "A"


def test_option_texts_are_told_apart_by_case() -> None:
    assert read("The answer is Bb x bb.", ("BB x Bb", "bb x bb", "Bb x bb", "Bb x Bb")) == "C"


def test_the_longest_matching_option_is_meant() -> None:
    assert read("The answer is 12 m/s in total.", ("12", "12 m", "12 m/s", "1")) == "C"


def test_either_of_two_equal_options_is_right() -> None:
    asked = Item("x", (), "D", "choice", ("3", "4", "5", "4"))
    assert grade(asked, "\\boxed{B}", truncated=False) == Grade("B", correct=True)
    assert grade(asked, "\\boxed{A}", truncated=False) == Grade("A", correct=False)


def test_nothing_in_a_truncated_response_counts() -> None:
    assert grade(Item("x", (), "A", "choice", OPTIONS), "\\boxed{A}", truncated=True) == Grade(
        None, correct=False
    )


@given(st.text(alphabet="ABCDE answeris:boxed\\{}()*\n.,", max_size=300))
def test_reading_names_an_option_or_none(text: str) -> None:
    assert read(text) in {"A", "B", "C", "D", None}
