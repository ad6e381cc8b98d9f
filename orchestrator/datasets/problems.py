"""MATH-500 and the AIME: competition problems whose reference answer has its own column."""

from __future__ import annotations

from orchestrator.datasets.question import Family, Question, Row, content_id


def math500(row: Row) -> Question:
    """``subject`` groups the items and ``level`` (1 to 5) ranks them, where the file has them. The worked
    solution holds its own box."""
    text = str(row["problem"]).strip()
    return Question(
        item_id=str(row.get("unique_id") or content_id(text)),
        text=text,
        answer=str(row["answer"]).strip(),
        worked=str(row.get("solution") or "").strip(),
        group=row.get("subject"),
        level=None if row.get("level") is None else int(str(row["level"]).removeprefix("Level ")),
    )


def aime(row: Row) -> Question:
    """The answer is an integer from 0 to 999, sometimes written with leading zeros."""
    text = str(row["problem"]).strip()
    answer = int(str(row["answer"]).strip())
    item_id = row.get("id")
    return Question(
        item_id=content_id(text) if item_id is None else str(item_id),
        text=text,
        answer=str(answer),
        worked=str(row.get("solution") or "").strip(),
    )


MATH500 = Family(fields=("problem", "answer"), question=math500)
AIME = Family(fields=("problem", "answer"), question=aime)
