"""Latency statistics of a cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics import requests
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.stats import describe, describe_all, mean, present
from orchestrator.records import Record


@dataclass(frozen=True, slots=True)
class Quantity:
    """``of`` gives a request's value, ``bound`` the least that it can still become for a request that was cut
    by the end of the window; None where the value is what ``of`` says (or there is none)."""

    of: Callable[[Record], float | None]
    bound: Callable[[Record], float | None]


def _decided(record: Record) -> None:
    """A time per token is a mean over the tokens that came: it neither grows nor shrinks with waiting, so a
    request that was cut has the value of its tokens until then."""


def _without_token(record: Record) -> float | None:
    return None if record.first_token_s is not None else requests.lasted_s(record)


def _without_text(record: Record) -> float | None:
    return None if record.first_visible_s is not None else requests.lasted_s(record)


def _thinking(record: Record) -> float | None:
    if record.first_visible_s is not None or record.first_token_s is None:
        return None
    return record.end_s - record.first_token_s


PER_REQUEST = {
    "ttft_s": Quantity(requests.ttft_s, _without_token),
    "ttfvt_s": Quantity(requests.ttfvt_s, _without_text),
    "tpot_s": Quantity(requests.tpot_s, _decided),
    "e2e_s": Quantity(requests.e2e_s, requests.lasted_s),
}
PER_PHASE = {
    "thinking_s": Quantity(requests.thinking_s, _thinking),
    "tpot_thinking_s": Quantity(requests.tpot_thinking_s, _decided),
    "tpot_visible_s": Quantity(requests.tpot_visible_s, _decided),
}
LENGTHS = {
    "prompt_length": Quantity(lambda record: record.prompt_tokens, _decided),
    "output_length": Quantity(lambda record: record.output_tokens, lambda record: record.output_tokens),
}


def latencies(measurement: Measurement) -> dict[str, float | None]:
    """Statistics over the requests that are ok, seconds; those cut by the end of the window are in them as
    censored at their cut (`stats.describe`), since to leave them out would leave the short answers alone.

    ``itl_s`` and ``chunk_gap_s`` pool all tokens or chunks of all these requests, so long answers weigh more.
    The ``_all`` percentiles count every attempted request that is neither as infinitely late, so that a
    server cannot look faster by failing. ``ttfvt_censored_share`` is the share of the ok requests that
    never showed a visible token. ``send_lag_s_p99`` is over everything that was sent. ``prompt_length_*`` and
    ``output_length_*`` are tokens of a request, ``token_per_s_per_user_*`` its output tokens per second.
    """
    records = measurement.records
    ended = [*measurement.ok, *measurement.cut]
    failures = sum(requests.attempted(record) for record in records) - len(ended)
    result: dict[str, float | None] = {}
    for name, quantity in (PER_REQUEST | PER_PHASE | LENGTHS).items():
        seen, bounds = _split(quantity, measurement)
        result |= describe(name, seen, bounds)
        if name in PER_REQUEST:
            result |= describe_all(name, seen, failures, bounds)
    result |= describe("itl_s", _pool([requests.itl_s(record) for record in ended]))
    result |= describe("chunk_gap_s", _pool([requests.chunk_gaps_s(record) for record in ended]))
    rates = present(requests.token_per_s(record) for record in ended)
    result["token_per_s_per_user_mean"] = mean(rates)
    result["token_per_s_per_user_p50"] = float(np.median(rates)) if rates else None
    result["ttfvt_censored_share"] = mean(
        present(requests.ttfvt_censored(record) for record in measurement.ok)
    )
    result["send_lag_s_p99"] = send_lag_s_p99(records)
    return result


def send_lag_s_p99(records: Sequence[Record]) -> float | None:
    """99th percentile of sent − scheduled over everything that was sent. However few that is: it is there to
    raise an alarm, not to estimate a tail."""
    lags = present(requests.send_lag_s(record) for record in records)
    return float(np.percentile(lags, 99)) if lags else None


def _split(quantity: Quantity, measurement: Measurement) -> tuple[list[float], list[float]]:
    """The values that are known, and the bounds of those that are not."""
    bounded = [(record, quantity.bound(record)) for record in measurement.cut]
    known = [*measurement.ok, *(record for record, bound in bounded if bound is None)]
    return present(quantity.of(record) for record in known), present(bound for _, bound in bounded)


def _pool(arrays: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """All values as one array; empty when one request lacks them, since the rest would be a biased part."""
    known = [array for array in arrays if array is not None]
    return np.concatenate(known) if known and len(known) == len(arrays) else np.empty(0)
