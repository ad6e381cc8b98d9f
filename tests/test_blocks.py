"""Runs of engines that sleep, by the whole command, on a simulated machine that becomes slower."""

from __future__ import annotations

import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks.gpu import turns
from orchestrator.report.build import find
from orchestrator.report.comparisons import Line
from orchestrator.report.options import Options
from orchestrator.report.variants import Run
from orchestrator.store.read import read_cells
from tests.support.cli import sweep

pytestmark = [pytest.mark.ray, pytest.mark.alone, pytest.mark.timeout(180)]

RUNS = 4
DRIFT, PERIOD_S = 0.8, 100.0  # of which the rising quarter is what a sweep takes


def measured(results: Path, sleep: str) -> list[dict[str, Any]]:
    """Two deployments that do the same, in the order in which their cells began."""
    now_s = time.monotonic()
    period_s = now_s / round(now_s / PERIOD_S)  # so that it begins in the middle, where the drift is steepest
    done = sweep(
        *("-m", "engine=simulated", "hardware=h200", "model=r1-7b", "opt=none,prefix-cache", f"runs={RUNS}"),
        *("weights=dummy", "dataset=random", "dataset.prompt_tokens=64", "limit=32", "max_tokens=256"),
        *("load.concurrency=8", "engine.args.speed=5", "engine.args.start-seconds=10"),
        *("++engine.args.first-sleep-seconds=1", f"++engine.args.drift={DRIFT}"),
        *(f"++engine.args.drift-period-s={period_s}", f"engine.sleep={sleep}", "tensor_parallel_size=1"),
        *("hardware.gpus_per_node=1", "tracker=none", "ray.dashboard=false", f"results_dir={results}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_cells(results / "default").to_pylist()
    assert Counter(row["status"] for row in rows) == {"done": 2 * RUNS}
    return sorted(rows, key=lambda row: row["started_at"])


def difference(results: Path) -> Line:
    """What a report says of the throughput with prefix caching against that without."""
    options = Options(results_dir=results, studies=("default",))
    runs = [Run("default", row) for row in read_cells(results / "default").to_pylist()]
    (line,) = (one for one in find(runs, options).lines if one.measure.key == "throughput")
    return line


def test_alternating_runs_are_not_fooled_by_a_machine_that_drifts(tmp_path: Path) -> None:
    rows = measured(tmp_path / "blocks", "on")
    blocks = [[*of] for _, of in groupby(rows, key=lambda row: row["block"])]
    assert [len(of) for of in blocks] == [2] * RUNS
    assert [[row["block_position"] for row in of] for of in blocks] == [[1, 2]] * RUNS
    first = [of[0]["opt"] for of in blocks]
    assert first[0] != first[1]
    assert first[2] != first[3]
    assert all(row["since_wake_s"] is not None for row in rows)
    assert len({row["deployment_start_s"] for row in rows}) == 2
    cost = turns.turns(tmp_path / "blocks" / "default")
    assert cost is not None
    assert (cost.cells, cost.blocks) == (2 * RUNS, RUNS)
    assert RUNS <= len(cost.switches_s) < 2 * RUNS
    assert 0 < median(cost.switches_s) < 1.5
    assert cost.windows_s + cost.starts_s < cost.reserved_s
    assert turns.markdown(tmp_path / "blocks").count("\n") == 3
    paired = difference(tmp_path / "blocks")
    measured(tmp_path / "apart", "off")
    apart = difference(tmp_path / "apart")
    assert apart.verdict == "different"  # though the two do the same
    assert apart.difference is not None
    assert apart.difference < -0.05
    assert paired.comparison is not None
    assert (paired.comparison.unit, paired.comparison.units) == ("block", RUNS)
    assert paired.verdict in ("equivalent", "undecided")
    assert paired.difference == pytest.approx(0.0, abs=0.04)
