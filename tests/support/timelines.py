"""Records whose true timeline is written in the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.records import Outcome, Record


def record(
    sent_s: float | None = 0.0,
    chunks: Sequence[tuple[float, int, int]] = (),
    *,
    end_s: float | None = None,
    outcome: Outcome = "ok",
    finish_reason: str | None = "stop",
    **changes: Any,
) -> Record:
    """A request with these token-carrying chunks: (arrival, tokens, of which reasoning).

    Unless changed: scheduled when sent, ended with its last chunk, 10 prompt tokens, 0 cached, and the first
    chunk with a token outside the reasoning is the first visible one.
    """
    times = [time for time, _, _ in chunks]
    visible = [time for time, tokens, reasoning in chunks if tokens > reasoning]
    values: dict[str, Any] = {
        "request_id": "r",
        "item_id": "i",
        "repeat": 0,
        "prompt_sha256": "",
        "scheduled_s": 0.0 if sent_s is None else sent_s,
        "sent_s": sent_s,
        "first_token_s": times[0] if times else None,
        "first_visible_s": visible[0] if visible else None,
        "last_token_s": times[-1] if times else None,
        "end_s": end_s if end_s is not None else times[-1] if times else (sent_s or 0.0),
        "prompt_tokens": 10,
        "output_tokens": sum(tokens for _, tokens, _ in chunks),
        "reasoning_tokens": sum(reasoning for _, _, reasoning in chunks),
        "cached_tokens": 0,
        "outcome": outcome,
        "finish_reason": finish_reason if outcome == "ok" else None,
        "error": None if outcome == "ok" else outcome,
        "http_status": 200 if outcome == "ok" else None,
        "chunk_s": np.array(times, np.float64),
        "chunk_tokens": np.array([tokens for _, tokens, _ in chunks], np.int32),
        "chunk_reasoning": np.array([reasoning for _, _, reasoning in chunks], np.int32),
        "reasoning_text": "",
        "response_text": "",
    }
    return Record(**values | changes)
