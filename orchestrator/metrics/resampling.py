"""Draws that comparisons are made of, the same for all samples of one size, and what becomes of many samples
under them. Drawing takes longer than what is done with it: so one size is drawn once, and samples of it go
through the draws together while those are in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 4_000_000  # numbers held at once while resampling
KEPT = 16_000_000  # draws of one size that are kept for the next samples, in all
CACHED = 65_536  # floats that a processor's cache holds
ALIGNED = 64  # rows: what a sum is rounded to must not depend on where a block begins

Floats = NDArray[np.float64]
Counts = NDArray[np.float32]
Draws = tuple[NDArray[np.bool_], NDArray[np.int64]]


def subset_means(samples: Sequence[Floats], seed: int, resamples: int) -> Floats:
    """The means of ``resamples`` random subsets of each sample, each of all 2^n equally likely but the empty
    one, shape (samples, resamples). All samples have the same length, and the same subsets."""
    means = np.empty((len(samples), resamples))
    start = 0
    for drawn, sizes in _subsets(len(samples[0]), seed, resamples):
        for first in range(0, len(drawn), rows := _rows(drawn.shape[1])):
            block = drawn[first : first + rows].astype(np.float64)
            of, at = sizes[first : first + rows], slice(start + first, start + first + len(block))
            for i, values in enumerate(samples):
                means[i, at] = block @ values / of
        start += len(drawn)
    return means


def bootstrap_means(samples: Sequence[Floats], seed: int, resamples: int) -> Floats:
    """The mean of each sample in each of ``resamples`` draws of as many units with replacement, shape
    (samples, resamples). All samples have the same length, and the same draws."""
    units = len(samples[0])
    means = np.empty((len(samples), resamples))
    start = 0
    for drawn in counts(units, seed, resamples):
        for first in range(0, len(drawn), rows := _rows(units)):
            block = drawn[first : first + rows].astype(np.float64, order="C")
            at = slice(start + first, start + first + len(block))
            for i, values in enumerate(samples):
                means[i, at] = block @ values / units
        start += len(drawn)
    return means


def counts(units: int, seed: int, resamples: int) -> Sequence[Counts] | Iterator[Counts]:
    """How often each unit is drawn, in blocks of resamples, each of shape (resamples, units) and in the order
    of columns. They are whole numbers."""
    if units * resamples <= KEPT:
        return _kept_counts(units, seed, resamples)
    return _drawn_counts(units, seed, resamples)


@lru_cache(maxsize=2)
def _kept_counts(units: int, seed: int, resamples: int) -> list[Counts]:
    return list(_drawn_counts(units, seed, resamples))


def _drawn_counts(units: int, seed: int, resamples: int) -> Iterator[Counts]:
    generator = np.random.default_rng(seed)
    for shape in _blocks(units, resamples):
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=shape)
        yield drawn.astype(np.float32, order="F")


def _subsets(units: int, seed: int, resamples: int) -> Sequence[Draws] | Iterator[Draws]:
    """Which units are in each subset, and how many."""
    if units * resamples <= KEPT:
        return _kept_subsets(units, seed, resamples)
    return _drawn_subsets(units, seed, resamples)


@lru_cache(maxsize=2)
def _kept_subsets(units: int, seed: int, resamples: int) -> list[Draws]:
    return list(_drawn_subsets(units, seed, resamples))


def _drawn_subsets(units: int, seed: int, resamples: int) -> Iterator[Draws]:
    generator = np.random.default_rng(seed)
    for shape in _blocks(units, resamples):
        drawn = generator.random((shape, units)) < 0.5
        drawn[~drawn.any(axis=1)] = True
        yield drawn, drawn.sum(axis=1)


def _blocks(units: int, resamples: int) -> Iterator[int]:
    """How many resamples are drawn at once."""
    rows = max(1, BLOCK // units)
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)


def _rows(units: int) -> int:
    """How many resamples the cache holds."""
    return max(1, CACHED // units // ALIGNED) * ALIGNED
