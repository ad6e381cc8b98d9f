"""A sweep's own metrics: the one table that exporting, the Grafana dashboard and the tests are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """``labels`` come on top of ``study``, which every metric carries."""

    kind: Literal["gauge", "counter"]
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Metric] = {
    "cells": Metric("gauge", "Cells of the sweep by status", ("status",)),
    "finished_cells": Metric("counter", "Cells that finished, by status", ("status",)),
    "deployments": Metric("gauge", "Deployments by phase", ("phase",)),
    "gpus": Metric("gauge", "GPUs: measuring, reserved without measuring, idle, held by others", ("state",)),
    "eta_seconds": Metric("gauge", "Seconds until the last cell is expected to be done"),
    "output_tokens": Metric("counter", "Output tokens of finished cells"),
    "output_tokens_per_second": Metric("gauge", "Output tokens per second over all running cells"),
    "cell_output_tokens": Metric("gauge", "Output tokens of the running cell so far", ("deployment",)),
    # In a sweep that uses no GPU these three count its engines' seconds.
    "reserved_gpu_seconds": Metric("counter", "GPU-seconds that the sweep has reserved"),
    "window_gpu_seconds": Metric("counter", "GPU-seconds inside measurement windows of finished cells"),
    "efficiency": Metric("gauge", "Share of the reserved GPU-seconds inside measurement windows, 0 to 1"),
}


def exported(name: str) -> str:
    """The name under which a Ray node exposes a metric to Prometheus. Raises KeyError for one that is not
    there."""
    return f"ray_orchestrator_{name}" + ("_total" if METRICS[name].kind == "counter" else "")
