"""Neither NaN nor infinity ever means anything in what is stored."""

from __future__ import annotations

from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

NOT_FINITE = "holds NaN or infinity; absent is null"


def all_finite(column: pa.ChunkedArray) -> bool:
    """Whether all its numbers are, those in lists too."""
    for chunk in column.chunks:
        numbers = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
        if pa.types.is_floating(numbers.type) and pc.any(pc.invert(pc.is_finite(numbers))).as_py():
            return False
    return True


def is_finite(value: Any) -> bool:
    """The same of a single value, a number or a list of them; True of anything else."""
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or isfinite(value)
