"""A sweep's state as Ray metrics, so that the Ray dashboard and Prometheus show it."""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

from orchestrator.track.metric_names import METRICS


class SweepMetrics:
    """Exposed by the node under `metric_names.exported`; each carries the study's name."""

    def __init__(self, study: str) -> None:
        self._study = {"study": study}
        self._metrics: dict[str, Gauge | Counter] = {}
        for name, metric in METRICS.items():
            kind = Gauge if metric.kind == "gauge" else Counter
            self._metrics[name] = kind(f"orchestrator_{name}", metric.meaning, ("study", *metric.labels))

    def set(self, name: str, value: float, **labels: str) -> None:
        """What a gauge shows from now on. Raises KeyError for one that is not in the table."""
        gauge = self._metrics[name]
        assert isinstance(gauge, Gauge)
        gauge.set(value, self._study | labels)

    def add(self, name: str, value: float, **labels: str) -> None:
        """Raises a counter; what is not above 0 changes nothing."""
        counter = self._metrics[name]
        assert isinstance(counter, Counter)
        if value > 0:
            counter.inc(value, self._study | labels)

    def set_each(self, name: str, label: str, values: Mapping[str, float]) -> None:
        """A gauge with one value for each value of its label."""
        for key, value in values.items():
            self.set(name, value, **{label: key})
