"""What limits a variant, by its own counters, in sentences."""

from __future__ import annotations

from orchestrator.report.variants import Variant

# Where a sentence begins to be worth saying; shares.
FULL_KV, QUEUE_SHARE, CUT, IDLE_TAIL, IDLE_GPU = 0.95, 0.1, 0.1, 0.05, 0.5


def limits(variant: Variant) -> list[str]:
    """Most telling first; means over the runs."""
    get = variant.mean
    found = []
    preemptions, kv = get("preemptions"), get("kv_usage_max")
    running, waiting = get("running_mean"), get("waiting_mean")
    flags = {flag for run in variant.runs for flag in run.row.get("flags") or ()}
    if "behind" in flags:
        found.append(
            "The server did not keep up with the arrivals: its latencies are those of a growing queue."
        )
    if (preemptions or 0.0) > 0 or (kv or 0.0) >= FULL_KV:
        most = "" if kv is None else f" (at most {100 * kv:.0f} % in use)"
        told = "preemptions not counted" if preemptions is None else f"{preemptions:,.0f} preemptions a run"
        found.append(f"KV cache{most}: {told}. More memory, or an 8-bit one, helps.")
    if running and waiting and waiting > QUEUE_SHARE * running:
        found.append(f"Queue: {waiting:.1f} requests waited on average while {running:.1f} ran.")
    elif running and waiting is not None and variant.facts["load"] in ("closed", "batch"):
        found.append(f"The load offered: {running:.1f} requests ran on average and hardly any waited.")
    if (cut := get("truncated_rate") or 0.0) > CUT:
        most_tokens = variant.facts["max_tokens"]
        found.append(f"The token budget: {100 * cut:.0f} % of the answers were cut off at {most_tokens}.")
    tail, idle = get("straggler_share"), get("straggler_gpu_idle_share")
    if tail is not None and idle is not None and tail * max(0.0, idle) > IDLE_TAIL:
        found.append(
            f"Stragglers: in the last {100 * tail:.0f} % of the time only the last 5 % of the requests ran, "
            f"and {100 * idle:.0f} % of the places were empty."
        )
    util = get("gpu_util_mean")
    if util is not None and util < IDLE_GPU:
        found.append(f"The GPU ran a kernel in only {100 * util:.0f} % of the time.")
    return found
