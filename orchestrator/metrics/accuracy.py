"""Accuracy over repeated answers to the same items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.metrics.stats import Z

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers in [0, 1] with its 95 % interval. ``samples`` counts answers, so it is
    ``items`` times the number of repeats."""

    mean: float
    low: float
    high: float
    items: int
    samples: int


def accuracy(item_ids: Sequence[str], correct: Sequence[bool]) -> Accuracy | None:
    """The mean over items of the mean over repeats, with an interval clustered by item; None without answers.

    Answers to one item are not independent, so it is items that are counted. The interval is Wilson's with
    an effective sample size p (1 - p) / Var(mean), where Var(mean) is the variance of the item means over the
    number of items (Kish's design effect; see Dean and Pagano 2015, "Evaluating confidence interval methods
    for binomial proportions in clustered surveys"). The effective size lies between the number of items (all
    repeats of an item alike) and the number of answers. With one repeat it is the number of items, and the
    interval is Wilson's own.
    """
    by_item = _by_item(item_ids, correct)
    return of_means([sum(answers) / len(answers) for answers in by_item.values()], len(correct))


def of_means(means: Sequence[float], samples: int) -> Accuracy | None:
    """As `accuracy`, of each item's share of right answers; ``samples``: how many answers there are."""
    if not means:
        return None
    items, mean = len(means), _mean(means)
    variance = math.fsum((m - mean) ** 2 for m in means) / items**2
    size = mean * (1 - mean) / variance if variance > 0 else (samples if 0 < mean < 1 else items)
    low, high = wilson(mean, min(max(size, items), samples))
    return Accuracy(mean, low, high, items, samples)


def wilson(share: float, size: float) -> tuple[float, float]:
    """Wilson's (1927) 95 % interval for a ``share`` of ``size`` independent trials."""
    centre = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * math.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def avg_at_k(item_ids: Sequence[str], correct: Sequence[bool], k: int) -> float | None:
    """avg@k: the mean over items of the share of right answers among the first ``k`` of each. None when an
    item has fewer than ``k`` answers, or there are none."""
    by_item = _at_least(k, item_ids, correct)
    return None if by_item is None else _mean([sum(answers[:k]) / k for answers in by_item])


def pass_at_k(item_ids: Sequence[str], correct: Sequence[bool], k: int) -> float | None:
    """pass@k: the chance that at least one of ``k`` answers to an item is right, averaged over items.

    The unbiased estimate 1 - C(n - c, k) / C(n, k) from n answers of which c are right (Chen et al. 2021,
    "Evaluating large language models trained on code"). None when an item has fewer than ``k`` answers.
    """
    by_item = _at_least(k, item_ids, correct)
    if by_item is None:
        return None
    return _mean([1 - math.comb(len(a) - sum(a), k) / math.comb(len(a), k) for a in by_item])


def maj_at_k(
    item_ids: Sequence[str],
    predicted: Sequence[str | None],
    correct: Sequence[bool],
    k: int,
    *,
    same: Callable[[str, str], bool] | None = None,
) -> float | None:
    """maj@k: the chance that the most frequent of ``k`` answers to an item is right, averaged over items
    (self-consistency, Wang et al. 2022).

    Votes are counted in successive groups of ``k`` answers; a remainder is left out. Answers that are equal
    are one vote, right or wrong, however they are written: all right ones, and wrong ones that are the
    ``same`` (None: by `grading.equality`, which a hostile expression can keep for long). An answer that could
    not be read (None) does not vote. A tie counts as the share of its winners that are right. None when an
    item has fewer than ``k`` answers.
    """
    by_item = _at_least(k, item_ids, list(zip(predicted, correct, strict=True)))
    if by_item is None:
        return None
    return _mean(
        [
            _mean([_majority(answers[i : i + k], same or _equal) for i in range(0, len(answers) - k + 1, k)])
            for answers in by_item
        ]
    )


def _equal(one: str, other: str) -> bool:
    from orchestrator.grading.equality import equal  # here: it brings sympy with it

    return equal(one, other)


def _majority(answers: Sequence[tuple[str | None, bool]], same: Callable[[str, str], bool]) -> float:
    right = sum(correct for given, correct in answers if given is not None)
    wrong: list[list[str]] = []
    for given, correct in answers:
        if given is None or correct:
            continue
        alike = next((one for one in wrong if given == one[0] or same(one[0], given)), None)
        if alike is None:
            wrong.append([given])
        else:
            alike.append(given)
    counts = [len(one) for one in wrong]
    most = max([right, *counts])
    winners = counts.count(most) + (right == most)
    return (right == most) / winners if most else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _by_item(item_ids: Sequence[str], values: Sequence[T]) -> dict[str, list[T]]:
    by_item: dict[str, list[T]] = {}
    for item_id, value in zip(item_ids, values, strict=True):
        by_item.setdefault(item_id, []).append(value)
    return by_item


def _at_least(k: int, item_ids: Sequence[str], values: Sequence[T]) -> list[list[T]] | None:
    if k < 1:
        raise ValueError(f"k={k}: must be at least 1")
    by_item = list(_by_item(item_ids, values).values())
    return by_item if by_item and all(len(answers) >= k for answers in by_item) else None
