"""When a measurement does not count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.cache import warm_share
from orchestrator.metrics.engine import (
    counter_delta,
    gpu_starved_share,
    host_taken_share,
    series,
    times_s,
)
from orchestrator.metrics.keeping_up import MIN_OF_ASKED_RATE, behind, per_s
from orchestrator.metrics.latency import send_lag_s_p99
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.requests import cut, reasoning_from
from orchestrator.metrics.stats import ratio
from orchestrator.metrics.steady_state import short
from orchestrator.metrics.throughput import error_rate, retries
from orchestrator.metrics.window import Window
from orchestrator.records import Open, Record, Sample, Schedule, known_finish

Status = Literal["done", "invalid", "failed"]

MAX_ERROR_RATE = 0.01
MAX_RETRIED_SHARE = 0.01
MAX_SEND_LAG_S = 0.005
MAX_SEND_LAG_OF_GAP = 0.1
MAX_RECEIVE_LAG_S, MAX_STANDSTILL_S = 0.005, 0.1
MAX_TOKEN_MISMATCH = 0.001
MAX_OVER_BUDGET = 1  # token: of the end, which some servers count and others do not
# What a simulated cell's times are worth does not depend on these: on a laptop at a multiple of the clock's
# speed the client and the sampler are late, and nobody takes the times for a server's.
_TIMING = frozenset({"client_lag", "client_stalled", "under_rate", "telemetry_missing", "host_busy"})
# Samples come at 4 Hz or faster; a hole is three missed in a row, and 5 % of the window may be holes.
HOLE_S = 1.0
MAX_HOLE_SHARE = 0.05
MAX_STARVED_SHARE = 0.1
UNSOUND_COUNTS = frozenset({"late", "ahead", "per_chunk", "contradictory"})  # of `load.stream.usage`
_WITHOUT_COUNTS = frozenset({"final", "none"})
# What was seen beside an engine on two cores is in docs/metrics.md.
MAX_HOST_TAKEN_SHARE = 0.05

# Two questions may begin alike; an earlier cell's are in the cache from the first block to the last.
MAX_WARM_SHARE = 0.2

INVALIDATING_FLAGS = {
    "errors": "over 1 % of the requests failed",
    "client_lag": "the load generator sent late (p99 above 5 ms or 10 % of the mean gap)",
    "client_stalled": "the load generator read late (p99 above 5 ms) or stood still for over 0.1 s",
    "answers_mixed": "the server sent bytes that nobody asked for on connections that had served several "
    "requests: which answer is which request's is not known",
    "under_rate": "sent at below 95 % of the asked rate though the server kept up",
    "engine_restarted": "the engine restarted",
    "cache_warm": "the prefix cache was not empty at the start",
    "gpu_shared": "another process used the GPU",
    "host_busy": "others took over 5 % of the CPU time that the engine needed",
    "length_missed": "answers are not as long as they were made to be",
    "over_budget": "answers are longer than max_tokens: the server does not hold to it",
    "budget_not_enforced": "somebody thought longer than thinking_budget: the server does not hold to it",
    "token_mismatch": "the client and the server counted different numbers of tokens",
    "telemetry_missing": "the engine's counters were not sampled throughout",
}
# What a reader of the numbers has to know, though they hold.
NOTES = {
    "behind": "more requests arrived than the server answered, and ever more were waiting: the latencies are "
    "those of a queue that grew, and would be longer after a longer run",
    "behind_unknown": "too short to tell whether the server keeps up: the requests in flight wandered as "
    "far as those of a server with nothing to spare do, or there were fewer than 20",
    "short": "too short for a steady rate: below 20 requests, below 4 for each in flight at a time, or "
    "answers take over a third of the load: rates are largely those of its beginning and its end",
    "counts_unsound": "the server's token counts contradict its text: times are the text's, without ITL; "
    "rates of tokens are blank where an answer's total is below what its text holds at least",
    "counts_absent": "the server sent no count of an answer's tokens: tokens/s, TPOT and ITL are blank",
    "reasoning_uncounted": "the server's count of an answer's reasoning tokens is missing, or above its "
    "output tokens: the share of thinking is blank",
    "reasoning_absent": "a reasoning model showed no reasoning, neither in a field of its own nor between "
    "tags: all its text counts as the answer (model.think_tags names other tags)",
    "gpu_starved": "the GPU idled while a process of the engine had a whole CPU: that process is the limit",
    "gpu_share_unknown": "NVML could not tell whether another process used the GPU",
    "finish_unknown": "answers ended with a finish_reason that says neither that they are whole nor that "
    "they were cut off: they count as whole",
    "retried": "over 1 % of the requests were sent again: the server closed their connection as they came",
    "unasked": "the server sent bytes that nobody asked for behind an answer: those connections were closed",
    "cache_unknown": "the external server's cache could not be reset",
    "telemetry_absent": "the external server has no counters, or they had holes",
}


def flags(measurement: Measurement) -> tuple[str, ...]:
    """Names of all that is wrong, of `INVALIDATING_FLAGS`, and of what has to be told, of `NOTES`."""
    records, samples, conditions = measurement.records, measurement.samples, measurement.conditions
    window, external = measurement.window, conditions.external
    cache_reset, complete = conditions.cache_reset, _telemetry_complete(measurement)
    unknown = cache_reset is None and external
    raised = {
        "errors": (error_rate(records) or 0.0) > MAX_ERROR_RATE,
        "client_lag": _client_lags(records, conditions.schedule),
        "client_stalled": _client_stalled(conditions),
        "answers_mixed": bool(conditions.mixed_connections),
        "unasked": bool(conditions.unasked_connections),
        "under_rate": _under_rate(measurement),
        "engine_restarted": conditions.engine_restarted,
        "cache_warm": not cache_reset and (not unknown or (warm_share(measurement) or 0.0) > MAX_WARM_SHARE),
        "gpu_shared": conditions.gpu_shared is True,
        "host_busy": (host_taken_share(samples, window) or 0.0) > MAX_HOST_TAKEN_SHARE,
        "length_missed": _length_missed(records, conditions.asked_tokens or {}),
        "over_budget": _over_budget(measurement),
        "budget_not_enforced": _budget_not_enforced(measurement),
        "token_mismatch": tokens_mismatch(records, samples, window),
        "telemetry_missing": not complete and not external,
        "behind": behind(measurement) is True,
        "gpu_share_unknown": conditions.gpu_watched and conditions.gpu_shared is None,
        "cache_unknown": unknown,
        "finish_unknown": any(not known_finish(record.finish_reason) for record in measurement.ok),
        "retried": (ratio(retries(records), len(records)) or 0.0) > MAX_RETRIED_SHARE,
        "telemetry_absent": not complete and external,
        "counts_unsound": any(record.usage_mode in UNSOUND_COUNTS for record in records),
        "counts_absent": any(
            r.output_tokens is None and r.usage_mode in _WITHOUT_COUNTS for r in measurement.ok
        ),
        "reasoning_uncounted": any(
            r.reasoning_tokens is None and r.output_tokens is not None for r in measurement.ok
        ),
        "reasoning_absent": conditions.reasons
        and conditions.thinking_budget != 0
        and conditions.asked_tokens is None
        and reasoning_from(measurement.ok) == "none",
        "gpu_starved": (gpu_starved_share(samples, window) or 0.0) > MAX_STARVED_SHARE,
    }
    return tuple(name for name, holds in raised.items() if holds)


def too_short(measurement: Measurement) -> tuple[str, ...]:
    """Names, of `NOTES`, of what a longer load would have told."""
    raised = {"behind_unknown": behind(measurement) is None, "short": short(measurement)}
    return tuple(name for name, holds in raised.items() if holds)


def status(
    raised: Sequence[str], records: Sequence[Record], simulated: bool = False
) -> tuple[Status, str | None]:
    """The cell's status and the reason in words: failed when no request is ok and none was answering when the
    window cut it, invalid when a flag of `INVALIDATING_FLAGS` is raised, else done, without a reason. Flags
    about timing do not invalidate a simulated cell."""
    if not any(r.outcome == "ok" or (cut(r) and r.first_token_s is not None) for r in records):
        return "failed", _nothing_ok(records)
    counting = INVALIDATING_FLAGS.keys() - (_TIMING if simulated else frozenset())
    reasons = [
        INVALIDATING_FLAGS[flag]
        + (f" ({often})" if flag == "errors" and (often := _most_often(records)) else "")
        for flag in raised
        if flag in counting
    ]
    return ("invalid", "; ".join(reasons)) if reasons else ("done", None)


def tokens_mismatch(records: Sequence[Record], samples: Sequence[Sample], window: Window | None) -> bool:
    """Whether the client's output tokens and the growth of the server's counter differ by over 0.1 %.

    After a request that is not ok the server may have generated more than it sent, so then only a counter
    below the client's count is a mismatch. False when either count is unknown: that is another flag's matter.
    """
    served = counter_delta(samples, "generation_tokens_total", window)
    if served is None or any(r.outcome == "ok" and r.output_tokens is None for r in records):
        return False
    received = sum(record.output_tokens or 0 for record in records)
    all_ok = all(record.outcome == "ok" for record in records)
    difference = abs(served - received) if all_ok else received - served
    return difference > MAX_TOKEN_MISMATCH * received


def _length_missed(records: Sequence[Record], asked: Mapping[str, int]) -> bool:
    """Whether an answer that ended well has another number of tokens than was asked for. An answer without a
    count is another flag's matter."""
    return any(
        record.output_tokens != asked.get(record.request_id, record.output_tokens)
        for record in records
        if record.outcome == "ok" and record.output_tokens is not None
    )


def _over_budget(measurement: Measurement) -> bool:
    """Whether an answer has more tokens than were allowed, by a count that its text does not contradict. What
    was made to have a length is `_length_missed`'s matter."""
    most, made = measurement.conditions.max_tokens, measurement.conditions.asked_tokens
    return (
        most is not None
        and made is None
        and any(
            (record.output_tokens or 0) > most + MAX_OVER_BUDGET and record.usage_mode not in UNSOUND_COUNTS
            for record in measurement.records
        )
    )


def _budget_not_enforced(measurement: Measurement) -> bool:
    """Whether an answer has more tokens of reasoning than the budget and one step's more."""
    budget, step = measurement.conditions.thinking_budget, measurement.conditions.step_tokens
    return budget is not None and any(
        (record.reasoning_tokens or 0) > budget + step for record in measurement.records
    )


def _client_lags(records: Sequence[Record], schedule: Schedule) -> bool:
    """Send lag p99 above 5 ms, or on an open load above 10 % of the mean gap of the schedule. (Batch and
    closed loads are scheduled by the server's own answers and have no gap to hold.)"""
    lag_s = send_lag_s_p99(records)
    if lag_s is None:
        return False
    limit_s = MAX_SEND_LAG_S
    if isinstance(schedule, Open) and (rate := per_s([r.scheduled_s for r in _sent(records)])):
        limit_s = min(limit_s, MAX_SEND_LAG_OF_GAP / rate)
    return lag_s > limit_s


def _client_stalled(conditions: RunConditions) -> bool:
    """Whether what arrived lay unread for so long that reads hold what came at different times, of which the
    kernel's stamp is the last one's."""
    return (conditions.receive_lag_s_p99 or 0.0) > MAX_RECEIVE_LAG_S or (
        conditions.receive_lag_s_max or 0.0
    ) > MAX_STANDSTILL_S


def _under_rate(measurement: Measurement) -> bool:
    """On an open load: sent at below 95 % of the schedule's rate while the engine kept nothing waiting.

    The schedule's own rate, not the nominal one: N arrivals drawn at rate R do not take exactly N / R.
    """
    if not isinstance(measurement.conditions.schedule, Open):
        return False
    sent = _sent(measurement.records)
    asked = per_s([record.scheduled_s for record in sent])
    achieved = per_s([record.sent_s for record in sent if record.sent_s is not None])
    if asked is None or achieved is None or achieved >= MIN_OF_ASKED_RATE * asked:
        return False
    _, waiting = series(measurement.samples, "waiting")
    return not len(waiting) or float(np.mean(waiting > 0)) <= 0.5


def _sent(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.sent_s is not None]


def _telemetry_complete(measurement: Measurement) -> bool:
    """Whether each expected field was sampled on both sides of the window and all through it."""
    window = measurement.window
    if window is None:
        return True
    expected = measurement.conditions.expected
    holes = [_hole_share(times_s(measurement.samples, field), window) for field in expected]
    return bool(holes) and max(holes) <= MAX_HOLE_SHARE


def _hole_share(times_s: NDArray[np.float64], window: Window) -> float:
    """Share of the window that lies in holes between samples longer than 1 s; 1 if not bracketed."""
    if not len(times_s) or times_s[0] > window.start_s or times_s[-1] < window.end_s:
        return 1.0
    gaps = np.diff(np.clip(times_s, window.start_s, window.end_s))
    return float(gaps[gaps > HOLE_S].sum()) / window.duration_s


def _nothing_ok(records: Sequence[Record]) -> str:
    if not records:
        return "no request was made"
    outcomes = ", ".join(f"{n} {name}" for name, n in Counter(r.outcome for r in records).most_common())
    often = _most_often(records)
    return f"none of {len(records)} requests succeeded: {outcomes}{often and f'; {often}'}"


def _most_often(records: Sequence[Record]) -> str:
    """What requests failed with; empty where nobody knows."""
    wrong = [record for record in records if record.outcome != "ok" and not cut(record)]
    causes = Counter(r.error or f"HTTP {r.http_status}" for r in wrong if r.error or r.http_status)
    return f"most often: {causes.most_common(1)[0][0]}" if causes else ""
