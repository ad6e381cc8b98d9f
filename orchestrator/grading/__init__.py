"""Answers to grades: what a response answers, and whether that is right."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from orchestrator.grading import choice, equality, extract
from orchestrator.grading.isolated import Grader
from orchestrator.records import Grade, Item

__all__ = ["grade", "grade_many", "is_right", "read"]

LIMIT_S = 5.0
_TEXT_LIMIT = 200_000  # characters; the answer is at the end


def grade(item: Item, response_text: str, *, truncated: bool) -> Grade:
    """The grade of one visible answer (without the reasoning).

    A truncated response is wrong and nothing is read from it. An item without a reference answer has no
    grade. Comparing can take arbitrarily long on a hostile expression; `grade_many` bounds it.
    """
    if item.kind == "none":
        return Grade(predicted=None, correct=None)
    if truncated:
        return Grade(predicted=None, correct=False)
    answer = read(item, response_text)
    return Grade(answer, is_right(item, answer))


def read(item: Item, response_text: str) -> str | None:
    """What a response answers: the letter of an option, or an expression; None where it answers nothing."""
    if item.kind == "choice":
        return choice.read(response_text[-_TEXT_LIMIT:], item.options)
    return extract.answer(response_text[-_TEXT_LIMIT:]) or None


def is_right(item: Item, answer: str | None) -> bool:
    """Whether what `read` gave is the item's reference."""
    if answer is None:
        return False
    if item.kind == "choice":
        return _option(item, answer) == _option(item, item.reference)
    return equality.equal(item.reference, answer)


def grade_many(
    items: Sequence[Item],
    response_texts: Sequence[str],
    truncated: Sequence[bool],
    *,
    limit_s: float = LIMIT_S,
    grader: Grader | None = None,
) -> list[Grade]:
    """The grades of many responses, in their order; ``items`` repeats an item that was asked several times.

    Works in one process of its own, at a few thousand answers a second, from any thread. An answer that
    takes longer than ``limit_s`` to read and compare, or too much memory, is wrong: the kernel ends the
    process, and another one goes on with the next answer. ``grader``, with a limit of its own, stays for the
    next call.
    """
    with Grader(limit_s) if grader is None else contextlib.nullcontext(grader) as isolated:
        return [
            grade(item, "", truncated=cut) if cut or item.kind == "none" else isolated.grade(item, text)
            for item, text, cut in zip(items, response_texts, truncated, strict=True)
        ]


def _option(item: Item, letter: str) -> str:
    """The text of an option; a few questions offer the same text twice, and either is then right."""
    return item.options[ord(letter) - ord("A")]
