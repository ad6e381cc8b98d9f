"""Events of a stream, as servers write them, and the record that they come to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson

from orchestrator.load.client.connection import Finished
from orchestrator.load.result import record
from orchestrator.load.stream.timeline import Timeline
from orchestrator.records import Record, Request


def event(
    content: str | None = None,
    *,
    reasoning: str | None = None,
    field: str = "reasoning",
    total: int | None = None,
    thought: int | None = None,
    finish: str | None = None,
    **usage: Any,
) -> bytes:
    """A chunk; ``total`` and ``thought`` are its cumulative counts, None: no usage, or none of reasoning."""
    delta = {"content": content, field: reasoning}
    document: dict[str, Any] = {
        "choices": [
            {"index": 0, "delta": {k: v for k, v in delta.items() if v is not None}, "finish_reason": finish}
        ]
    }
    if total is not None:
        details = None if thought is None else {"reasoning_tokens": thought}
        document["usage"] = {
            "prompt_tokens": 9,
            "completion_tokens": total,
            "completion_tokens_details": details,
        }
        document["usage"] |= usage
    return orjson.dumps(document)


def usage_only(total: int, **usage: Any) -> bytes:
    counts = {"prompt_tokens": 9, "completion_tokens": total, **usage}
    return orjson.dumps({"choices": [], "usage": counts})


def recorded(events: Iterable[bytes], **options: Any) -> Record:
    """Events at 1, 2, 3, … s on a clock whose zero is 0."""
    timeline = Timeline(**options)
    for number, data in enumerate(events, start=1):
        timeline.add(float(number), data)
    finished = Finished(0, 0.0, 0.5, 99.0, "ok", timeline.error, 200, timeline.stream())
    return record(Request("r", "i", 0, b"", ""), finished, zero=0.0)


def counts(values: object) -> list[int]:
    assert isinstance(values, np.ndarray)
    return [int(value) for value in values]
