"""Reading and comparing are bounded in time, in digits and in the process where they happen."""

from __future__ import annotations

import time

import pytest

from orchestrator.grading import equality, extract, grade, grade_many, quantity
from orchestrator.records import Grade, Item

FIVE = Item("x", (), "5", "math")
SUM = Item("y", (), "x^2+1", "math")
LARGE = 4_400  # digits: Python reads and writes no integer of more than 4,300

MANY_DIGITS = [
    "5" * LARGE,
    "-" + "5" * LARGE,
    "5." + "0" * LARGE + "1",
    "1/" + "3" * LARGE,
    "5" * LARGE + "/7",
    "5" * LARGE + "\\%",
    "\\$" + "5" * LARGE,
    "x = " + "5" * LARGE,
    "\\frac{1}{" + "7" * LARGE + "}",
    "5" * LARGE + ", 7",
    "(" + "5" * LARGE + ", 7)",
    "5e" + "9" * LARGE,
    "10^{" + "9" * LARGE + "}",
    "1.000001" + " thousandths" * 700,
    "5" + " million" * 700,
]


@pytest.mark.parametrize("answer", MANY_DIGITS, ids=lambda answer: answer[:12])
@pytest.mark.parametrize("reference", ["5", "\\frac{1}{7}", "\\pi", "x^2+1", "0.5"])
def test_a_number_of_any_length_is_compared(answer: str, reference: str) -> None:
    assert not equality.equal(reference, answer)
    assert not equality.equal(answer, reference)
    for text in (f"\\boxed{{{answer}}}", f"The answer is {answer}."):
        assert grade(Item("x", (), reference, "math"), text, truncated=False).correct is False


def test_a_long_number_is_itself() -> None:
    assert equality.equal("5" * LARGE, "5" * LARGE)
    assert equality.equal("5" * 1_900, "5" * 1_900 + ".0")
    assert not equality.equal("5" * 1_900, "5" * 1_899 + "6")


def test_a_long_number_names_no_option() -> None:
    asked = Item("z", (), "A", "choice", ("1", "11", "5"))
    assert grade(asked, f"\\boxed{{{'1' * LARGE}}}", truncated=False).correct is False
    assert grade(asked, f"The answer is {'1' * LARGE}.", truncated=False).correct is False


def test_digits_of_what_many_scale_words_make() -> None:
    assert quantity.read("5" + " million" * 700) is None
    read = quantity.read("5 hundred million")
    assert read is not None
    assert read.value == 500_000_000


@pytest.mark.parametrize(
    "answer",
    [
        "5" + " " * 9_000 + "x",
        "x" + " " * 9_000 + "= 5 x",
        "1 " * 4_900,
        "5," + " " * 9_000 + "7",
        "{" * 4_000 + "5 x" + "}" * 4_000,
        "\\boxed{" * 1_400,
        "\\text{" * 1_600,
        "\\frac" * 1_900,
        "(" * 9_000,
        "x = " * 2_400,
        "5 and " * 1_600,
        "\\ " * 4_900,
        "5" + " or" * 3_000,
        "5 to the " + "-" * 9_000,
        "5" + "\t\n" * 4_500 + "is",
    ],
    ids=lambda answer: answer[:10],
)
def test_comparing_a_hostile_answer_takes_linear_time(answer: str) -> None:
    start = time.process_time()
    assert not equality.equal("6", answer)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("limit_s", "predicted"), [(0.5, "(x+y+1)^{900}"), (1e-6, None)], ids=["comparing", "reading"]
)
def test_what_runs_out_of_time_is_read_in_its_own_process_alone(
    monkeypatch: pytest.MonkeyPatch, limit_s: float, predicted: str | None
) -> None:
    def here(text: str) -> str:
        raise AssertionError(text)

    monkeypatch.setattr(extract, "answer", here)
    grades = grade_many([SUM], ["\\boxed{(x+y+1)^{900}}"], [False], limit_s=limit_s)
    assert grades == [Grade(predicted, correct=False)]


def test_a_process_that_ended_leaves_the_next_answer_alone() -> None:
    texts = ["\\boxed{(x+y+1)^{900}}", "\\boxed{5}"]
    grades = grade_many([SUM, FIVE], texts, [False, False], limit_s=0.5)
    assert [g.correct for g in grades] == [False, True]
