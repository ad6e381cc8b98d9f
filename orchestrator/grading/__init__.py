"""Answers to grades: what a response answers, and whether that is right."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

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
    next call. Of answers to one item each has its vote.
    """
    with Grader(limit_s) if grader is None else contextlib.nullcontext(grader) as isolated:
        grades = [
            grade(item, "", truncated=cut) if cut or item.kind == "none" else isolated.grade(item, text)
            for item, text, cut in zip(items, response_texts, truncated, strict=True)
        ]
        return _with_votes(items, grades, isolated)


def _with_votes(items: Sequence[Item], grades: Sequence[Grade], isolated: Grader) -> list[Grade]:
    """All right answers to an item have one vote, and all wrong ones that are equal. What takes too long to
    compare is equal to nothing else."""
    # An item's right answers, and its wrong ones: the first that each is equal to.
    found: dict[tuple[str, bool | None], dict[str, str]] = {}
    voted = []
    for item, one in zip(items, grades, strict=True):
        if one.predicted is None:
            voted.append(one)
            continue
        known = found.setdefault((item.item_id, one.correct), {})
        if one.predicted not in known:
            known[one.predicted] = _first_equal(item, one, list(dict.fromkeys(known.values())), isolated)
        voted.append(replace(one, vote=known[one.predicted]))
    return voted


def _first_equal(item: Item, one: Grade, before: Sequence[str], isolated: Grader) -> str:
    """Of the distinct answers ``before`` it, the one that it equals; itself where it is the first."""
    assert one.predicted is not None
    if one.correct and before:
        return before[0]
    for other in before:
        if item.kind == "choice":
            same: bool | None = _option(item, other) == _option(item, one.predicted)
        else:
            same = isolated.same(other, one.predicted)
        if same is None:
            break
        if same:
            return other
    return one.predicted


def _option(item: Item, letter: str) -> str:
    """The text of an option; a few questions offer the same text twice, and either is then right."""
    return item.options[ord(letter) - ord("A")]
