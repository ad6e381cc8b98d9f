"""The real command on a real Ray of nodes whose GPUs are declared and not there, seen from outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cluster import checks
from benchmarks.cluster.overhead import Cell, overheads, read, served_s
from benchmarks.cluster.virtual import virtual_cluster
from benchmarks.cluster.watch import Watch, parse, total
from tests.support.cli import sweep


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_metrics_and_state_of_a_sweep_on_two_nodes_are_what_it_stored(tmp_path: Path) -> None:
    with virtual_cluster(nodes=2, gpus=4, cpus=24.0, gpu_type="H200") as cluster:
        with Watch(cluster.metrics, cluster.dashboard) as watch:
            done = sweep(
                "-m",
                "engine=simulated",
                "model=r1-7b",
                "hardware=h200",
                "tensor_parallel_size=1,4",
                "seed=1,2",
                "limit=8",
                "max_tokens=48",
                "load.concurrency=4",
                "engine.args.speed=0.05",
                "engine.args.start-seconds=0.1",
                "tracker=none",
                f"results_dir={tmp_path}",
                f"ray.address={cluster.address}",
            )
        assert done.returncode == 0, done.stdout + done.stderr
        watch.read_the_end(cells=4)
    study = tmp_path / "default"
    cells = read(study)
    deployments = sorted({cell.engine[0] for cell in cells})
    found = [*checks.of_metrics(watch.pages, cells, study), *checks.of_state(watch, deployments, study)]
    assert len(found) > 20
    assert [line for good, line in found if not good] == []
    assert all(0 < one.total < 5 for one in overheads(cells))


gaps = st.tuples(*(st.floats(0.001, 10.0) for _ in range(7)))


def cell(engine: str, ready: float, free: float, gap: tuple[float, ...]) -> Cell:
    """One that begins ``gap[0]`` after ``free``; the rest in the order in which it happens."""
    scheduling, preparing, warm, turning, measured, grading, storing = gap
    warmup_s = preparing, preparing + warm
    measured_s = warmup_s[1] + turning, warmup_s[1] + turning + measured
    duration_s = measured_s[1] + grading
    began = free + scheduling
    return Cell(
        (engine, str(ready)),
        1,
        1.0,
        ready,
        began,
        warmup_s,
        measured_s,
        duration_s,
        began + duration_s + storing,
    )


@given(engines=st.lists(st.lists(gaps, min_size=1, max_size=4), min_size=1, max_size=3))
def test_an_engines_time_is_its_own_and_the_overhead_and_nothing_else(
    engines: list[list[tuple[float, ...]]],
) -> None:
    cells = []
    for number, work in enumerate(engines):
        free = ready = 100.0 * number
        for gap in work:
            cells.append(cell(f"e{number}", ready, free, gap))
            free = cells[-1].committed
    cells.sort(key=lambda one: one.committed)
    found = overheads(cells)
    own_s = sum(one.engine_s for one in cells)
    assert sum(one.total for one in found) == pytest.approx(served_s(cells) - own_s)
    added = [sum(gap) - gap[2] - gap[4] for work in engines for gap in work]
    assert sorted(one.total for one in found) == pytest.approx(sorted(added))


def test_a_page_is_read_by_the_labels_of_the_sweeps_own_metrics() -> None:
    page = parse(
        'ray_orchestrator_cells{Version="2",status="done",study="s"} 3.0\n'
        'ray_orchestrator_cells{Version="2",status="running",study="s"} 2.0\n'
        "ray_node_cpu_count{} 8.0\n"
    )
    assert list(page) == ["ray_orchestrator_cells"]
    assert total(page, "cells") == 5
    assert total(page, "cells", status="done") == 3
    assert total(page, "gpus") == 0
