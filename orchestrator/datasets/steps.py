"""Questions of `orchestrator.worked`, the side of them that was never taught: what `smollm2-135m-think` is
right on more or less often by level, and any other model may be asked."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from orchestrator import worked
from orchestrator.datasets.question import Family, Question, Row

LEVELS = worked.LEVELS[:7]  # of the eighth the model that was taught is right on a third
SIZE = 80 * len(LEVELS) * len(worked.FAMILIES)


@functools.cache
def rows() -> Sequence[Row]:
    """In this order (``sample=head``) any number of them is spread over levels, then over families."""
    return tuple(
        {
            "id": f"{number:05d}",
            "question": problem.text,
            "answer": str(problem.answer),
            "family": problem.family,
            "level": problem.level,
        }
        for number, problem in enumerate(worked.asked(SIZE, LEVELS))
    )


def _question(row: Row) -> Question:
    return Question(row["id"], row["question"], row["answer"], group=row["family"], level=row["level"])


FAMILY = Family(
    fields=("id", "question", "answer", "family", "level"),
    question=_question,
    rows=lambda _: rows(),
    version=worked.VERSION,
    size=SIZE,
)
