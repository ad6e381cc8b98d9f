"""MATH-500 and the AIME: competition problems whose reference answer has its own column."""

from __future__ import annotations

import re

from orchestrator.datasets import fields
from orchestrator.datasets.question import Family, Question, Row, content_id


def math500(row: Row) -> Question:
    """``subject`` groups the items and ``level`` (1 to 5) ranks them, where the file has them."""
    text = fields.text(row, "problem")
    level = re.fullmatch(r"(?:Level )?([1-9])", str(row.get("level")), re.ASCII)
    return Question(
        item_id=fields.name(row, "unique_id") or content_id(text),
        text=text,
        answer=fields.answer(row, "answer"),
        worked=fields.optional(row, "solution"),
        group=fields.name(row, "subject"),
        level=int(level.group(1)) if level else None,
    )


def aime(row: Row) -> Question:
    """The answer is an integer from 0 to 999, sometimes written with leading zeros."""
    text, answer = fields.text(row, "problem"), fields.answer(row, "answer")
    if not re.fullmatch(r"\d{1,3}", answer, re.ASCII):
        raise ValueError(f"answer is {answer[:40]!r}, must be a whole number from 0 to 999")
    return Question(
        item_id=fields.name(row, "id") or content_id(text),
        text=text,
        answer=str(int(answer)),
        worked=fields.optional(row, "solution"),
    )


MATH500 = Family(fields=("problem", "answer"), question=math500)
AIME = Family(fields=("problem", "answer"), question=aime)
