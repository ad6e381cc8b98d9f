"""Statistics shared by the metrics. Percentiles interpolate linearly (NumPy's default)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50, 90, 95, 99)


def present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def total(values: Iterable[int | None]) -> int | None:
    """Their sum; None when one of them is unknown, since the rest would undercount."""
    result = 0
    for value in values:
        if value is None:
            return None
        result += value
    return result


def ratio(part: float | None, whole: float | None) -> float | None:
    """part / whole; None when either is unknown or there is no whole."""
    return None if part is None or whole is None or whole <= 0 else part / whole


def mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def describe(name: str, values: Sequence[float] | NDArray[np.float64]) -> dict[str, float | None]:
    """``name_mean`` and ``name_p50`` … ``name_p99``; all None without values."""
    columns = [f"{name}_mean", *(f"{name}_p{q}" for q in PERCENTILES)]
    if not len(values):
        return dict.fromkeys(columns)
    return dict(zip(columns, map(float, (np.mean(values), *np.percentile(values, PERCENTILES))), strict=True))


def describe_all(name: str, values: Sequence[float], failures: int) -> dict[str, float | None]:
    """``name_p50_all`` … ``name_p99_all``: percentiles with each failure as an infinitely late value.

    None where the percentile is infinite, and without any request.
    """
    ordered = sorted(values)
    last = len(ordered) + failures - 1

    def percentile(q: int) -> float | None:
        below, hundredths = divmod(q * last, 100)
        if last < 0 or below + (hundredths > 0) >= len(ordered):
            return None
        if not hundredths:
            return ordered[below]
        return ordered[below] + (ordered[below + 1] - ordered[below]) * hundredths / 100

    return {f"{name}_p{q}_all": percentile(q) for q in PERCENTILES}
