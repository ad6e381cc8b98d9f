"""Grading in a process of its own: bounded, from any thread, and the same as here."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from orchestrator.grading import grade, grade_many
from orchestrator.grading.isolated import Grader
from orchestrator.records import Grade, Item
from tests.support.children import running

pytestmark = pytest.mark.slow

SUM = Item("x", (), "x^2+1", "math")
FIVE = Item("y", (), "5", "math")
CHOICE = Item("z", (), "B", "choice", ("red", "blue"))
UNGRADED = Item("w", (), "", "none")


def test_grades_are_those_of_grade_in_their_order() -> None:
    cases = [
        (FIVE, "\\boxed{5}", False),
        (FIVE, "\\boxed{6}", False),
        (FIVE, "\\boxed{5}", True),
        (SUM, "The answer is $1 + x^2$.", False),
        (CHOICE, "Answer: B\u2028 or so", False),
        (UNGRADED, "anything", False),
        (UNGRADED, "anything", True),
    ] * 3
    items, texts, truncated = zip(*cases, strict=True)
    assert grade_many(items, texts, truncated) == [grade(i, t, truncated=c) for i, t, c in cases]


def test_equal_answers_have_one_vote_right_or_wrong() -> None:
    given = ["1/2", "0.5", "7", "\\frac{1}{2}", "7.0", "5", "5.0", "x+1"]
    grades = grade_many([FIVE] * 8, [f"\\boxed{{{one}}}" for one in given], [False] * 8)
    assert [one.vote for one in grades] == ["1/2", "1/2", "7", "1/2", "7", "5", "5", "x+1"]
    alike = Item("c", (), "C", "choice", ("red", "red", "blue"))
    texts = ["Answer: B", "Answer: A", "Answer: C", "no idea"]
    assert [one.vote for one in grade_many([alike] * 4, texts, [False] * 4)] == ["B", "B", "C", None]
    apart = grade_many([FIVE, SUM], ["\\boxed{7}", "\\boxed{7.0}"], [False] * 2)
    assert [one.vote for one in apart] == ["7", "7.0"], "another item's are not its own"


def test_answers_that_cannot_be_compared_in_time_are_equal_to_nothing() -> None:
    texts = [f"\\boxed{{{one}}}" for one in ("x", "9^{9^{9^{9}}}", "x", "y")]
    grades = grade_many([FIVE] * 4, texts, [False] * 4, limit_s=0.5)
    assert [one.vote for one in grades] == ["x", "9^{9^{9^{9}}}", "x", "y"]


@pytest.mark.parametrize(
    "hostile",
    ["9^{9^{9^{9}}}", "\\sum_{k=1}^{10^9} \\frac{1}{k^k}", "(x+1)^{100000}", "10^{10^{10}}!"],
)
def test_a_hostile_expression_costs_its_limit_and_nothing_else(hostile: str) -> None:
    start = time.monotonic()
    grades = grade_many(
        [FIVE, SUM, FIVE],
        ["\\boxed{5}", f"\\boxed{{{hostile}}}", "\\boxed{5}"],
        [False] * 3,
        limit_s=0.5,
    )
    assert grades == [Grade("5", correct=True), Grade(hostile, correct=False), Grade("5", correct=True)]
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 20_000,
        "the answer is " * 10_000,
        "(" * 200_000,
        "$1 " * 60_000,
        "**1" * 60_000,
        "1," * 100_000,
        "x = " + "a" * 200_000,
        "a " * 100_000,
        "." + " " * 200_000,
        "the answer is " + " " * 200_000,
        "\\boxed{1}" + "$" * 200_000 + "x\\boxed{2}",
        "\\boxed{" + "{" * 200_000,
        "final " * 40_000,
        "correct answer " * 15_000,
        "choose " * 30_000,
        "\n" * 200_000,
        ".\n" * 100_000,
        "I" + " " * 200_000,
        "so" + "\n" * 200_000,
        "answer" + " " * 200_000,
        "final" + " " * 200_000 + "answer",
        "this is" + " " * 200_000 + "the one",
        "\\boxed" + " " * 200_000,
        "7" + " " * 200_000 + "is wrong",
        "sum of " * 300 + " " * 2_000 + "7 x",
        "< " * 100_000,
        "\\[" * 100_000,
        "\\(" * 100_000,
        "x = " * 50_000,
        "7 or " * 40_000,
    ],
    ids=lambda text: text[:14],
)
@pytest.mark.parametrize("asked", [FIVE, CHOICE], ids=["math", "choice"])
def test_reading_a_hostile_response_takes_linear_time(text: str, asked: Item) -> None:
    start = time.process_time()
    assert grade(asked, text, truncated=False).correct is False
    assert time.process_time() - start < 2


def test_it_works_from_a_thread_that_is_not_the_main_one() -> None:
    grades: list[Grade] = []
    thread = threading.Thread(
        target=lambda: grades.extend(
            grade_many([SUM, FIVE], ["\\boxed{9^{9^{9^{9}}}}", "\\boxed{5}"], [False, False], limit_s=0.5)
        )
    )
    thread.start()
    thread.join(30)
    assert [g.correct for g in grades] == [False, True]


def test_nothing_to_grade_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    assert grade_many([], [], []) == []
    assert grade_many([FIVE], ["\\boxed{5}"], [True]) == [Grade(None, correct=False)]


def test_at_least_500_answers_a_second() -> None:
    count = 2000
    texts = [f"Some steps, 3 + 4 = 7.\n\n\\boxed{{{i % 7}}}" for i in range(count)]
    grade_many([FIVE], ["\\boxed{5}"], [False])  # whatever the machine caches
    start = time.monotonic()
    grades = grade_many([FIVE] * count, texts, [False] * count)
    assert time.monotonic() - start < count / 500
    assert sum(bool(g.correct) for g in grades) == sum(i % 7 == 5 for i in range(count))


@pytest.fixture
def kept() -> Iterator[Grader]:
    with Grader(2.0) as grader:
        yield grader
    assert graders() == []


def graders() -> list[psutil.Process]:
    return running("orchestrator.grading.worker")


def test_a_grader_that_is_kept_stays_the_same_process(kept: Grader) -> None:
    kept.prepare()
    before = graders()
    for _ in range(2):
        assert grade_many([FIVE], ["\\boxed{5}"], [False], grader=kept) == [Grade("5", correct=True)]
    assert len(before) == 1
    assert graders() == before


def test_a_kept_grader_that_died_meanwhile_is_replaced(kept: Grader) -> None:
    kept.prepare()
    (process,) = graders()
    process.kill()
    process.wait(5)
    assert grade_many([FIVE], ["\\boxed{5}"], [False], grader=kept) == [Grade("5", correct=True)]


def test_an_answer_is_not_wrong_because_somebody_ended_the_grader_under_it(kept: Grader) -> None:
    assert kept.grade(FIVE, "\\boxed{5}") == Grade("5", correct=True)
    (process,) = graders()
    process.suspend()
    threading.Timer(0.3, process.kill).start()
    assert kept.grade(FIVE, "\\boxed{5}") == Grade("5", correct=True)
    assert graders() != [process]


def test_an_answer_that_runs_out_of_time_is_not_tried_twice(kept: Grader) -> None:
    assert kept.grade(FIVE, "\\boxed{5}") == Grade("5", correct=True)
    start = time.monotonic()
    assert kept.grade(SUM, "\\boxed{(x+y+1)^{900}}") == Grade("(x+y+1)^{900}", correct=False)
    assert time.monotonic() - start < 3.5
