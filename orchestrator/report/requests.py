"""What a report reads of a cell's requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    *("item_id", "outcome", "finish_reason", "sent_s", "end_s", "ttft_s", "ttfvt_s", "e2e_s", "tpot_s"),
    *("output_tokens", "reasoning_tokens", "predicted", "correct", "family", "level"),
)


class Lists(Mapping[str, Sequence[Any]]):
    """A frame's columns as lists, each made when it is asked for."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def __getitem__(self, name: str) -> Sequence[Any]:
        if name not in self.frame.columns:
            raise KeyError(name)
        return self.frame[name].to_list()

    def __iter__(self) -> Iterator[str]:
        return iter(self.frame.columns)

    def __len__(self) -> int:
        return self.frame.width


@dataclass(frozen=True, eq=False)
class Requests:
    """Columns of ``requests``, one entry a request; null is None."""

    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The columns as one."""
        import polars as pl

        return self.columns.frame if isinstance(self.columns, Lists) else pl.DataFrame(dict(self.columns))

    def ok(self, column: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Of each request whether it ended well and has a value, and the value."""
        values = self._numbers(column)
        return self._is("outcome", "ok") & ~np.isnan(values), values

    def answers(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Of each request whether its answer is gradable, and 1.0 where that is right; one that was cut off
        at the budget is not."""
        right = self._numbers("correct")
        gradable = ~np.isnan(right)
        return gradable, np.where(self._is("finish_reason", "length"), 0.0, right)

    def of_ok(self, column: str) -> tuple[list[str], list[float]]:
        """Items and values of the requests that ended well and have one."""
        kept, values = self.ok(column)
        return self.frame["item_id"].filter(kept).to_list(), values[kept].tolist()

    def graded(self) -> tuple[list[str], list[bool]]:
        """Items and whether each gradable answer is right, as `answers` has it."""
        kept, right = self.answers()
        return self.frame["item_id"].filter(kept).to_list(), right[kept].astype(bool).tolist()

    def ungradable_share(self) -> float | None:
        """Of the ok requests with a grade, those in whose answer none could be read; None where nothing is
        graded."""
        graded = self.frame["correct"].is_not_null()
        count = int(graded.sum())
        read = int((self.frame["predicted"].is_not_null() & graded).sum())
        return 1 - read / count if count else None

    def _numbers(self, column: str) -> NDArray[np.float64]:
        """NaN where there is none."""
        import polars as pl

        return self.frame[column].cast(pl.Float64).to_numpy()

    def _is(self, column: str, value: str) -> NDArray[np.bool_]:
        if (column, value) not in self._found:
            self._found[column, value] = (self.frame[column] == value).fill_null(False).to_numpy()
        return self._found[column, value]

    @cached_property
    def _found(self) -> dict[tuple[str, str], NDArray[np.bool_]]:
        return {}
