from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from orchestrator.track.grafana import COLUMNS, by, dashboard, panels
from orchestrator.track.metric_names import METRICS, exported

EXPRESSIONS = [expression for panel in panels() for expression, _ in panel.queries]


def test_every_expression_names_exported_metrics_only_and_every_metric_is_shown() -> None:
    named = {name for expression in EXPRESSIONS for name in re.findall(r"\bray_\w+", expression)}
    assert named == {exported(name) for name in METRICS}


def test_expressions_group_only_by_labels_that_the_metric_has() -> None:
    for expression in EXPRESSIONS:
        for label, name in re.findall(r"by \((\w+)\) \((?:\w+\()?ray_orchestrator_(\w+)\{", expression):
            assert label in ("study", *METRICS[name.removesuffix("_total")].labels)
    with pytest.raises(ValueError, match="gpus has no label phase"):
        by("gpus", "phase")


def test_only_counters_are_asked_for_their_rate() -> None:
    for name in re.findall(r"(?:rate|increase)\(ray_orchestrator_(\w+)\{", " ".join(EXPRESSIONS)):
        assert METRICS[name.removesuffix("_total")].kind == "counter"


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in dashboard()["panels"]):
        assert place["x"] + place["w"] <= COLUMNS
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & covered
        taken |= covered


def test_the_command_prints_the_dashboard_without_starting_ray() -> None:
    run = "import runpy, sys; runpy.run_module('orchestrator.track.grafana', run_name='__main__')"
    code = f"{run}; assert 'ray' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == dashboard()
