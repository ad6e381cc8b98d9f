"""What the engine's own counters and gauges say about a cell."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.stats import ratio
from orchestrator.metrics.window import Window
from orchestrator.records import Sample

IDLE_UTIL = 0.05
BUSY_CPUS = 0.9
MIN_HOST_WINDOW_S = 1.0


def times_s(samples: Sequence[Sample], field: str) -> NDArray[np.float64]:
    """Times of the samples that have this field, a number or one number per GPU, in order."""
    get = attrgetter(field)
    return np.array(sorted(sample.t_s for sample in samples if get(sample) is not None), np.float64)


def series(samples: Sequence[Sample], field: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and values of the samples that have this field, in order of time; of several GPUs the mean."""
    get = attrgetter(field)
    found = ((sample.t_s, get(sample)) for sample in samples)
    known = sorted((t_s, _one(value)) for t_s, value in found if value is not None)
    pairs = np.array(known, np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _one(value: float | Sequence[float]) -> float:
    # Only GPUs have lists: numpy's mean of each number would take most of what follows a load.
    return float(value) if isinstance(value, int | float) else float(np.mean(value))


def gauge_mean(samples: Sequence[Sample], field: str, window: Window | None) -> float | None:
    """Time-weighted mean over the window, linear between samples. None without a sample inside it."""
    times, values = series(samples, field)
    if window is None or not _inside(times, window).any():
        return None
    grid = np.concatenate(([window.start_s], times[_inside(times, window)], [window.end_s]))
    return float(np.trapezoid(np.interp(grid, times, values), grid)) / window.duration_s


def gauge_max(samples: Sequence[Sample], field: str, window: Window | None) -> float | None:
    """Largest sample inside the window; None without one."""
    times, values = series(samples, field)
    if window is None or not _inside(times, window).any():
        return None
    return float(values[_inside(times, window)].max())


def reported_mean(samples: Sequence[Sample], field: str, window: Window | None) -> float | None:
    """Mean over the samples inside the window of a gauge that tells of an engine's last steps, by the
    requests that ran: an idle engine shows its last report for ever. What it showed first is an earlier
    cell's: it counts once it has changed. None where it never does or nothing ran."""
    times, values = series(samples, field)
    ran_at, running = series(samples, "running")
    changed = np.flatnonzero(values != values[:1])
    if window is None or not len(changed) or not len(ran_at):
        return None
    own = _inside(times, window) & (times >= times[changed[0]])
    weights = np.interp(times[own], ran_at, running)
    return float(np.average(values[own], weights=weights)) if weights.sum() > 0 else None


def counter_delta(samples: Sequence[Sample], field: str, window: Window | None) -> float | None:
    """Growth of a cumulative counter: the cell's last sample − the last one at or before the window's start.

    The last sample rather than the first after the window, because an engine may count a step just after
    its tokens have left. None unless samples bracket the window, and when the counter fell (a restart).
    """
    times, values = series(samples, field)
    if window is None or not len(times) or times[0] > window.start_s or times[-1] < window.end_s:
        return None
    from_start = values[np.searchsorted(times, window.start_s, side="right") - 1 :]
    return None if (np.diff(from_start) < 0).any() else float(from_start[-1] - from_start[0])


def batch_limit(samples: Sequence[Sample]) -> float | None:
    """The most requests the engine ran at once, when it ever kept one waiting: what is in flight beyond that
    is queued, not running. None when nothing waited."""
    if not any(sample.waiting for sample in samples):
        return None
    return max((sample.running for sample in samples if sample.running), default=None)


def gpu_starved_share(samples: Sequence[Sample], window: Window | None) -> float | None:
    """Share of the samples inside the window that found every GPU idle (below 5 %) while the engine said that
    it ran requests and one of its processes kept a CPU busy (from 90 %): what the GPUs have finished waits
    for that process. None where no sample tells all three."""
    found = [
        max(sample.gpu_util) < IDLE_UTIL and sample.running > 0 and sample.engine_cpu_busiest >= BUSY_CPUS
        for sample in samples
        if window is not None
        and window.start_s <= sample.t_s <= window.end_s
        and sample.gpu_util
        and sample.running is not None
        and sample.engine_cpu_busiest is not None
    ]
    return sum(found) / len(found) if found else None


def host_taken_share(samples: Sequence[Sample], window: Window | None) -> float | None:
    """Share of the CPU time that the engine would have had which went elsewhere: T / (T + its own CPUs), with
    T the smaller of what was taken of its CPUs (`records.Sample`: ``others_cpus`` + ``steal_cpus``) and its
    threads that waited for one, means over the window. So neighbours on CPUs that the engine leaves idle do
    not count, nor does it count that the engine's own threads wait for one another. None where one of the
    three is not known, and over less than a second, in which the kernel's ticks are too few to tell."""
    if window is None or window.duration_s < MIN_HOST_WINDOW_S:
        return None
    own = gauge_mean(samples, "engine_cpus", window)
    others = gauge_mean(samples, "others_cpus", window)
    waited = gauge_mean(samples, "engine_cpu_wait", window)
    if own is None or others is None or waited is None:
        return None
    taken = max(0.0, min(others + (gauge_mean(samples, "steal_cpus", window) or 0.0), waited))
    return taken / (taken + own) if taken > 0 else 0.0


def engine_metrics(samples: Sequence[Sample], window: Window | None) -> dict[str, float | int | None]:
    """kv_usage_*, running_mean, waiting_mean, engine_cpu*_mean, others_cpus_mean, steal_cpus_mean,
    cpu_pressure_mean, host_taken_share, gpu_util_mean, gpu_starved_share: over the window. prefix_hit_rate =
    Δhits / Δqueries, in tokens. spec_acceptance_rate = Δaccepted / Δdrafted; spec_tokens_per_step =
    1 + Δaccepted / Δdrafts. SGLang counts no accepted drafts: there its gauge of their share as
    `reported_mean`, and Δtokens / Δdrafts, both counted when a request ends. None where the engine has no
    such counter or it did not move."""

    def delta(field: str) -> float | None:
        return counter_delta(samples, field, window)

    preemptions = delta("preemptions_total")
    others = gauge_mean(samples, "others_cpus", window)
    accepted, drafts = delta("spec_accepted_total"), delta("spec_drafts_total")
    accepted_per_draft = ratio(accepted, drafts)
    if accepted is None:
        acceptance = reported_mean(samples, "spec_accept_rate", window)
        tokens_per_step = ratio(delta("generation_tokens_total"), drafts)
    else:
        acceptance = ratio(accepted, delta("spec_drafted_total"))
        tokens_per_step = None if accepted_per_draft is None else 1 + accepted_per_draft
    return {
        "kv_usage_mean": gauge_mean(samples, "kv_usage", window),
        "kv_usage_max": gauge_max(samples, "kv_usage", window),
        "running_mean": gauge_mean(samples, "running", window),
        "waiting_mean": gauge_mean(samples, "waiting", window),
        "engine_cpus_mean": gauge_mean(samples, "engine_cpus", window),
        "engine_cpu_busiest_mean": gauge_mean(samples, "engine_cpu_busiest", window),
        "engine_cpu_wait_mean": gauge_mean(samples, "engine_cpu_wait", window),
        "others_cpus_mean": None if others is None else max(0.0, others),
        "steal_cpus_mean": gauge_mean(samples, "steal_cpus", window),
        "cpu_pressure_mean": gauge_mean(samples, "cpu_pressure", window),
        "host_taken_share": host_taken_share(samples, window),
        "gpu_util_mean": gauge_mean(samples, "gpu_util", window),
        "gpu_starved_share": gpu_starved_share(samples, window),
        "preemptions": None if preemptions is None else round(preemptions),
        "prefix_hit_rate": ratio(delta("prefix_hits_tokens_total"), delta("prefix_queries_tokens_total")),
        "spec_acceptance_rate": acceptance,
        "spec_tokens_per_step": tokens_per_step,
    }


def _inside(times: NDArray[np.float64], window: Window) -> NDArray[np.bool_]:
    return (times >= window.start_s) & (times <= window.end_s)
