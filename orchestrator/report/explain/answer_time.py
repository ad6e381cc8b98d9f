"""Why an answer takes longer or shorter: its first token, how many tokens follow, and how long each takes.

Of all ok requests of a side, with F its mean TTFT, N the mean number of tokens after the first (those of the
thought, and the others) and t the time between tokens, over all tokens: the mean of (E2E − TTFT) is N · t, so
that mean E2E = F + N_thinking · t + N_visible · t holds exactly. F is, by the engine's own clock, its mean
time in the queue, that of the prefill where it tells it, and what these leave (`first_token`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.report.explain.first_token import Split, split
from orchestrator.report.explain.in_blocks import Blocks, in_blocks, runs_told
from orchestrator.report.explain.lmdi import Array, of_product
from orchestrator.report.explain.resampled import drawn_runs, first_drawn, interval
from orchestrator.report.explain.waterfall import Bar, Waterfall
from orchestrator.report.pairs import Pair
from orchestrator.report.variants import Run, Variant

_FIRST, _AFTER, _THINKING, _VISIBLE, _REQUESTS = range(5)
_SUMS = 5  # what follows in a side's totals are the parts of the first token


@dataclass(frozen=True, eq=False)
class _Side:
    """Sums over the ok requests by run and item, shape (runs, items, 5), and whether thoughts are counted."""

    sums: Array
    counted: bool

    @property
    def requests(self) -> Array:
        """Of each run."""
        found: Array = self.sums[..., _REQUESTS].sum(axis=1)
        return found

    @property
    def first_s(self) -> list[float]:
        """The mean of each run; infinite without a request."""
        firsts = self.sums[..., _FIRST].sum(axis=1)
        return [float(sum_s / n) if n else np.inf for sum_s, n in zip(firsts, self.requests, strict=True)]


def answer_time(pair: Pair, seed: int = 0) -> Waterfall | None:
    """None where a side has no request with all its numbers, or no answer of more than one token."""
    kept, blocks = in_blocks(pair, lambda run: run.requests is not None)
    variants = (kept.baseline, kept.variant)
    items = sorted({item for side in variants for item in _items(side)})
    sides = [_side(side, items) for side in variants]
    if not items or any(side.requests.sum() == 0 for side in sides):
        return None
    counted = all(side.counted for side in sides)
    parts = split(kept, (sides[0].first_s, sides[1].first_s))
    told = [_told(side, parts) for side in variants]
    totals = [
        _with_parts(side, side.sums.sum(axis=(0, 1))[:, None], np.ones((1, len(side.sums))), of)
        for side, of in zip(sides, told, strict=True)
    ]
    values = _bars(totals[0], totals[1], counted)
    drawn = _drawn(sides, told, blocks, seed)
    draws = _bars(drawn[0], drawn[1], counted)
    runs = [len(side.sums) for side in sides]
    low, high = interval(values[:, 0], draws, runs, blocks)
    # An engine's counters are of a run and no request: without a second one nothing is known of their spread.
    unknown = len(parts.names) if parts.columns and min(runs) < 2 else 0
    bars = tuple(
        Bar(name, float(value)) if place < unknown else Bar(name, float(value), float(least), float(most))
        for place, (name, value, least, most) in enumerate(
            zip((*parts.names, *_names(counted)), values[:, 0], low, high, strict=True)
        )
    )
    before, after = (float(total[_FIRST, 0] + total[_AFTER, 0]) / total[_REQUESTS, 0] for total in totals)
    waited, *_ = _factors(totals[0], counted)
    share = float(waited[1 if len(parts.columns) else 0, 0] / before)
    return Waterfall(
        pair,
        "e2e",
        "Whole answer (E2E, mean)",
        "s",
        float(before),
        float(after),
        bars,
        True,
        _note(kept, blocks, counted, parts),
        _saw(pair.variant, parts.prefill, share),
    )


def _names(counted: bool) -> tuple[str, ...]:
    tokens = ("tokens of thought", "tokens of the answer") if counted else ("tokens, thought and answer",)
    return (*tokens, "time per token")


def _bars(before: Array, after: Array, counted: bool) -> Array:
    """Contributions, shape (bars, draws), of totals of shape (5 + parts, draws)."""
    (first_0, *tokens_0, t_0), (first_1, *tokens_1, t_1) = (_factors(one, counted) for one in (before, after))
    products = [
        of_product(np.array([n_0, t_0]), np.array([n_1, t_1]))
        for n_0, n_1 in zip(tokens_0, tokens_1, strict=True)
    ]
    by_token: Array = np.sum([of[1] for of in products], axis=0)
    return np.array([*(first_1 - first_0), *(of[0] for of in products), by_token])


def _factors(totals: Array, counted: bool) -> list[Array]:
    """The parts of F and what they leave, shape (parts + 1, draws); the N and t, of (draws,)."""
    requests = totals[_REQUESTS]
    tokens = totals[_THINKING] + totals[_VISIBLE]
    t: Array = np.divide(totals[_AFTER], tokens, out=np.zeros_like(tokens), where=tokens > 0)
    numbers = [totals[_THINKING], totals[_VISIBLE]] if counted else [tokens]
    told = totals[_SUMS:]
    first = np.concatenate([told, (totals[_FIRST] - told.sum(axis=0))[None]]) / requests
    return [first, *(number / requests for number in numbers), t]


def _told(side: Variant, parts: Split) -> Array:
    """What the engine says of the first token by run, seconds a request, shape (runs, parts)."""
    runs = [run.row for run in side.runs if run.requests is not None]
    return np.array([[row[name] for name in parts.columns] for row in runs], np.float64)


def _with_parts(side: _Side, totals: Array, times: Array, told: Array) -> Array:
    """``totals``, shape (5, draws), and below them the seconds of the parts of the first token, of runs drawn
    so many ``times``, shape (draws, runs)."""
    weights = times * side.requests
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, side.requests)
    means = (weights @ told / weights.sum(axis=1, keepdims=True)).T
    return np.concatenate([totals, means * totals[_REQUESTS]])


def _drawn(sides: list[_Side], told: list[Array], blocks: Blocks | None, seed: int) -> list[Array]:
    """Totals of resampled questions, the same on both sides, within resampled runs, or blocks of them; shape
    (5 + parts, draws) each."""
    chosen, generator = first_drawn(seed, sides[0].sums.shape[1])
    found = []
    runs = drawn_runs(generator, [len(side.sums) for side in sides], blocks)
    for side, of, times in zip(sides, told, runs, strict=True):
        totals = np.einsum("dr,rdk->kd", times, np.stack([chosen @ run for run in side.sums]))
        empty = totals[_REQUESTS] == 0
        totals[:, empty] = side.sums.sum(axis=(0, 1))[:, None]
        found.append(_with_parts(side, totals, times, of))
    return found


def _items(side: Variant) -> list[str]:
    return [item for run in side.runs if run.requests is not None for item in run.requests.columns["item_id"]]


def _side(side: Variant, items: list[str]) -> _Side:
    place = {item: index for index, item in enumerate(items)}
    runs = [_sums(run, place) for run in side.runs if run.requests is not None]
    sums = np.stack([one for one, _ in runs]) if runs else np.zeros((1, len(items), 5))
    return _Side(sums, all(counted for _, counted in runs))


def _sums(run: Run, place: dict[str, int]) -> tuple[Array, bool]:
    assert run.requests is not None
    columns, counted = run.requests.columns, True
    sums = np.zeros((len(place), 5))
    wanted = ("item_id", "outcome", "ttft_s", "e2e_s", "output_tokens", "reasoning_tokens")
    for item, outcome, first, e2e, tokens, reasoning in zip(*(columns[one] for one in wanted), strict=True):
        if outcome != "ok" or first is None or e2e is None or not tokens:
            continue
        counted = counted and reasoning is not None
        thinking = max(0, (reasoning or 0) - 1)  # the first token is the thought's where there is one
        sums[place[item]] += (first, e2e - first, thinking, tokens - 1 - thinking, 1)
    return sums, counted


def _note(pair: Pair, blocks: Blocks | None, counted: bool, parts: Split) -> str:
    runs = [
        len([run for run in side.runs if run.requests is not None]) for side in (pair.baseline, pair.variant)
    ]
    told = "" if counted else " The server did not count the tokens of the thought."
    apart = "" if min(runs) > 1 else " One run on a side: the intervals are within these runs."
    why = f" {parts.note}" if parts.note else ""
    return f"Means over all ok requests of {runs_told(runs, blocks)}.{told}{why}{apart}"


def _saw(variant: Variant, what: str, share: float) -> str:
    """Of a cache for prefixes: how much there was to win, ``share`` being that of ``what`` in the time."""
    hit, prompt = variant.mean("cached_token_share"), variant.mean("prompt_length_mean")
    if not hit or prompt is None or "prefix-cache" not in variant.facts["opt"]:
        return ""
    return (
        f"{hit * prompt:,.0f} of {prompt:,.0f} prompt tokens came from the cache, and {what} was "
        f"{100 * share:.2g} % of the time before."
    )
