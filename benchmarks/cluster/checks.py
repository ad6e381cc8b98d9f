"""What must be true of the dashboards and metrics of a sweep that has ended well, each as a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds

from benchmarks.cluster.overhead import Cell
from benchmarks.cluster.watch import Series, Watch, total
from orchestrator.store.ledger import reservations
from orchestrator.track.grafana import panels
from orchestrator.track.metric_names import METRICS, exported

Check = tuple[bool, str]
RATE_S = 3.0  # a running cell is asked once a second, and its rate takes two answers


def of_metrics(pages: Sequence[dict[str, Series]], cells: Sequence[Cell], study: Path) -> Iterator[Check]:
    """The pages that were scraped, beside what the study stored. The last one was read after the sweep."""
    last, count = pages[-1], len(cells)
    seen = {name for page in pages for name in page}
    asked = {
        name for panel in panels() for query, _ in panel.queries for name in re.findall(r"\bray_\w+", query)
    }
    yield (
        asked <= seen,
        f"every metric of the Grafana dashboard was scraped: {len(asked & seen)} of {len(asked)}",
    )
    series = [dict(labels) for page in pages for found in page.values() for labels in found]
    yield all(all(labels.values()) for labels in series), "none of its labels is empty"
    studies = {labels["study"] for labels in series}
    yield studies == {f"{study.name} SIMULATED"}, f"the study is called {', '.join(sorted(studies))}"

    done, finished = (total(last, name, status="done") for name in ("cells", "finished_cells"))
    yield (
        done == finished == count,
        f"cells done: {done:g}, counted: {finished:g}, stored: {count}",
    )
    sums = {total(page, "cells") for page in pages}
    yield sums == {count}, f"cells of all states, on {len(pages)} pages: {_span(sums)}"
    running = max(total(page, "cells", status="running") for page in pages)
    yield running >= 1, f"cells running at once, at most: {running:g}"
    phases = total(last, "deployments")
    yield phases == 0, f"deployments waiting, starting, ready or measuring at the end: {phases:g}"

    gpus = {total(page, "gpus") for page in pages if "ray_orchestrator_gpus" in page}
    declared = max(gpus)
    yield gpus == {declared}, f"GPUs of all states: {_span(gpus)}"
    most = max(total(page, "gpus", state="measuring") for page in pages)
    yield 0 < most <= declared, f"GPUs measuring at once, at most: {most:g} of {declared:g}"
    held = total(last, "gpus", state="measuring") + total(last, "gpus", state="reserved")
    yield held == 0, f"GPUs held at the end: {held:g}"

    left = [total(page, "eta_seconds") for page in pages]
    yield max(left) > 0 == left[-1], f"time left: {max(left):.0f} s at most, {left[-1]:g} s at the end"
    column = ds.dataset(study / "requests").to_table(columns=["output_tokens"])["output_tokens"]
    stored, tokens = pc.sum(column).as_py(), total(last, "output_tokens")
    yield tokens == stored, f"output tokens: {tokens:,.0f}, stored: {stored:,}"
    rate = max(total(page, "output_tokens_per_second") for page in pages)
    too_short = max(cell.measured_s[1] - cell.measured_s[0] for cell in cells) < RATE_S
    yield rate > 0 or too_short, f"output tokens per second, at most: {rate:,.0f}"
    named = {labels for page in pages for labels in page.get(exported("cell_output_tokens"), {})}
    served = len({cell.engine[0] for cell in cells})
    yield len(named) == served, f"deployments with tokens of their running cells: {len(named)} of {served}"

    measured = sum(cell.gpus * (cell.measured_s[1] - cell.measured_s[0]) for cell in cells)
    reserved = sum(one.gpu_s for one in reservations(study))
    for name, true in (("window_gpu_seconds", measured), ("reserved_gpu_seconds", reserved)):
        counted = total(last, name)
        yield abs(counted / true - 1) < 0.02, f"{METRICS[name].meaning}: {counted:,.0f}, stored: {true:,.0f}"
    efficiency = total(last, "efficiency")
    yield abs(efficiency - measured / reserved) < 0.01, f"efficiency: {efficiency:.3f}"


def of_state(watch: Watch, deployments: Sequence[str], study: Path) -> Iterator[Check]:
    """The placement groups and actors that Ray's state API listed, beside the reservations; the last list is
    of after the sweep. ``deployments``: their ids, one of which is in every name."""
    slots = len(reservations(study))
    for kind, listed, lived, gone in (
        ("placement groups", watch.groups, "CREATED", "REMOVED"),
        ("actors", watch.actors, "ALIVE", "DEAD"),
    ):
        yield len(listed) == slots, f"{kind}: {len(listed)}, reservations: {slots}"
        named = [name for name in listed if set(name.split()) & set(deployments)]
        yield len(named) == len(listed), f"{kind} named by a deployment, such as '{listed and named[0]}'"
        seen = sum(lived in states for states in listed.values())
        yield seen >= 1, f"{kind} seen {lived}: {seen}"
        left = sum(gone not in states for states in listed.values())
        yield left == 0, f"{kind} left at the end: {left}"


def _span(values: set[float]) -> str:
    return " to ".join(f"{value:g}" for value in sorted({min(values), max(values)}))
