"""The additive logarithmic mean Divisia index (LMDI-I, Ang 2005): what each factor of a product contributes
to the product's change. The contributions add up to it, whatever the order of the factors."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def log_mean(a: Array, b: Array) -> Array:
    """(a − b) / ln(a / b); a where both are equal, 0 where either is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    most, least = np.maximum(a, b), np.minimum(a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = (most - least) / np.log1p((most - least) / least)  # exact where both are nearly equal, too
    found: Array = np.where(least == 0, 0.0, np.where(most == least, most, apart))
    return found


def of_product(before: Array, after: Array) -> Array:
    """Contributions of each factor to the change of the product, shape (factors, ...) as both arguments,
    which are 0 or more.

    Of a factor that is 0 on one side the limit is taken, in which it has the whole change (factors that are 0
    on the same side share it): small numbers in the place of 0 give other results (Wood and Lenzen 2006).
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    a, b = before.prod(axis=0), after.prod(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where((before > 0) & (after > 0), log_mean(b, a) * np.log(after / before), 0.0)
    for zero, change in (((before == 0) & (after > 0), b), ((after == 0) & (before > 0), -a)):
        count = zero.sum(axis=0)
        found = np.where(zero & (count > 0), change / np.maximum(count, 1), found)
    one_side = (a == 0) != (b == 0)
    started = np.where(one_side & (a == 0), before == 0, after == 0)
    return np.where(one_side, np.where(started, found, 0.0), np.where((a > 0) & (b > 0), found, 0.0))
