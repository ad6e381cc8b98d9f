"""Counts and rates of a cell over its window."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.metrics.requests import truncated
from orchestrator.metrics.stats import ratio, total
from orchestrator.metrics.window import Window, in_flight
from orchestrator.records import Record


def error_rate(records: Sequence[Record]) -> float | None:
    """(errors + timeouts) / requests that came to an end. What the client itself cancelled is in neither."""
    ended = [record.outcome for record in records if record.outcome != "cancelled"]
    return ratio(sum(outcome != "ok" for outcome in ended), len(ended))


def retries(records: Sequence[Record]) -> int | None:
    """Requests that were sent again, each once at most; None where what is stored does not say."""
    known = [record.retries for record in records if record.retries is not None]
    return sum(known) if len(known) == len(records) else None


def counts(records: Sequence[Record]) -> dict[str, float | int | None]:
    """Numbers and shares of requests and of tokens; tokens are those of the ok requests.

    truncated_rate = ok requests cut off by the token budget / ok requests; thinking_token_share = reasoning
    tokens / output tokens; cached_token_share = prompt tokens the server reported as cached / prompt tokens.
    """
    ok = [record for record in records if record.outcome == "ok"]
    prompt, output, reasoning, cached = _tokens(ok)
    return {
        "requests_total": len(records),
        "requests_ok": len(ok),
        "error_rate": error_rate(records),
        "cancelled_rate": ratio(sum(record.outcome == "cancelled" for record in records), len(records)),
        "truncated_rate": ratio(sum(truncated(record) for record in ok), len(ok)),
        "prompt_tokens": prompt,
        "output_tokens": output,
        "thinking_token_share": ratio(reasoning, output),
        "cached_token_share": ratio(cached, prompt),
    }


def rates(records: Sequence[Record], window: Window | None, gpus: int) -> dict[str, float | None]:
    """Per second of the window, over ok requests only; None when none is ok.

    output_token_per_s = output tokens (reasoning included) / window; visible_token_per_s leaves the
    reasoning out, total_token_per_s adds the prompts. in_flight_mean = time-weighted mean of the requests
    between sent and end.
    """
    ok = [record for record in records if record.outcome == "ok"]
    prompt, output, reasoning, _ = _tokens(ok)
    window_s = window.duration_s if window and ok else None
    both = None if prompt is None or output is None else prompt + output
    visible = None if output is None or reasoning is None else output - reasoning
    output_per_s = ratio(output, window_s)
    return {
        "window_s": window.duration_s if window else None,
        "request_per_s": ratio(len(ok), window_s),
        "output_token_per_s": output_per_s,
        "total_token_per_s": ratio(both, window_s),
        "output_token_per_s_per_gpu": ratio(output_per_s, gpus),
        "visible_token_per_s": ratio(visible, window_s),
        "in_flight_mean": in_flight(records).mean(window.start_s, window.end_s) if window else None,
    }


def _tokens(ok: Sequence[Record]) -> tuple[int | None, int | None, int | None, int | None]:
    """Prompt, output, reasoning and cached tokens of these requests; None where a request lacks its count."""
    if not ok:
        return None, None, None, None
    return (
        total(record.prompt_tokens for record in ok),
        total(record.output_tokens for record in ok),
        total(record.reasoning_tokens for record in ok),
        total(record.cached_tokens for record in ok),
    )
