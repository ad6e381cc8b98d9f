"""What a server's prefix cache held of a cell's prompts before the cell, where nobody could empty it."""

from __future__ import annotations

from orchestrator.metrics.engine import counter_delta
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.stats import ratio
from orchestrator.records import Record

START_WITH = (
    "start the server so that its cache can be emptied (vLLM: VLLM_SERVER_DEV_MODE=1) or without one "
    "(vLLM: --no-enable-prefix-caching, SGLang: --disable-radix-cache)"
)


def warm_in_words(share: float | None) -> str:
    """What `warm_share` found, to stand before `START_WITH`; empty where it is not known."""
    if share is None:
        return ""
    return f"{100 * share:.0f} % of the tokens that are a question's own were in it (cache_warm_share); "


def warm_share(measurement: Measurement) -> float | None:
    """Share of the tokens that only an earlier cell can have left in the cache, and that were found there.

    Of a prompt of P tokens the first S are those that all prompts share (`RunConditions.shared_tokens`). When
    a prompt is sent first, the other P - S are in no cache that was empty; when it is sent again they may be.
    With C cached tokens in each response: sum of max(0, C - S) / sum of (P - S), over each prompt's first
    request. Without, from the server's counter of hits: (its growth - sum of S over all requests - sum of
    (P - S) over those that repeat a prompt) / the same, not below 0. None where S is not known, or neither
    C nor the counter.
    """
    shared = measurement.conditions.shared_tokens
    ok = sorted(
        (one for one in measurement.records if one.outcome == "ok" and one.sent_s is not None),
        key=lambda one: one.sent_s or 0.0,
    )
    if shared is None or any(one.prompt_tokens is None for one in ok):
        return None
    first = {one.prompt_sha256: one for one in reversed(ok)}.values()
    own = sum(_own_tokens(one, shared) for one in first)
    if all(one.cached_tokens is not None for one in first):
        found = sum(max(0.0, (one.cached_tokens or 0) - shared) for one in first)
        return ratio(found, own)
    hits = counter_delta(measurement.samples, "prefix_hits_tokens_total", measurement.window)
    if hits is None:
        return None
    repeated = sum(_own_tokens(one, shared) for one in ok) - own
    allowed = sum(min(shared, one.prompt_tokens or 0) for one in ok) + repeated
    return ratio(max(0.0, hits - allowed), own)


def _own_tokens(record: Record, shared: float) -> float:
    return max(0.0, (record.prompt_tokens or 0) - shared)
