"""Statistics shared by the metrics: percentiles, also of values of which only a bound is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50, 90, 95, 99, 99.9)
CONFIDENCE = 0.99
Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
_NONE: NDArray[np.float64] = np.empty(0)
_ROUNDING = 1e-9  # of sums of probabilities

Values = Sequence[float] | NDArray[np.float64]


def present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """With null for every number that is none (NaN, infinite), as an older version may have stored it."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in row.items()
    }


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


@cache
def needed(percentile: float, confidence: float = CONFIDENCE) -> int:
    """How many values must stand behind a percentile.

    The fewest n of which the second largest lies above the true percentile with this confidence: at most one
    of n values is larger than it with probability n (1 − q) q^(n−1) + q^n ≤ 1 − confidence. It is the rule by
    which MLPerf Inference lets a run stop early (64 at the 90th percentile, 662 at the 99th, for 99 %). The
    median is given from one value on: it is the middle of what was measured, no claim about a tail.
    """
    if percentile <= 50:
        return 1
    q, n = percentile / 100, 2
    while n * (1 - q) * q ** (n - 1) + q**n > 1 - confidence:
        n += 1
    return n


def describe(name: str, seen: Values, bounds: Values = _NONE) -> dict[str, float | None]:
    """``name_mean``, ``_sd``, ``_min``, ``_max`` and ``_p50`` … ``_p999``, all None without values.

    ``bounds`` are right-censored values: each is known to be larger than its bound, no more. With them the
    distribution is Kaplan and Meier's (1958) product-limit estimate, which is unbiased where the bound has
    nothing to do with the value, as at the end of a window that was fixed beforehand (for the requests of a
    closed load, which follow one another: Gill 1980, "Nonparametric estimation based on censored observations
    of a Markov renewal process"). A percentile is then the smallest seen value that the share of the values
    reaches, None where it reaches none; mean, sd and maximum are None unless all of the distribution lies
    below the largest seen value. Without bounds percentiles interpolate linearly between order statistics
    (NumPy's default) and the sd is that of a sample, n − 1 in its denominator.

    A percentile is None with fewer seen values than `needed`.
    """
    ordered, mass = product_limit(seen, bounds)
    known, n = len(ordered) > 0 and mass.sum() > 1 - _ROUNDING, len(ordered)
    centre = float(mass @ ordered) if known else None
    spread = None if centre is None or n < 2 else float(mass @ (ordered - centre) ** 2) * n / (n - 1)
    return {
        f"{name}_mean": centre,
        f"{name}_sd": None if spread is None else float(np.sqrt(spread)),
        f"{name}_min": float(ordered[0]) if n else None,
        f"{name}_max": float(ordered[-1]) if known else None,
        **_percentiles(name, "", ordered, mass, len(bounds), 0),
    }


def describe_all(name: str, seen: Values, failures: int, bounds: Values = _NONE) -> dict[str, float | None]:
    """``name_p50_all`` … ``name_p999_all``: percentiles with each failure as an infinitely late value.

    None where the percentile is infinite or not reached, and with fewer requests than `needed`.
    """
    ordered, mass = product_limit(seen, bounds, failures)
    return _percentiles(name, "_all", ordered, mass, len(bounds), failures)


def product_limit(
    seen: Values, bounds: Values = _NONE, failures: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seen values in ascending order and the probability that the product-limit estimate gives each.

    What the probabilities lack to 1 lies beyond the largest of them: with the ``failures``, which are
    infinite, and with the bounds that are larger.
    """
    if not len(bounds):
        return np.sort(np.asarray(seen, np.float64)), np.full(len(seen), 1 / max(1, len(seen) + failures))
    values = np.concatenate((np.asarray(seen, np.float64), np.asarray(bounds, np.float64)))
    is_bound = np.arange(len(values)) >= len(seen)
    order = np.lexsort((is_bound, values))  # a value at a bound comes before it
    event = ~is_bound[order]
    hazard = event / (len(values) + failures - np.arange(len(values)))
    before = np.concatenate(([1.0], np.cumprod(1 - hazard)[:-1]))
    return values[order][event], (before * hazard)[event]


def label(percentile: float) -> str:
    """``p50``, ``p999``: what a percentile's column is called."""
    return f"p{percentile:g}".replace(".", "")


def _percentiles(
    name: str,
    suffix: str,
    ordered: NDArray[np.float64],
    mass: NDArray[np.float64],
    bounds: int,
    failures: int,
) -> dict[str, float | None]:
    n = len(ordered) + failures
    reached = np.cumsum(mass) if bounds else None
    return {
        f"{name}_{label(q)}{suffix}": None
        if n < needed(q)
        else _interpolated(ordered, n - 1, q)
        if reached is None
        else _reached(ordered, reached, q)
        for q in PERCENTILES
    }


def _interpolated(ordered: NDArray[np.float64], last: int, percentile: float) -> float | None:
    """``last`` is the rank of the largest value, infinite ones included. In whole thousandths, so that no
    rounding turns an order statistic into a share of its neighbour."""
    below, thousandths = divmod(round(10 * percentile) * last, 1000)
    if below + (thousandths > 0) >= len(ordered):
        return None
    low = float(ordered[below])
    return low + (float(ordered[below + 1]) - low) * thousandths / 1000 if thousandths else low


def _reached(ordered: NDArray[np.float64], reached: NDArray[np.float64], percentile: float) -> float | None:
    at = int(np.searchsorted(reached, percentile / 100 - _ROUNDING))
    return float(ordered[at]) if at < len(ordered) else None
