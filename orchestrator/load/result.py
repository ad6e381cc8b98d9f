"""From what a client process saw of a request to its `Record`, on the cell's clock."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.load.client.connection import WINDOW_ENDED, Finished
from orchestrator.load.stream.timeline import Stream, Timeline
from orchestrator.records import Record, Request

Counts = NDArray[np.int32]

_CUT = WINDOW_ENDED.partition("{")[0]


def record(request: Request, finished: Finished, zero: float) -> Record:
    """``zero``: the cell's start as a ``perf_counter`` value."""
    stream = finished.stream
    chunk_s = np.frombuffer(stream.chunk_s, np.float64) - zero
    tokens = np.frombuffer(stream.chunk_tokens, np.int32) if stream.counted else None
    reasoning = None if tokens is None or _too_much(stream) else reasoning_per_chunk(stream, tokens)
    return Record(
        request_id=request.request_id,
        item_id=request.item_id,
        repeat=request.repeat,
        prompt_sha256=request.prompt_sha256,
        scheduled_s=finished.scheduled_s - zero,
        sent_s=_minus(finished.sent_s, zero),
        first_token_s=float(chunk_s[0]) if len(chunk_s) else None,
        first_visible_s=_minus(stream.first_visible_s, zero),
        last_token_s=float(chunk_s[-1]) if len(chunk_s) else None,
        end_s=finished.end_s - zero,
        prompt_tokens=stream.prompt_tokens,
        output_tokens=stream.output_tokens,
        reasoning_tokens=_reasoning_total(stream, reasoning),
        cached_tokens=stream.cached_tokens,
        outcome=finished.outcome,
        finish_reason=stream.finish_reason,
        error=finished.error,
        http_status=finished.http_status,
        retries=finished.retries,
        chunk_s=chunk_s,
        chunk_tokens=tokens,
        chunk_reasoning=reasoning,
        reasoning_text=stream.reasoning_text,
        response_text=stream.response_text,
        cut_by_window=finished.outcome == "cancelled" and (finished.error or "").startswith(_CUT),
        usage_mode=stream.usage_mode,
        reasoning_from=stream.reasoning_from,
    )


def unsent(request: Request, *, scheduled_s: float | None, end_s: float, why: str, zero: float) -> Record:
    """A request that was never sent. One that was never due either counts as due when the run ended."""
    scheduled = end_s if scheduled_s is None else scheduled_s
    stream = Timeline().stream()
    return record(request, Finished(-1, scheduled, None, end_s, "cancelled", why, None, stream), zero)


def reasoning_per_chunk(stream: Stream, tokens: Counts) -> Counts:
    """How many of each chunk's tokens were reasoning: the server's own counts where they are cumulative and
    sound; else its total, reasoning coming before the answer; else whether the chunk's text was reasoning.

    SGLang counts at the end only, and a server that does not count says 0 beside reasoning text.
    """
    thinking = np.frombuffer(stream.chunk_thinking, np.int8).astype(bool)
    cumulative = np.frombuffer(stream.chunk_reasoning, np.int32)
    total = stream.reasoning_tokens
    if total is None or (total == 0 and thinking.any()):
        return np.asarray(np.where(thinking, tokens, 0), np.int32)
    each = np.diff(cumulative, prepend=0)
    if len(each) and cumulative[-1] == total and cumulative.min() >= 0 and _within(each, tokens):
        return np.asarray(each, np.int32)
    before = np.cumsum(tokens) - tokens
    return np.asarray(np.clip(total - before, 0, tokens), np.int32)


def _within(each: Counts, tokens: Counts) -> bool:
    return bool(((each >= 0) & (each <= tokens)).all())


def _too_much(stream: Stream) -> bool:
    """Whether the server counts more reasoning than output: then nobody knows which of both is wrong."""
    total, output = stream.reasoning_tokens, stream.output_tokens
    return total is not None and output is not None and total > output


def _reasoning_total(stream: Stream, per_chunk: Counts | None) -> int | None:
    if stream.output_tokens is None or _too_much(stream):
        return None
    if per_chunk is not None:
        return int(per_chunk.sum())
    total, seen = stream.reasoning_tokens, stream.reasoning_from != "none"
    if seen and not total:  # not counted; a server that does not count says 0 too
        return None
    return total or 0


def _minus(value: float | None, zero: float) -> float | None:
    return None if value is None else value - zero
