"""Numbers of one request, from its timeline. None where the timeline does not hold them."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import NDArray

from orchestrator.records import Record, cut_off


def ttft_s(record: Record) -> float | None:
    """Time to first token: first chunk with at least one output token − sent."""
    return _since_sent(record, record.first_token_s)


def ttfvt_s(record: Record) -> float | None:
    """Time to first visible token: first chunk with non-blank text outside the reasoning − sent.

    A request that never showed any is censored at its end (`ttfvt_censored`): the value is then end − sent,
    a lower bound.
    """
    return _since_sent(record, record.end_s if record.first_visible_s is None else record.first_visible_s)


def ttfvt_censored(record: Record) -> bool | None:
    """Whether `ttfvt_s` is only a lower bound; None when nothing was sent."""
    return None if record.sent_s is None else record.first_visible_s is None


def thinking_s(record: Record) -> float | None:
    """TTFVT − TTFT; a lower bound where the TTFVT is censored."""
    first, visible = ttft_s(record), ttfvt_s(record)
    return None if first is None or visible is None else visible - first


def e2e_s(record: Record) -> float | None:
    """Last chunk that carried a token − sent."""
    return _since_sent(record, record.last_token_s)


def tpot_s(record: Record) -> float | None:
    """Time per output token: (E2E − TTFT) / (output tokens − 1); None below 2 tokens."""
    if record.first_token_s is None or record.last_token_s is None:
        return None
    if record.output_tokens is None or record.output_tokens < 2:
        return None
    return (record.last_token_s - record.first_token_s) / (record.output_tokens - 1)


def tpot_thinking_s(record: Record) -> float | None:
    """TPOT of the reasoning tokens alone: (last − first chunk that carried any) / (reasoning tokens − 1)."""
    return None if record.chunk_reasoning is None else _phase_tpot(record.chunk_s, record.chunk_reasoning)


def tpot_visible_s(record: Record) -> float | None:
    """TPOT of the other tokens alone: (last − first chunk that carried any) / (their number − 1)."""
    if record.chunk_tokens is None or record.chunk_reasoning is None:
        return None
    return _phase_tpot(record.chunk_s, record.chunk_tokens - record.chunk_reasoning)


def chunk_gaps_s(record: Record) -> NDArray[np.float64]:
    """Time between successive token-carrying chunks, one value per chunk after the first."""
    return np.diff(record.chunk_s)


def itl_s(record: Record) -> NDArray[np.float64] | None:
    """Inter-token latency: chunk gap / tokens in that chunk, one value per token after the first chunk.

    None without per-chunk token counts.
    """
    if record.chunk_tokens is None:
        return None
    tokens = record.chunk_tokens[1:]
    return np.repeat(chunk_gaps_s(record) / tokens, tokens)


def send_lag_s(record: Record) -> float | None:
    """Sent − scheduled: how late the load generator was."""
    return None if record.sent_s is None else record.sent_s - record.scheduled_s


def truncated(record: Record) -> bool:
    """Whether a budget of tokens, or the model's context, cut the answer off (`records.TRUNCATED`)."""
    return cut_off(record.finish_reason)


def usage_mode(records: Sequence[Record]) -> str | None:
    """What the server's token counts were in all ok requests (`load.stream.usage`), ``mixed`` where they
    differ; None where no request is ok, or nobody looked."""
    return _common({record.usage_mode for record in records if record.outcome == "ok"})


def reasoning_from(records: Sequence[Record]) -> str | None:
    """Where the reasoning was found in those ok requests that had any: ``field``, ``tags``, or ``mixed``;
    ``none`` where none had."""
    found = {record.reasoning_from for record in records if record.outcome == "ok"}
    return _common(found - {"none"} or found)


def attempted(record: Record) -> bool:
    """Whether the client tried to send it: all but what it cancelled before the first byte."""
    return record.sent_s is not None or record.outcome != "cancelled"


def _common(values: Set[str | None]) -> str | None:
    return "mixed" if len(values) > 1 else next(iter(values), None)


def cut(record: Record) -> bool:
    """Whether it was still running when the load's duration was over. It has not failed: what it would have
    come to is unknown."""
    return record.cut_by_window and record.sent_s is not None


def lasted_s(record: Record) -> float | None:
    """End − sent."""
    return _since_sent(record, record.end_s)


def failed(record: Record) -> bool:
    """Whether it ended without an answer and not by the client's own doing."""
    return record.outcome in ("error", "timeout")


def token_per_s(record: Record) -> float | None:
    """Output tokens per second of the request, as its user sees them: output tokens / E2E, of a request that
    was cut those that came / its time until then. None without a token or a count."""
    if record.sent_s is None or record.last_token_s is None or not record.output_tokens:
        return None
    lasted = (record.end_s if cut(record) else record.last_token_s) - record.sent_s
    return record.output_tokens / lasted if lasted > 0 else None


def _since_sent(record: Record, time_s: float | None) -> float | None:
    return None if record.sent_s is None or time_s is None else time_s - record.sent_s


def _phase_tpot(chunk_s: NDArray[np.float64], tokens: NDArray[np.int32]) -> float | None:
    total = int(tokens.sum())
    if total < 2:
        return None
    times = chunk_s[tokens > 0]
    return float(times[-1] - times[0]) / (total - 1)


def tokens_seen(records: Sequence[Record]) -> int | None:
    """Output tokens that the engine must have counted; None where more may have been than were seen."""
    if any(record.outcome != "ok" or record.output_tokens is None for record in records):
        return None
    return sum(record.output_tokens or 0 for record in records)
