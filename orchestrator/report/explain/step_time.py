"""Why a decode step takes longer or shorter: what it reads, and all else.

With c the seconds that a GPU takes to read a byte, the time of a step is

    s = c · weights + c · KV cache + c · draft model + rest

on both sides with the baseline's c, so that the bars of what is read are what its bytes alone would change.
How well the kernels of the other side do with them, and compute, mixed prefill, communication and the host's
gaps, which no counter tells apart, are in the rest, which is what was measured less the others.

One cell does not tell c from its rest. `REACHED` of the datasheet's bandwidth is taken, unless that makes
more than the baseline's whole step; where no datasheet is known, all of its step is reading. The intervals
span what kernels may reach, from `LEAST` to all of it, and the spread of the runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.report.explain.in_blocks import Blocks, in_blocks, runs_told
from orchestrator.report.explain.lmdi import Array, of_product
from orchestrator.report.explain.reads import Reads, bandwidth, reads
from orchestrator.report.explain.resampled import drawn_runs, interval
from orchestrator.report.explain.throughput import log_step_s
from orchestrator.report.explain.waterfall import Bar, Waterfall
from orchestrator.report.pairs import Pair
from orchestrator.report.variants import Run, Variant

REACHED = 0.8  # of the datasheet's bandwidth: AIConfigurator's `mem_bw_empirical_scaling_factor`
LEAST = 0.6  # as far below it as all of the bandwidth is above
_LOG_S, _WEIGHTS, _KV_TOKENS, _KV_TOKEN, _DRAFT = range(5)
_MS, _GB = 1e3, 1e9
WEIGHTS, KV_TOKEN, KV_TOKENS = "bytes of the weights", "KV bytes of a token", "tokens in the batch (KV cache)"
DRAFT, REST = "bytes of the draft model", "all else (kernels, compute, prefill, host)"


@dataclass(frozen=True, eq=False)
class _Side:
    """By run, shape (runs, 5): the logarithm of the step's seconds, and `Reads`, without a draft that is not
    known (``drafted`` False)."""

    values: Array
    drafted: bool


def step_time(pair: Pair, seed: int = 0) -> Waterfall | None:
    """None where a run of either side lacks its step's time or what a step reads, where the sides ran on
    other GPUs, and where the baseline read faster than its datasheet allows: then it does not read that."""
    kept, blocks = in_blocks(pair)
    found = [_side(side) for side in (kept.baseline, kept.variant)]
    before, after = found
    if before is None or after is None or _gpu(pair.baseline) != _gpu(pair.variant):
        return None
    drafted, nominal = before.drafted and after.drafted, bandwidth(pair.baseline.row)
    means = [_mean(side, np.ones((1, len(side.values))), drafted) for side in (before, after)]
    whole = _whole_s(means[0])
    if nominal is not None and whole[0] * nominal < 1:
        return None
    cost = whole if nominal is None else np.minimum(1 / (REACHED * nominal), whole)
    values = _bars(means[0], means[1], cost)[:, 0]
    low, high = _interval((before, after), blocks, values, drafted, nominal, seed)
    runs = [len(side.values) for side in (before, after)]
    bars = tuple(
        Bar(name, _MS * float(value), _MS * float(least), _MS * float(most))
        if min(runs) > 1
        else Bar(name, _MS * float(value))
        for name, value, least, most in zip(_names(pair, drafted), values, low, high, strict=True)
        if name != DRAFT or means[0][_DRAFT, 0] or means[1][_DRAFT, 0]
    )
    seconds = [float(np.exp(one[_LOG_S, 0])) for one in means]
    return Waterfall(
        pair,
        "step",
        "Time of a step",
        "ms",
        _MS * seconds[0],
        _MS * seconds[1],
        bars,
        True,
        f"Geometric means over {runs_told(runs, blocks)}. {_note(whole[0], nominal)}",
        _saw(means, float(values[:-1].sum()), seconds[1] - seconds[0], " on each GPU" * _several(pair)),
    )


def _side(variant: Variant) -> _Side | None:
    runs = [_of_run(run) for run in variant.runs]
    known = [run for run in runs if run is not None]
    if len(known) < len(runs):
        return None
    return _Side(
        np.array(
            [[log_s, one.weights, one.kv_tokens, one.kv_token, one.draft or 0.0] for log_s, one in known]
        ),
        all(one.draft is not None for _, one in known),
    )


def _of_run(run: Run) -> tuple[float, Reads] | None:
    log_s, read = log_step_s(run.row), reads(run.row)
    return None if log_s is None or read is None else (log_s, read)


def _gpu(variant: Variant) -> tuple[object, object]:
    return variant.row.get("gpu_type"), bandwidth(variant.row)


def _mean(side: _Side, times: Array, drafted: bool) -> Array:
    """Of runs that are there so many ``times``, shape (draws, runs): the columns' means, shape (5, draws)."""
    found: Array = (times @ side.values / times.sum(axis=1, keepdims=True)).T
    if not drafted:
        found[_DRAFT] = 0.0
    return found


def _read(mean: Array) -> Array:
    """Bytes of a step."""
    found: Array = mean[_WEIGHTS] + mean[_KV_TOKENS] * mean[_KV_TOKEN] + mean[_DRAFT]
    return found


def _whole_s(mean: Array) -> Array:
    """Seconds of a byte if the step did nothing but read."""
    found: Array = np.exp(mean[_LOG_S]) / _read(mean)
    return found


def _bars(before: Array, after: Array, cost: Array) -> Array:
    """Contributions in seconds, shape (bars, draws); the last is what the others leave."""
    tokens, token = of_product(
        before[[_KV_TOKENS, _KV_TOKEN]],
        after[[_KV_TOKENS, _KV_TOKEN]],
    )
    read = cost * np.array(
        [after[_WEIGHTS] - before[_WEIGHTS], token, tokens, after[_DRAFT] - before[_DRAFT]]
    )
    change = np.exp(after[_LOG_S]) - np.exp(before[_LOG_S])
    return np.concatenate([read, (change - read.sum(axis=0))[None]])


def _interval(
    sides: tuple[_Side, _Side],
    blocks: Blocks | None,
    values: Array,
    drafted: bool,
    nominal: float | None,
    seed: int,
) -> tuple[Array, Array]:
    """Of runs, or blocks of them, drawn again, in each draw with a cost of a byte from its range."""
    generator = np.random.default_rng(seed)
    runs = [len(side.values) for side in sides]
    drawn = drawn_runs(generator, runs, blocks)
    before, after = (_mean(side, times, drafted) for side, times in zip(sides, drawn, strict=True))
    most = least = _whole_s(before)
    if nominal is not None:
        most, least = np.minimum(1 / (LEAST * nominal), most), np.minimum(1 / nominal, most)
    cost = least + generator.random(len(most)) * (most - least)
    return interval(values, _bars(before, after, cost), runs, blocks)


def _names(pair: Pair, drafted: bool) -> tuple[str, ...]:
    """``REST`` with what else is in it here."""
    more = [*(["communication"] if _several(pair) else []), *([] if drafted else ["draft model"])]
    return WEIGHTS, KV_TOKEN, KV_TOKENS, DRAFT, f"{', '.join([REST.rstrip(')'), *more])})"


def _several(pair: Pair) -> bool:
    """Whether a side is spread over GPUs."""
    return any((side.row.get("tensor_parallel_size") or 1) > 1 for side in (pair.baseline, pair.variant))


def _note(whole: float, nominal: float | None) -> str:
    """How fast a byte is taken to be read."""
    if nominal is None:
        return (
            "No datasheet's bandwidth is known: all of the baseline's step counts as reading "
            f"({1 / whole / _GB:.3g} GB/s), so that the bars of bytes are the most that they can be."
        )
    reached = 100 / (whole * nominal)
    if reached >= 100 * REACHED:
        return (
            f"All of the baseline's step counts as reading, at {reached:.0f} % of the datasheet's bandwidth."
        )
    return (
        f"A byte is read at {100 * REACHED:.0f} % of the datasheet's bandwidth, in the intervals at "
        f"{max(100 * LEAST, reached):.0f} to 100 %; the baseline's whole step is {reached:.0f} %."
    )


def _saw(means: list[Array], read_s: float, change_s: float, where: str) -> str:
    """Bytes before and after, and what they explain of the change."""
    weights = [float(one[_WEIGHTS, 0]) / _GB for one in means]
    cache = [float(one[_KV_TOKENS, 0] * one[_KV_TOKEN, 0]) / _GB for one in means]
    said = (
        f"A step reads {weights[1]:.3g} GB of weights and {cache[1]:.2g} GB of KV cache{where}, "
        f"for {weights[0]:.3g} and {cache[0]:.2g} before"
    )
    share = read_s / change_s if change_s else 0.0
    if 0 < share <= 1:
        return f"{said}: that explains {100 * share:.0f} % of the change."
    if not read_s:
        return f"{said}."
    how = "longer" if read_s > 0 else "shorter"
    return f"{said}, which by itself would make it {_MS * abs(read_s):.3g} ms {how}."
