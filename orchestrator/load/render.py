"""From an item to the bytes that go on the wire, before the run starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from orchestrator.config.schema import SamplingConfig
from orchestrator.records import Item, Request


def render(
    item: Item,
    *,
    repeat: int,
    request_id: str,
    model: str,
    sampling: SamplingConfig,
    max_tokens: int,
    seed: int,
    usage: str,
    extra: Mapping[str, Any],
) -> Request:
    """The streaming chat request for one item.

    ``usage`` is ``continuous`` (cumulative counts on every chunk) or ``final``. What of ``sampling`` is None
    is left to the server; everything else is explicit, so that no ``generation_config.json`` decides.
    ``seed`` is the cell's, from which a seeded request's own follows.
    ``extra`` is merged last (``chat_template_kwargs``, ``ignore_eos``, ``min_tokens``).
    """
    stream_options = {"include_usage": True}
    if usage == "continuous":
        stream_options["continuous_usage_stats"] = True
    body: dict[str, Any] = {
        "model": model,
        "messages": list(item.messages),
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": stream_options,
    }
    if sampling.seeded:
        body["seed"] = request_seed(seed, item.item_id, repeat)
    body |= {name: value for name, value in vars(sampling).items() if name != "seeded" and value is not None}
    body.update(extra)
    return Request(
        request_id=request_id,
        item_id=item.item_id,
        repeat=repeat,
        body=orjson.dumps(body),
        prompt_sha256=hashlib.sha256(orjson.dumps(body["messages"], option=orjson.OPT_SORT_KEYS)).hexdigest(),
    )


def request_seed(seed: int, item_id: str, repeat: int) -> int:
    """A sampling seed in [0, 2^31) that depends on the item and the repeat, not on their order."""
    digest = hashlib.sha256(f"{seed}\0{item_id}\0{repeat}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
