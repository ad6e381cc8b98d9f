"""A sweep's state as Ray metrics, so that the Ray dashboard and Prometheus show it."""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

from orchestrator.cluster.worker import WorkerProgress


class SweepMetrics:
    """Exposed by the node as ``ray_orchestrator_cells{status=}``, ``ray_orchestrator_deployments``,
    ``ray_orchestrator_output_tokens_total`` and ``ray_orchestrator_cell_output_tokens{deployment=}``; each
    carries the study's name."""

    def __init__(self, study: str) -> None:
        self._study = {"study": study}
        self._cells = Gauge("orchestrator_cells", "Cells of the sweep by status", ("study", "status"))
        self._deployments = Gauge("orchestrator_deployments", "Engines starting or live", ("study",))
        self._tokens = Counter("orchestrator_output_tokens", "Output tokens of finished cells", ("study",))
        self._live_tokens = Gauge(
            "orchestrator_cell_output_tokens",
            "Output tokens of the running cell so far",
            ("study", "deployment"),
        )

    def cells(self, counts: Mapping[str, int]) -> None:
        for status, count in counts.items():
            self._cells.set(count, self._study | {"status": status})

    def deployments(self, live: int) -> None:
        self._deployments.set(live, self._study)

    def cell_tokens(self, tokens: int) -> None:
        if tokens:
            self._tokens.inc(tokens, self._study)

    def tokens(self, deployment: str, progress: WorkerProgress) -> None:
        self._live_tokens.set(progress.output_tokens, self._study | {"deployment": deployment})
