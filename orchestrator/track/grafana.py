"""``python -m orchestrator.track.grafana > dashboard.json``: a Grafana dashboard of a sweep's metrics.

Made from `metric_names`, so that it names no metric that is not exported. It has a variable for the data
source and one for the study.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.track.metric_names import METRICS, exported

COLUMNS, HEIGHT = 24, 8  # Grafana's grid
_STUDY = '{study=~"$study"}'


@dataclass(frozen=True)
class Panel:
    """``queries`` are pairs of a PromQL expression and its legend; ``unit`` is Grafana's name of one."""

    title: str
    kind: str  # timeseries | stat
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    stacked: bool = False
    width: int = 8

    @property
    def height(self) -> int:
        return HEIGHT if self.kind == "timeseries" else HEIGHT // 2


def by(name: str, label: str) -> tuple[str, str]:
    """The sum of a metric for each value of its label. Raises ValueError for a label that it lacks."""
    if label not in METRICS[name].labels:
        raise ValueError(f"{name} has no label {label}; it has: {', '.join(METRICS[name].labels)}")
    return f"sum by ({label}) ({exported(name)}{_STUDY})", f"{{{{{label}}}}}"


def whole(name: str) -> str:
    return f"sum({exported(name)}{_STUDY})"


def panels() -> Sequence[Panel]:
    """What the dashboard shows, in its order."""
    growth = f"sum(rate({exported('output_tokens')}{_STUDY}[5m]))"
    windows, reserved = (
        f"sum(rate({exported(name)}{_STUDY}[15m]))" for name in ("window_gpu_seconds", "reserved_gpu_seconds")
    )
    by_study = f"avg by (study) ({exported('efficiency')}{_STUDY})", "{{study}}"
    finished = f"sum by (status) (increase({exported('finished_cells')}{_STUDY}[15m]))"
    return (
        Panel("Time left", "stat", ((f"max({exported('eta_seconds')}{_STUDY})", "left"),), "s", width=6),
        Panel("Cells", "stat", (by("cells", "status"),), width=12),
        Panel(
            "Sweep efficiency",
            "stat",
            ((f"avg({exported('efficiency')}{_STUDY})", ""),),
            "percentunit",
            width=6,
        ),
        Panel("Cells by status", "timeseries", (by("cells", "status"),), stacked=True),
        Panel("Finished in 15 minutes", "timeseries", ((finished, "{{status}}"),), stacked=True),
        Panel("Deployments by phase", "timeseries", (by("deployments", "phase"),), stacked=True),
        Panel("GPUs", "timeseries", (by("gpus", "state"),), stacked=True),
        Panel(
            "Output tokens per second",
            "timeseries",
            ((whole("output_tokens_per_second"), "running cells"), (growth, "finished cells, 5 min")),
        ),
        Panel("Output tokens of running cells", "timeseries", (by("cell_output_tokens", "deployment"),)),
        Panel(
            "GPU-seconds per second",
            "timeseries",
            ((reserved, "reserved"), (windows, "in measurement windows")),
            width=12,
        ),
        Panel("Efficiency", "timeseries", (by_study,), "percentunit", width=12),
    )


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana's JSON model."""
    return {
        "uid": "reasoning-orchestrator",
        "title": "Reasoning orchestrator: sweep",
        "tags": ["ray", "reasoning-orchestrator"],
        "schemaVersion": 39,
        "refresh": "5s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source_variable(), _study_variable()]},
        "panels": list(_placed(panels())),
    }


def _placed(shown: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """Left to right, then down."""
    x = y = 0
    for number, panel in enumerate(shown, 1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + shown[number - 2].height
        yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": panel.height})
        x += panel.width


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 40} if panel.stacked else {"fillOpacity": 10}
    return {
        "id": number,
        "title": panel.title,
        "type": panel.kind,
        "gridPos": place,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _study_variable() -> dict[str, Any]:
    return {
        "name": "study",
        "label": "Study",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values({exported('cells')}, study)",
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=2)
    sys.stdout.write("\n")
