"""The questions that a small model is taught and asked: right, in order of difficulty, and never both."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable

import pytest

from orchestrator import worked
from orchestrator.datasets import STYLES
from orchestrator.worked import FAMILIES, LEVELS, Lesson, Problem

TAUGHT = list(itertools.islice(worked.lessons(7), 3000))
ASKED = list(worked.asked(1024))

EQUATION = re.compile(r"(?<![\d.])(\d+(?: [+*-] \d+)+) = (\d+)")


def thought(lesson: Lesson) -> str:
    return "".join(piece.text for piece in lesson.thought)


def numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def product_or(text: str) -> int:
    a, b = numbers(text)
    if re.search(r"\*|times|boxes", text):
        return a * b
    if text.startswith("Subtract"):
        return b - a
    return a - b if re.search(r" - |gives away", text) else a + b


def told(text: str) -> int:
    """A story, read sentence by sentence."""
    now = 0
    for sentence in text.split(". "):
        found = numbers(sentence)
        if "boxes" in sentence:
            now += found[0] * found[1]
        elif "half" in sentence:
            now //= 2
        elif times := re.search(r"doubles|triples|four times", sentence):
            now *= {"doubles": 2, "triples": 3, "four times": 4}[times.group()]
        elif re.search(r"loses|sells|of them to", sentence):
            now -= found[0]
        elif found:
            now += found[0]
    return now


def listed(text: str) -> int:
    asked, _, rest = text.partition(": ")
    found = numbers(rest)
    if "sum" in asked or "Add" in asked:
        return sum(found)
    if "largest" in asked:
        return max(found)
    if "even" in asked:
        return sum(number % 2 == 0 for number in found)
    return sum(number > numbers(asked)[0] for number in found)


def divided(text: str) -> int:
    a, b = numbers(text)
    if text.startswith("How many times"):
        a, b = b, a
    return a % b if re.search(r"is the remainder|left over", text) else a // b


def applied(text: str) -> int:
    now, times, factor, plus = numbers(text)
    kept = {"two": 2, "three": 3, "four": 4}[re.findall(r"last (\w+) digits", text)[0]]
    for _ in range(times):
        now = (now * factor + plus) % 10**kept
    return now


def formula(text: str) -> int:
    return int(eval(re.findall(r"[\d(][\d +*()-]*[\d)]", text)[0]))


READ: dict[str, Callable[[str], int]] = {
    "operation": product_or,
    "expression": formula,
    "division": divided,
    "divisor": lambda text: math.gcd(*numbers(text)),
    "story": told,
    "series": listed,
    "time": lambda text: sum(
        int(n) * (60 if unit == "h" else 1) for n, unit in re.findall(r"(\d+) (h|m)", text)
    ),
    "rule": applied,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_is_what_the_words_ask_for(family: str) -> None:
    problems = [lesson.problem for lesson in TAUGHT] + ASKED
    chosen = [problem for problem in problems if problem.family == family]
    assert len(chosen) > 300
    assert [problem.answer for problem in chosen] == [READ[family](problem.text) for problem in chosen]


def test_every_equation_of_a_thought_is_true_but_for_the_slips() -> None:
    checked = 0
    for lesson in TAUGHT:
        for text, result in EQUATION.findall("".join(p.text for p in lesson.thought if not p.slip)):
            assert eval(text) == int(result), (text, lesson)
            checked += 1
    assert checked > 20_000


def test_a_slip_is_wrong_and_what_follows_puts_it_right() -> None:
    pairs = [
        (before.text, slip.text, after.text)
        for lesson in TAUGHT
        for before, slip, after in zip(lesson.thought, lesson.thought[1:], lesson.thought[2:], strict=False)
        if slip.slip
    ]
    assert len(pairs) > 100
    for before, slip, after in pairs:
        if slip.startswith(" "):  # a result
            (text,) = re.findall(r"(\d+ [+*-] \d+) =$", before)
            assert eval(text) != int(slip.strip(" ."))
            corrected = re.match(r" Wait, let me check that: .*?, not \d+\. So (\d+ . \d+) = (\d+)", after)
            assert corrected is not None
            assert corrected.group(1) == text
        else:  # a carry
            assert after.startswith(" - wait, the carry: ")
    assert {slip.startswith(" ") for _, slip, _ in pairs} == {True, False}


def test_some_thoughts_slip_and_most_do_not() -> None:
    slipped = sum(any(piece.slip for piece in lesson.thought) for lesson in TAUGHT) / len(TAUGHT)
    assert 0.04 < slipped < 0.2


def test_the_thought_comes_to_the_answer_before_it_is_given() -> None:
    for lesson in TAUGHT:
        assert lesson.problem.answer in [*numbers(thought(lesson).splitlines()[-1]), 0], lesson
        assert str(lesson.problem.answer) in lesson.reply


def test_nothing_that_is_asked_was_taught_in_any_words() -> None:
    assert {worked.held_out(lesson.problem) for lesson in TAUGHT} == {False}
    assert {worked.held_out(problem) for problem in ASKED} == {True}
    taught = {(lesson.problem.family, lesson.problem.key) for lesson in TAUGHT}
    assert not taught & {(problem.family, problem.key) for problem in ASKED}


def test_the_words_do_not_decide_the_side() -> None:
    one = Problem("operation", 1, "3+4", "What is 3 + 4?", 7, lambda _: None)
    other = Problem("operation", 2, "3+4", "Add 3 and 4.", 7, lambda _: None)
    assert worked.held_out(one) == worked.held_out(other)


def test_no_question_is_asked_twice_and_levels_and_families_are_balanced() -> None:
    assert len({problem.text for problem in ASKED}) == len(ASKED)
    for level in LEVELS:
        for family in FAMILIES:
            assert sum(p.level == level and p.family == family for p in ASKED) == 16
    assert [problem.level for problem in ASKED[:8]] == list(LEVELS)


def test_a_seed_gives_the_same_lessons_and_another_seed_others() -> None:
    again = [lesson.prompt for lesson in itertools.islice(worked.lessons(7), 50)]
    assert again == [lesson.prompt for lesson in TAUGHT[:50]]
    assert again != [lesson.prompt for lesson in itertools.islice(worked.lessons(8), 50)]


@pytest.mark.parametrize("family", FAMILIES)
def test_harder_levels_take_longer_thoughts(family: str) -> None:
    lengths: dict[int, list[int]] = {level: [] for level in LEVELS}
    for lesson in TAUGHT:
        if lesson.problem.family == family:
            lengths[lesson.problem.level].append(len(thought(lesson)))
    length = {level: statistics.mean(found) for level, found in lengths.items()}
    assert length[1] < length[3] < length[5] < length[8]
    assert length[8] > 2 * length[1]


def test_every_question_reads_well() -> None:
    for text in [problem.text for problem in ASKED] + [lesson.problem.text for lesson in TAUGHT]:
        assert re.fullmatch(r"[A-Z][^{}]*[.?]", text), text
        assert not re.search(r"  |\b[01] [a-z]+s\b|\b[01] (boxes|times)\b|(\w+) to \1\b", text), text


def test_a_question_ends_and_is_answered_as_the_prompt_styles_say() -> None:
    assert tuple(STYLES[style].math for style in ("boxed", "plain", "cot")) == (
        worked.BOXED,
        worked.PLAIN,
        worked.COT,
    )
    replies = {
        worked.BOXED: r"The answer is \\boxed\{\d+\}\.",
        worked.PLAIN: r"\d+",
        worked.COT: r"Answer: \d+",
        "": r"The answer is \\boxed\{\d+\}\.",
    }
    endings = set()
    for lesson in TAUGHT:
        ending = lesson.prompt.removeprefix(lesson.problem.text).strip()
        assert re.fullmatch(replies[ending], lesson.reply)
        endings.add(ending)
    assert endings == set(replies)
