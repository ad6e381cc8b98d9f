"""The engine over time: one panel a configuration, peaks and preemptions kept, and what the sentence says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.records import Sample
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.read import read_runs
from orchestrator.report.theme import MOST_SETTINGS, Figure, specification, svg
from orchestrator.report.variants import sort_out
from orchestrator.report.views.panels import MOST_POINTS, over_time
from orchestrator.store.write import commit
from tests.report.studies import Planted, measured
from tests.store.test_versions import holding, rewrite


def stored(folder: Path, *planted: Planted, samples: Sequence[Sample] | None = None) -> Options:
    """Filled to 98 % for a moment in its middle, with three preemptions in two steps then."""
    samples = samples or [
        Sample(
            t / 4,
            kv_usage=0.98 if t == 1001 else 0.3,
            running=8.0,
            waiting=0.2,
            preemptions_total=float(5 + (t > 1000) + 2 * (t > 1100)),
        )
        for t in range(2000)
    ]
    for one in planted:
        for run in range(one.runs):
            row, records, grades = measured(one, run + 1, np.random.default_rng(0))
            commit(folder / "planted", row["cell_id"], row, records, grades, samples)
    return Options(results_dir=folder, studies=("planted",))


def drawn(options: Options) -> dict[str, Figure]:
    variants, _ = sort_out(read_runs(options))
    found = {figure.name: figure for figure in over_time(variants, Names(variants), options.results_dir)}
    assert all(svg(specification(figure)) for figure in found.values())
    return found


def test_a_peak_of_one_sample_is_kept_among_few_points_and_preemptions_are_marked(tmp_path: Path) -> None:
    figure = drawn(stored(tmp_path, Planted(runs=1), Planted(runs=1, opt=("fp8",))))["kv"]
    lines = [row for row in figure.rows if row["what"] == "kv_usage" and row["label"].endswith("fp8")]
    assert len(lines) <= MOST_POINTS
    assert max(row["value"] for row in lines) == 98
    marks = [row for row in figure.rows if row["what"] == "preempted" and row["label"].endswith("fp8")]
    assert [(row["t_s"], row["value"]) for row in marks] == [(250.25, 1.0), (275.25, 2.0)]
    assert len({row["label"] for row in figure.rows}) == 2


def test_a_gauge_that_moves_all_the_time_is_thinned(tmp_path: Path) -> None:
    samples = [Sample(float(t), kv_usage=0.2 + 0.1 * (t % 7) / 7, running=float(t % 9)) for t in range(1500)]
    figures = drawn(stored(tmp_path, Planted(runs=1), samples=samples))
    for name, least, most in (("kv", 20, 100 * (0.2 + 0.1 * 6 / 7)), ("running", 0, 8)):
        assert len(figures[name].rows) <= MOST_POINTS
        assert max(row["value"] for row in figures[name].rows) == pytest.approx(most)
        assert min(row["value"] for row in figures[name].rows) == least
        assert (figures[name].rows[0]["t_s"], figures[name].rows[-1]["t_s"]) == (0, 1499)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preemptions": 3, "opt": ["none"]}, "an 8-bit KV cache (opt=kv-fp8), fewer requests in flight"),
        ({"preemptions": 3, "opt": ["kv-fp8"]}, "% of the KV cache: fewer requests in flight or more GPUs"),
        ({"preemptions": 0}, "98.0 % of the KV cache, and nothing was preempted: an 8-bit KV cache (opt"),
        ({}, "98.0 % of the KV cache: an 8-bit KV cache"),  # whether anything was preempted is not stored
    ],
)
def test_what_to_do_about_the_kv_cache(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    figure = drawn(stored(tmp_path, Planted(runs=1, changes=tuple(changes.items()))))["kv"]
    assert said in figure.advice


def test_room_in_the_kv_cache_is_counted(tmp_path: Path) -> None:
    samples = [Sample(float(t), kv_usage=0.3) for t in range(9)]
    figures = drawn(stored(tmp_path, Planted(runs=1, changes=(("preemptions", 0),)), samples=samples))
    assert "about 3.0 times as many requests at once would fit" in figures["kv"].advice
    assert "running" not in figures  # no such counter


@pytest.mark.parametrize(
    ("running", "waiting", "said"),
    [
        (16.0, 14.0, "14.0 requests waited on average while 16.0 ran (the KV cache was at most 30.0 % full)"),
        (8.0, 0.1, "the engine took all that was offered"),
        (8.0, None, "whether a queue is the limit cannot be told"),
    ],
)
def test_what_to_do_about_a_queue(tmp_path: Path, running: float, waiting: float | None, said: str) -> None:
    changes = (("running_mean", running), ("waiting_mean", waiting), ("kv_usage_max", 0.3))
    samples = [Sample(float(t), running=running, waiting=waiting) for t in range(9)]
    figure = drawn(stored(tmp_path, Planted(runs=1, changes=changes), samples=samples))["running"]
    assert said in figure.advice


def test_without_samples_there_is_no_such_figure_and_a_failed_cell_has_no_panel(tmp_path: Path) -> None:
    none = [Sample(0.0)]
    assert drawn(stored(tmp_path / "a", Planted(runs=1), samples=none)) == {}
    failed = Planted(runs=1, opt=("awq",), changes=(("status", "failed"),))
    for figure in drawn(stored(tmp_path / "b", Planted(runs=1), failed)).values():
        assert {row["label"] for row in figure.rows} == {"vllm · no optimization"}


def test_settings_without_samples_take_no_place(tmp_path: Path) -> None:
    for place in range(MOST_SETTINGS + 1):
        row, records, grades = measured(Planted(concurrency=place + 1), 1, np.random.default_rng(0))
        last = place == MOST_SETTINGS
        commit(tmp_path / "planted", row["cell_id"], row, records, grades, [Sample(0.0, 0.3)] if last else [])
    figure = drawn(Options(results_dir=tmp_path, studies=("planted",)))["kv"]
    assert [row["setting"] for row in figure.rows] == [f"math500 · {MOST_SETTINGS + 1} in flight"]


def test_a_sample_that_is_no_number_is_absent(tmp_path: Path) -> None:
    options = stored(tmp_path, Planted(runs=1))
    for path in (tmp_path / "planted" / "telemetry").glob("*.parquet"):
        rewrite(path, holding("kv_usage", float("nan")))
    assert set(drawn(options)) == {"running"}
