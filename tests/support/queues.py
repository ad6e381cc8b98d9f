"""Simulated servers whose true rates are known: records of loads on them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.records import Record
from tests.support.timelines import record

GAP_S = 0.05  # between the tokens of one answer

Ints = NDArray[np.int64]


def lengths(random: np.random.Generator, n: int, mean: float, cv: float) -> Ints:
    """n answer lengths in tokens: log-normal with this mean and coefficient of variation, at least 1;
    all alike where that is 0."""
    if cv == 0:
        return np.full(n, round(mean))
    sigma = np.sqrt(np.log(1 + cv**2))
    drawn = random.lognormal(np.log(mean) - sigma**2 / 2, sigma, n)
    return np.maximum(1, np.rint(drawn)).astype(np.int64)


def poisson(random: np.random.Generator, rate: float, n: int) -> list[float]:
    """Times of n arrivals, ``rate`` a second."""
    times: list[float] = np.cumsum(random.exponential(1 / rate, n)).tolist()
    return times


def infinite(sent_s: Sequence[float], tokens: Ints) -> list[Record]:
    """M/G/∞: each request is served at once, one token after another."""
    return [answer(sent, sent, n) for sent, n in zip(sent_s, tokens, strict=True)]


def servers(k: int, sent_s: Sequence[float], tokens: Ints) -> list[Record]:
    """M/G/k: at most k are served at a time, the others wait in the order in which they came."""
    free, records = [0.0] * k, []
    for sent, n in zip(sent_s, tokens, strict=True):
        begins = max(sent, heapq.heappop(free))
        heapq.heappush(free, begins + n * GAP_S)
        records.append(answer(sent, begins, n))
    return records


def shared(sent_s: Sequence[float], tokens: Ints, capacity: float) -> list[Record]:
    """M/G/1 processor sharing beside a fixed time: with n in flight each token takes
    GAP_S / 5 + n / (capacity · mean length), so that at most ``capacity`` answers a second are served."""
    each_s = 1 / (capacity * float(tokens.mean()))
    left: dict[int, float] = {}
    ends, now, arrived = [0.0] * len(sent_s), 0.0, 0
    while left or arrived < len(sent_s):
        step_s = GAP_S / 5 + each_s * len(left)
        next_end = now + min(left.values()) * step_s if left else float("inf")
        then = min(next_end, sent_s[arrived] if arrived < len(sent_s) else float("inf"))
        left = {key: tokens_left - (then - now) / step_s for key, tokens_left in left.items()}
        now = then
        for key in [key for key, tokens_left in left.items() if tokens_left < 1e-9]:
            ends[key] = now
            del left[key]
        if then < next_end:
            left[arrived] = float(tokens[arrived])
            arrived += 1
    return [
        _of(sent, np.linspace(sent + (end - sent) / n, end, int(n)))
        for sent, end, n in zip(sent_s, ends, tokens, strict=True)
    ]


def closed(concurrency: int, tokens: Ints) -> list[Record]:
    """So many in flight at a time, the next sent as one ends: ``concurrency`` / GAP_S tokens a second."""
    free, records = [0.0] * concurrency, []
    for n in tokens:
        sent = heapq.heappop(free)
        heapq.heappush(free, sent + n * GAP_S)
        records.append(answer(sent, sent, n))
    return records


def batches(size: int, tokens: Ints) -> list[Record]:
    """Groups of ``size``, each sent when the one before it has ended."""
    records: list[Record] = []
    sent = 0.0
    for start in range(0, len(tokens), size):
        group = [answer(sent, sent, n) for n in tokens[start : start + size]]
        sent = max(one.end_s for one in group)
        records += group
    return records


def answer(sent_s: float, begins_s: float, tokens: int) -> Record:
    """A request with one token each GAP_S from ``begins_s`` on."""
    return _of(sent_s, np.linspace(begins_s + GAP_S, begins_s + GAP_S * tokens, int(tokens)))


def cut(records: Sequence[Record], ends_s: float) -> list[Record]:
    """What is left of the records when the window ends: the cut ones hold what had arrived by then."""
    left = []
    for one in records:
        assert one.sent_s is not None
        if one.end_s <= ends_s:
            left.append(one)
        elif one.sent_s < ends_s:
            left.append(_of(one.sent_s, one.chunk_s[one.chunk_s <= ends_s], ends_s))
        else:
            left.append(record(None, outcome="cancelled", end_s=ends_s, cut_by_window=True))
    return left


def _of(sent_s: float, chunk_s: NDArray[np.float64], cut_s: float | None = None) -> Record:
    first, last = (float(chunk_s[0]), float(chunk_s[-1])) if len(chunk_s) else (None, None)
    return record(
        sent_s,
        end_s=last if cut_s is None else cut_s,
        outcome="ok" if cut_s is None else "cancelled",
        cut_by_window=cut_s is not None,
        first_token_s=first,
        first_visible_s=first,
        last_token_s=last,
        output_tokens=len(chunk_s),
        chunk_s=chunk_s,
        chunk_tokens=np.ones(len(chunk_s), np.int32),
        chunk_reasoning=np.zeros(len(chunk_s), np.int32),
    )
