"""What a report reads of a cell's requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS = (
    *("item_id", "outcome", "finish_reason", "sent_s", "end_s", "ttft_s", "ttfvt_s", "e2e_s", "tpot_s"),
    *("output_tokens", "reasoning_tokens", "predicted", "correct", "family", "level"),
)


@dataclass(frozen=True)
class Requests:
    """Columns of ``requests``, one entry a request; null is None."""

    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.columns["item_id"])

    def of_ok(self, column: str) -> tuple[list[str], list[float]]:
        """Items and values of the requests that ended well and have one."""
        kept = [
            (item, float(value))
            for item, outcome, value in zip(
                self.columns["item_id"], self.columns["outcome"], self.columns[column], strict=True
            )
            if outcome == "ok" and value is not None
        ]
        return [item for item, _ in kept], [value for _, value in kept]

    def graded(self) -> tuple[list[str], list[bool]]:
        """Items and whether each gradable answer is right; one that was cut off at the budget is not."""
        kept = [
            (item, bool(correct) and finish != "length")
            for item, correct, finish in zip(
                self.columns["item_id"], self.columns["correct"], self.columns["finish_reason"], strict=True
            )
            if correct is not None
        ]
        return [item for item, _ in kept], [right for _, right in kept]

    def ungradable_share(self) -> float | None:
        """Of the ok requests with a grade, those in whose answer none could be read; None where nothing is
        graded."""
        read = [
            predicted is not None
            for predicted, correct in zip(self.columns["predicted"], self.columns["correct"], strict=True)
            if correct is not None
        ]
        return 1 - sum(read) / len(read) if read else None
