"""Energy of a cell, from the GPUs' total-energy counters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.stats import ratio
from orchestrator.metrics.throughput import window_tokens
from orchestrator.metrics.window import Window
from orchestrator.records import Sample


def energy_j(samples: Sequence[Sample], window: Window | None, gpus: int) -> float | None:
    """Σ over GPUs of counter(window end) − counter(window start), linear between samples; joule.

    None where the counter is missing, fell, was not sampled on both sides of the window, or not on all of
    the deployment's ``gpus`` (those of another node, say).
    """
    complete = [sample for sample in samples if sample.gpu_energy_j and len(sample.gpu_energy_j) == gpus]
    known = sorted((sample.t_s, sample.gpu_energy_j) for sample in complete)
    if window is None or not known or known[0][0] > window.start_s or known[-1][0] < window.end_s:
        return None
    times = np.array([t_s for t_s, _ in known])
    counters = np.array([values for _, values in known], np.float64)
    if (np.diff(counters, axis=0) < 0).any():
        return None
    edges = (window.start_s, window.end_s)
    return float(sum(np.diff(np.interp(edges, times, counter)).item() for counter in counters.T))


def energy(measurement: Measurement) -> dict[str, float | None]:
    """energy_j, and joule_per_output_token = energy_j / output tokens of the window. None when another
    process used a GPU, since the counter is the whole board's."""
    conditions = measurement.conditions
    shared = conditions.gpu_shared
    joules = None if shared else energy_j(measurement.samples, measurement.window, conditions.gpus)
    return {
        "energy_j": joules,
        "joule_per_output_token": ratio(joules, window_tokens(measurement).output),
    }
