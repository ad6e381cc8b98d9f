from __future__ import annotations

import re

from orchestrator.paths import CHECKOUT
from orchestrator.track.metric_names import METRICS, exported


def test_the_documented_metrics_are_those_of_the_table_with_their_labels() -> None:
    text = (CHECKOUT / "docs" / "progress.md").read_text()
    rows = re.findall(r"^\| `(ray_orchestrator_\w+)` \| ([^|]*)\|", text, re.M)
    documented = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert documented == {exported(name): metric.labels for name, metric in METRICS.items()}
