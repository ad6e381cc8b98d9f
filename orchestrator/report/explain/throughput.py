"""Why there are more or fewer output tokens a second: requests in flight, how many of them run, tokens a
step, and the time of a step.

X / GPUs = (in flight / GPUs) · (running / in flight) · a / s, where a is the tokens of a sequence and step (1
without speculation) and s = running · a / X: the time of a step as it follows from what ran. Of several runs
all are geometric means, so that the logarithms add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.significance import between_blocks, between_runs
from orchestrator.report.explain.in_blocks import in_blocks, runs_told
from orchestrator.report.explain.lmdi import log_mean
from orchestrator.report.explain.waterfall import Bar, Waterfall
from orchestrator.report.pairs import Pair
from orchestrator.report.variants import Row, Variant

_IN_FLIGHT = "requests in flight"
_RUNNING = "of them running"
_PER_STEP = "tokens a step"
_STEP = "time of a step"
_ANY_STEP = "time per token and request"
LITTLE = 0.05


def throughput(pair: Pair) -> Waterfall | None:
    """None where a run of either side lacks its rate or what was in flight."""
    kept, blocks = in_blocks(pair)
    sides = [[_logs(run.row) for run in side.runs] for side in (kept.baseline, kept.variant)]
    if not all(logs for side in sides for logs in side):
        return None
    names = [name for name in sides[0][0] if all(name in logs for side in sides for logs in side)]
    factors = [name for name in (_IN_FLIGHT, _RUNNING, _PER_STEP) if name in names]
    if blocks is not None:
        sides = [_by_block(side, names, of) for side, of in zip(sides, blocks, strict=True)]
    before, after = (math.exp(_mean(side, "rate")) for side in sides)
    scale = float(log_mean(np.array(after), np.array(before)))
    bars = [
        *(
            _bar(name, [[logs[name] for logs in side] for side in sides], scale, blocks is not None)
            for name in factors
        ),
        _bar(
            _STEP if _PER_STEP in factors else _ANY_STEP,
            [[logs["rate"] - sum(logs[name] for name in factors) for logs in side] for side in sides],
            scale,
            blocks is not None,
        ),
    ]
    return Waterfall(
        pair,
        "throughput",
        "Throughput per GPU" if pair.variant.row.get("gpus") else "Throughput",
        "tokens/s",
        before,
        after,
        tuple(bars),
        False,
        _note(runs_told([len(side.runs) for side in (kept.baseline, kept.variant)], blocks), factors),
        littles_law(pair.variant) or littles_law(pair.baseline),
    )


def _logs(row: Row) -> dict[str, float]:
    """Of one run: the logarithms of its rate and of the factors that are known; empty without the rate or
    what was in flight."""
    rate, flying, running = (
        row.get(name) for name in ("output_token_per_s", "in_flight_mean", "running_mean")
    )
    if not rate or not flying:
        return {}
    gpus = row.get("gpus") or 1
    found = {"rate": math.log(rate / gpus), _IN_FLIGHT: math.log(flying / gpus)}
    if running:
        found[_RUNNING] = math.log(running / flying)
        per_step = row.get("spec_tokens_per_step")
        if per_step or not any(opt.startswith("spec-") for opt in row.get("opt") or ()):
            found[_PER_STEP] = math.log(per_step or 1.0)
    return found


def log_step_s(row: Row) -> float | None:
    """The logarithm of a step's seconds as it follows from what ran; None where that, or the tokens of a
    step, are not known."""
    logs = _logs(row)
    if _PER_STEP not in logs:
        return None
    return logs[_IN_FLIGHT] + logs[_RUNNING] + logs[_PER_STEP] - logs["rate"]


def _mean(side: Sequence[dict[str, float]], name: str) -> float:
    return math.fsum(logs[name] for logs in side) / len(side)


def _by_block(
    runs: Sequence[dict[str, float]], names: Sequence[str], blocks: NDArray[np.int64]
) -> list[dict[str, float]]:
    """The means of each block's runs."""
    of_blocks = [
        [runs[i] for i in np.flatnonzero(blocks == block).tolist()] for block in range(blocks.max() + 1)
    ]
    return [{name: _mean(of, name) for name in names} for of in of_blocks]


def _bar(name: str, logs: Sequence[Sequence[float]], scale: float, paired: bool) -> Bar:
    """``scale`` · the difference of the mean logarithms, with the interval of the runs, or of the blocks."""
    value = math.fsum(logs[1]) / len(logs[1]) - math.fsum(logs[0]) / len(logs[0])
    same = all(one == logs[0][0] for side in logs for one in side)
    if same or min(map(len, logs)) < 2:
        return Bar(name, scale * value)
    found = between_blocks(logs[0], logs[1]) if paired else between_runs(logs[0], logs[1])
    if found is None:
        return Bar(name, scale * value)
    return Bar(name, scale * value, scale * found[0].low, scale * found[0].high)


def _note(runs: str, factors: Sequence[str]) -> str:
    if _RUNNING not in factors:
        told = "The engine did not tell how many requests ran, so that waiting is part of the last bar."
    elif _PER_STEP not in factors:
        told = "The engine did not tell how many tokens a step gave, so that they are part of the last bar."
    else:
        told = "The time of a step follows from what ran (the engine's own gauge) and the rate."
    return f"Geometric means over {runs}. {told}"


def littles_law(variant: Variant) -> str:
    """What is in flight has to be the rate of the requests times their time; said where it is not, of windows
    that cut no request off."""
    flying, rate, time_s = (variant.mean(name) for name in ("in_flight_mean", "request_per_s", "e2e_s_mean"))
    if flying is None or rate is None or not time_s or variant.mean("requests_cut"):
        return ""
    follows = rate * time_s
    if abs(follows - flying) <= LITTLE * flying:
        return ""
    return (
        f"Little's law does not hold ({flying:.3g} in flight, {follows:.3g} by rate and time): requests "
        "failed, or began and ended outside the window."
    )
