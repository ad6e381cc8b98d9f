"""The data of an event that is no chunk: mended where it can be, else what it has to say."""

from __future__ import annotations

import json

import orjson


def mended(data: bytes) -> bytes:
    """JSON that holds half a character (a surrogate without its other half, or bytes that are no UTF-8),
    which becomes U+FFFD, or a number that JSON does not have (NaN, Infinity), which becomes null. Raises
    ValueError, TypeError or RecursionError for what is no JSON for all that."""
    loaded = json.loads(data.decode(errors="replace"), parse_constant=lambda _: None)
    document = json.dumps(loaded, ensure_ascii=False)
    return orjson.dumps(orjson.loads(document.encode("utf-16", "surrogatepass").decode("utf-16", "replace")))


def excerpt(data: bytes, limit: int = 300) -> str:
    text = data.decode(errors="replace").strip()
    return text if len(text) <= limit else text[:limit] + "…"


def error_message(body: bytes) -> str:
    """The message of an OpenAI-style error object, or the beginning of whatever came instead."""
    try:
        document = orjson.loads(body)
        error = document.get("error") or document
        if isinstance(error, str):
            return error
        kind = error.get("type")
        return f"{kind}: {error['message']}" if kind else str(error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return excerpt(body)
