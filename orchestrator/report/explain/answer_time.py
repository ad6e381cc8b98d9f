"""Why an answer takes longer or shorter: its first token, how many tokens follow, and how long each takes.

Of all ok requests of a side, with F its mean TTFT, N the mean number of tokens after the first (those of the
thought, and the others) and t the time between tokens, over all tokens: the mean of (E2E − TTFT) is N · t, so
that mean E2E = F + N_thinking · t + N_visible · t holds exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.metrics.runs import t_quantile
from orchestrator.metrics.stats import Z
from orchestrator.report.explain.lmdi import Array, of_product
from orchestrator.report.explain.waterfall import Bar, Waterfall
from orchestrator.report.pairs import Pair
from orchestrator.report.variants import Run, Variant

DRAWS = 500
_FIRST, _AFTER, _THINKING, _VISIBLE, _REQUESTS = range(5)


@dataclass(frozen=True, eq=False)
class _Side:
    """Sums over the ok requests by run and item, shape (runs, items, 5), and whether thoughts are counted."""

    sums: Array
    counted: bool


def answer_time(pair: Pair, seed: int = 0) -> Waterfall | None:
    """None where a side has no request with all its numbers, or no answer of more than one token."""
    items = sorted({item for side in (pair.baseline, pair.variant) for item in _items(side)})
    sides = [_side(side, items) for side in (pair.baseline, pair.variant)]
    if not items or any(side.sums[..., _REQUESTS].sum() == 0 for side in sides):
        return None
    counted = all(side.counted for side in sides)
    totals = [side.sums.sum(axis=(0, 1))[:, None] for side in sides]
    values = _bars(totals[0], totals[1], counted)
    drawn = _drawn(sides, seed)
    draws = _bars(drawn[0], drawn[1], counted)
    ends = np.quantile(draws, [0.025, 0.975], axis=1)
    low, high = values[:, 0] + _stretch([len(side.sums) for side in sides]) * (ends - values[:, 0])
    bars = tuple(
        Bar(name, float(value), float(least), float(most))
        for name, value, least, most in zip(_names(counted), values[:, 0], low, high, strict=True)
    )
    before, after = (float(total[_FIRST, 0] + total[_AFTER, 0]) / total[_REQUESTS, 0] for total in totals)
    first = float(totals[0][_FIRST, 0] / totals[0][_REQUESTS, 0]) / float(before)
    return Waterfall(
        pair,
        "e2e",
        "Whole answer (E2E, mean)",
        "s",
        float(before),
        float(after),
        bars,
        True,
        _note(pair, counted),
        _saw(pair.variant, first),
    )


def _stretch(runs: list[int]) -> float:
    """By how much a bootstrap over so few runs is too narrow (Hesterberg 2015): it leaves out one in n of
    their variance and takes no heed of Student's t. 1 with one run on a side, whose interval is within it."""
    fewest = min(runs)
    if fewest < 2:
        return 1.0
    return float(np.sqrt(fewest / (fewest - 1))) * t_quantile(sum(runs) - 2) / Z


def _names(counted: bool) -> tuple[str, ...]:
    tokens = ("tokens of thought", "tokens of the answer") if counted else ("tokens, thought and answer",)
    return ("first token (queue and prefill)", *tokens, "time per token")


def _bars(before: Array, after: Array, counted: bool) -> Array:
    """Contributions, shape (bars, draws), of totals of shape (5, draws)."""
    (first_0, *tokens_0, t_0), (first_1, *tokens_1, t_1) = (_factors(one, counted) for one in (before, after))
    parts = [
        of_product(np.array([n_0, t_0]), np.array([n_1, t_1]))
        for n_0, n_1 in zip(tokens_0, tokens_1, strict=True)
    ]
    by_token: Array = np.sum([part[1] for part in parts], axis=0)
    return np.array([first_1 - first_0, *(part[0] for part in parts), by_token])


def _factors(totals: Array, counted: bool) -> list[Array]:
    """F, the N and t."""
    requests = totals[_REQUESTS]
    tokens = totals[_THINKING] + totals[_VISIBLE]
    t: Array = np.divide(totals[_AFTER], tokens, out=np.zeros_like(tokens), where=tokens > 0)
    numbers = [totals[_THINKING], totals[_VISIBLE]] if counted else [tokens]
    return [totals[_FIRST] / requests, *(number / requests for number in numbers), t]


def _drawn(sides: list[_Side], seed: int) -> list[Array]:
    """Totals of resampled questions, the same on both sides, within resampled runs; shape (5, draws) each."""
    generator = np.random.default_rng(seed)
    items = sides[0].sums.shape[1]
    chosen = generator.multinomial(items, np.full(items, 1 / items), DRAWS).astype(np.float64)
    found = []
    for side in sides:
        runs = len(side.sums)
        times = generator.multinomial(runs, np.full(runs, 1 / runs), DRAWS).astype(np.float64)
        totals = np.einsum("dr,rdk->kd", times, np.stack([chosen @ run for run in side.sums]))
        empty = totals[_REQUESTS] == 0
        totals[:, empty] = side.sums.sum(axis=(0, 1))[:, None]
        found.append(totals)
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


def _note(pair: Pair, counted: bool) -> str:
    runs = [
        len([run for run in side.runs if run.requests is not None]) for side in (pair.baseline, pair.variant)
    ]
    told = "" if counted else " The server did not count the tokens of the thought."
    apart = "" if min(runs) > 1 else " One run on a side: the intervals are within these runs."
    return f"Means over all ok requests of {runs[0]} and {runs[1]} runs.{told}{apart}"


def _saw(variant: Variant, first: float) -> str:
    """Of a cache for prefixes: how much there was to win, ``first`` being the first token's share."""
    hit, prompt = variant.mean("cached_token_share"), variant.mean("prompt_length_mean")
    if not hit or prompt is None or "prefix-cache" not in variant.facts["opt"]:
        return ""
    return (
        f"{hit * prompt:,.0f} of {prompt:,.0f} prompt tokens came from the cache, and the first token was "
        f"{100 * first:.2g} % of the time before."
    )
