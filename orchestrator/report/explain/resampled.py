"""Runs drawn again, and how much wider an interval is where there are few."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from orchestrator.metrics.resampling import KEPT
from orchestrator.metrics.runs import t_quantile
from orchestrator.metrics.stats import Z
from orchestrator.report.explain.in_blocks import Blocks
from orchestrator.report.explain.lmdi import Array

DRAWS = 500


def drawn_times(generator: np.random.Generator, count: int) -> Array:
    """How often each of ``count`` is in each of as many drawn with replacement, shape (DRAWS, count)."""
    times: Array = generator.multinomial(count, np.full(count, 1 / count), DRAWS).astype(np.float64)
    return times


def drawn_runs(generator: np.random.Generator, runs: list[int], blocks: Blocks | None) -> tuple[Array, Array]:
    """The same of the ``runs`` of each side; of paired ones whole blocks are drawn, on both sides alike."""
    if blocks is None:
        return drawn_times(generator, runs[0]), drawn_times(generator, runs[1])
    drawn = drawn_times(generator, _count(blocks))
    return drawn[:, blocks[0]], drawn[:, blocks[1]]


def first_drawn(seed: int, count: int) -> tuple[Array, np.random.Generator]:
    """`drawn_times` of a generator that begins with ``seed``, read-only, and the generator as it is then. All
    pairs of a report that have as many questions draw the same."""
    draw = _first_drawn if DRAWS * count <= KEPT else _first_drawn.__wrapped__
    times, state = draw(seed, count)
    generator = np.random.default_rng()
    generator.bit_generator.state = state
    return times, generator


@lru_cache(maxsize=2)
def _first_drawn(seed: int, count: int) -> tuple[Array, Mapping[str, Any]]:
    generator = np.random.default_rng(seed)
    times = drawn_times(generator, count)
    times.flags.writeable = False
    return times, generator.bit_generator.state


def interval(values: Array, draws: Array, runs: list[int], blocks: Blocks | None) -> tuple[Array, Array]:
    """95 % of ``draws``, shape (bars, DRAWS), around ``values``, shape (bars,), stretched for the number of
    ``runs`` of each side, or of the ``blocks`` that pair them."""
    ends = np.quantile(draws, [0.025, 0.975], axis=1)
    count = [] if blocks is None else [_count(blocks)]
    low, high = values + _stretch(count or runs) * (ends - values)
    return low, high


def _count(blocks: Blocks) -> int:
    return int(blocks[0].max()) + 1


def _stretch(runs: list[int]) -> float:
    """By how much a bootstrap over so few runs is too narrow (Hesterberg 2015): it leaves out one in n of
    their variance and takes no heed of Student's t. 1 with one run on a side, whose interval is within it."""
    fewest = min(runs)
    if fewest < 2:
        return 1.0
    return float(np.sqrt(fewest / (fewest - 1))) * t_quantile(sum(runs) - len(runs)) / Z
