"""Counts and rates of a cell over its window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.requests import failed, truncated
from orchestrator.metrics.stats import ratio, total
from orchestrator.metrics.window import Window, in_flight
from orchestrator.records import Record

PEAK_S = 1.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens; each None where a request lacks its count, since the rest would undercount."""

    prompt: int | None
    output: int | None
    reasoning: int | None
    cached: int | None


def error_rate(records: Sequence[Record]) -> float | None:
    """(errors + timeouts) / requests that came to an end. What the client itself cancelled is in neither."""
    ended = [record.outcome for record in records if record.outcome != "cancelled"]
    return ratio(sum(outcome != "ok" for outcome in ended), len(ended))


def retries(records: Sequence[Record]) -> int | None:
    """Requests that were sent again, each once at most; None where what is stored does not say."""
    known = [record.retries for record in records if record.retries is not None]
    return sum(known) if len(known) == len(records) else None


def counts(measurement: Measurement) -> dict[str, float | int | None]:
    """Numbers and shares of requests and of tokens; tokens are those of `window_tokens`.

    requests_total = requests_ok + requests_failed (errors and timeouts) + requests_cut (by the end of the
    window) + requests_cancelled (what else the client cancelled or never sent). truncated_rate = ok requests
    cut off by the token budget / ok requests, truncated_thinking_rate those of them that had shown nothing
    yet; thinking_token_share = reasoning tokens / output tokens; cached_token_share = prompt tokens the
    server reported as cached / prompt tokens.
    """
    records, ok, cut = measurement.records, measurement.ok, measurement.cut
    tokens = window_tokens(measurement)
    cancelled = sum(record.outcome == "cancelled" for record in records)
    return {
        "requests_total": len(records),
        "requests_ok": len(ok),
        "requests_failed": sum(failed(record) for record in records),
        "requests_cut": len(cut),
        "requests_cancelled": cancelled - len(cut),
        "error_rate": error_rate(records),
        "cancelled_rate": ratio(cancelled, len(records)),
        "truncated_rate": ratio(sum(truncated(record) for record in ok), len(ok)),
        "truncated_thinking_rate": ratio(
            sum(truncated(record) and record.first_visible_s is None for record in ok), len(ok)
        ),
        "prompt_tokens": tokens.prompt,
        "output_tokens": tokens.output,
        "thinking_token_share": ratio(tokens.reasoning, tokens.output),
        "cached_token_share": ratio(tokens.cached, tokens.prompt),
    }


def rates(measurement: Measurement) -> dict[str, float | None]:
    """Per second of the window; None when no request is ok or was cut by its end.

    request_per_s = ok requests that ended in the window / window; output_token_per_s = output tokens
    (reasoning included, `window_tokens`) / window; visible_token_per_s leaves the reasoning out,
    total_token_per_s adds the prompts. in_flight_mean = time-weighted mean of the requests between sent and
    end. peak_output_token_per_s: see `peak`.
    """
    window, tokens = measurement.window, window_tokens(measurement)
    served = bool(measurement.ok or measurement.cut)
    window_s = window.duration_s if window and served else None
    prompt, output, reasoning = tokens.prompt, tokens.output, tokens.reasoning
    both = None if prompt is None or output is None else prompt + output
    visible = None if output is None or reasoning is None else output - reasoning
    output_per_s = ratio(output, window_s)
    ended = sum(window is not None and record.end_s <= window.end_s for record in measurement.ok)
    return {
        "window_s": window.duration_s if window else None,
        "request_per_s": ratio(ended, window_s),
        "output_token_per_s": output_per_s,
        "total_token_per_s": ratio(both, window_s),
        "output_token_per_s_per_gpu": ratio(output_per_s, measurement.conditions.gpus),
        "visible_token_per_s": ratio(visible, window_s),
        "peak_output_token_per_s": peak(measurement),
        "in_flight_mean": in_flight(measurement.records).mean(window.start_s, window.end_s)
        if window
        else None,
    }


def window_tokens(measurement: Measurement) -> Tokens:
    """Tokens of the ok requests, and of those that the end of the window cut what had arrived by then: their
    output tokens, and their prompt's once the first of these was there. All None without such a request."""
    window, requests = measurement.window, [*measurement.ok, *measurement.cut]
    if window is None or not requests:
        return Tokens(None, None, None, None)
    begun = [record for record in requests if _whole(record, window) or _begun(record, window)]
    return Tokens(
        prompt=total(record.prompt_tokens for record in begun),
        output=total(output_tokens(record, window) for record in requests),
        reasoning=total(_reasoning_tokens(record, window) for record in requests),
        cached=total(record.cached_tokens for record in begun),
    )


def output_tokens(record: Record, window: Window) -> int | None:
    """Output tokens that came by the end of the window; None without the counts that this needs."""
    if _whole(record, window) or not len(record.chunk_s):
        return record.output_tokens if _whole(record, window) else 0
    if record.output_tokens is None or record.chunk_tokens is None:
        return None
    return int(record.chunk_tokens[record.chunk_s <= window.end_s].sum())


def peak(measurement: Measurement) -> float | None:
    """The most output tokens of ok and cut requests that came within one second, wherever in the window it
    begins. None where the window is shorter, and without counts per chunk."""
    window, requests = measurement.window, [*measurement.ok, *measurement.cut]
    if window is None or window.duration_s < PEAK_S or not requests:
        return None
    counts = [record.chunk_tokens for record in requests if record.chunk_tokens is not None]
    if len(counts) < len(requests):
        return None
    times_s, tokens = np.concatenate([record.chunk_s for record in requests]), np.concatenate(counts)
    order = np.argsort(times_s, kind="stable")
    order = order[times_s[order] <= window.end_s]
    if not len(order):
        return 0.0
    sums = np.concatenate(([0], np.cumsum(tokens[order], dtype=np.int64)))
    first = np.searchsorted(times_s[order], times_s[order] - PEAK_S, side="right")
    return float((sums[1:] - sums[first]).max()) / PEAK_S


def _whole(record: Record, window: Window) -> bool:
    return record.outcome == "ok" and record.end_s <= window.end_s


def _begun(record: Record, window: Window) -> bool:
    return record.first_token_s is not None and record.first_token_s <= window.end_s


def _reasoning_tokens(record: Record, window: Window) -> int | None:
    if _whole(record, window) or not len(record.chunk_s):
        return record.reasoning_tokens if _whole(record, window) else 0
    if record.chunk_reasoning is None:
        return None
    return int(record.chunk_reasoning[record.chunk_s <= window.end_s].sum())
