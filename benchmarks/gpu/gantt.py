"""Draws what each GPU did over a sweep: who was on it by NVML (`watch.py`), and what for by the study.

python -m benchmarks.gpu.gantt STUDY WATCH OUT.svg
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from benchmarks.gpu.seen import Engine, engines
from benchmarks.gpu.watch import label_of
from orchestrator.store.ledger import reservations
from orchestrator.store.read import read_cells

INK, FRAME = "#24292f", "#afb8c1"
STARTING, MEASURING = "starting", "measuring"
LOST = "a cell that its worker took along"
LEFT, FAILED = "worker killed, its engine still on the GPU", "start failed"
# The colour, and which part of a GPU's row is taken: of two engines on one GPU each gets a half.
KINDS = {
    STARTING: ("#d8dee4", 0.0, 1.0),
    MEASURING: ("#54aeff", 0.0, 1.0),
    LOST: ("#b6e3ff", 0.0, 1.0),
    LEFT: ("#ff8182", 0.0, 0.5),
    FAILED: ("#d4a72c", 0.5, 0.5),
}
HEIGHT = 0.86


@dataclass(frozen=True)
class Bar:
    kind: str
    begins_s: float
    ends_s: float


def bars(
    engine: Engine, end_s: float, cells: Sequence[Mapping[str, Any]], held_s: Sequence[float]
) -> list[Bar]:
    """``cells`` of the engine's deployment, and when something was reserved for it. An engine that measured
    nothing began with the last reservation before it was seen, and failed unless the watch ended first."""
    own = [row for row in cells if engine.first_s <= row["started_at"].timestamp() <= engine.last_s]
    if own:
        ready_s = datetime.fromisoformat(json.loads(own[0]["provenance"])["engine_ready_at"]).timestamp()
        begins = [row["started_at"].timestamp() for row in own]
        measuring = [Bar(MEASURING, at, at + row["duration_s"]) for at, row in zip(begins, own, strict=True)]
        starting = Bar(STARTING, ready_s - own[0]["deployment_start_s"], ready_s)
        if engine.killed_s is None:
            return [starting, *measuring]
        ended = [Bar(LOST, measuring[-1].ends_s, engine.killed_s), Bar(LEFT, engine.killed_s, engine.last_s)]
        return [starting, *measuring, *ended]
    began_s = max((at for at in held_s if at <= engine.first_s), default=engine.first_s)
    if engine.killed_s is not None:
        return [Bar(STARTING, began_s, engine.killed_s), Bar(LEFT, engine.killed_s, engine.last_s)]
    return [Bar(STARTING if engine.last_s == end_s else FAILED, began_s, engine.last_s)]


def draw(study_dir: Path, watch: Path, out: Path) -> None:
    """Writes the picture."""
    deployments: dict[str, str] = {}
    for log in study_dir.glob("logs/*/engine.log"):
        with log.open() as file:
            deployments[label_of(shlex.split(file.readline()))] = log.parent.name
    cells = [row for row in read_cells(study_dir).to_pylist() if row["deployment_start_s"] is not None]
    cells.sort(key=lambda row: row["started_at"])
    held = reservations(study_dir)
    found, end_s = engines(watch)
    drawn: list[tuple[Engine, list[Bar]]] = []
    for engine in found:
        key = deployments.get(engine.label)
        own = [row for row in cells if row["deployment_id"] == key]
        # What was reserved for it may have held another engine before it.
        free_s = max((one.last_s for one in found if _before(one, engine)), default=0.0)
        held_s = [max(one.started_at.timestamp(), free_s) for one in held if key in one.deployments]
        drawn.append((engine, bars(engine, end_s, own, held_s)))
    gpus = 1 + max(gpu for engine in found for gpu in engine.gpus)
    zero_s = min(bar.begins_s for _, listed in drawn for bar in listed)

    plt.rcParams |= {"font.family": "sans-serif", "text.color": INK, "svg.fonttype": "none"}
    figure, axis = plt.subplots(figsize=(9.4, 0.75 * gpus + 1.25))
    for gpu in range(gpus):
        axis.barh(gpu, end_s - zero_s, left=0, height=HEIGHT, color="white", edgecolor=FRAME, linewidth=0.6)
    for engine, listed in drawn:
        for top, bottom in _runs(engine.gpus):
            _engine(axis, engine, listed, zero_s, top, bottom)
    axis.set_yticks(range(gpus), [f"GPU {gpu}" for gpu in range(gpus)])
    axis.set_xlim(0, end_s - zero_s)
    axis.set_ylim(gpus - 0.5, -0.62)
    axis.set_xlabel("seconds")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(labelsize=9, left=False)
    kinds = [kind for kind in KINDS if any(bar.kind == kind for _, listed in drawn for bar in listed)]
    handles = [Patch(color=KINDS[kind][0], label=kind) for kind in kinds]
    handles.append(Patch(facecolor="white", edgecolor=FRAME, label="idle"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(out, metadata={"Date": None})


def _before(one: Engine, engine: Engine) -> bool:
    return one.last_s <= engine.first_s and bool(set(one.gpus) & set(engine.gpus))


def _runs(gpus: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    runs: list[tuple[int, int]] = []
    for gpu in sorted(gpus):
        if runs and runs[-1][1] == gpu - 1:
            runs[-1] = (runs[-1][0], gpu)
        else:
            runs.append((gpu, gpu))
    return runs


def _engine(axis: Any, engine: Engine, listed: Sequence[Bar], zero_s: float, top: int, bottom: int) -> None:
    """One engine's bars over the rows ``top`` to ``bottom``, with its name where there is room for it."""
    high, size = top - HEIGHT / 2, bottom - top + HEIGHT
    for bar in listed:
        color, offset, share = KINDS[bar.kind]
        left, width = bar.begins_s - zero_s, bar.ends_s - bar.begins_s
        where = {"align": "edge", "height": share * size, "edgecolor": "white", "linewidth": 0.6}
        axis.barh(high + offset * size, width, left=left, color=color, **where)
    model, *others = engine.label.split()
    quantized = [word for word in others if not word.isdigit()]
    name = f"{model}\n{' '.join(quantized) or 'bf16'}"
    last = listed[-1]
    _, offset, share = KINDS[last.kind]
    whole = len(listed) > 2  # it measured something: the name stands in its start
    at_s = (listed[0].begins_s + (last.ends_s if last.kind == LEFT and not whole else listed[0].ends_s)) / 2
    offset, share = (0.0, 1.0) if whole else (offset, share)
    beside = last.kind == FAILED
    style = {"ha": "left" if beside else "center", "va": "center", "fontsize": 8, "linespacing": 1.1}
    left = last.ends_s - zero_s + 5 if beside else at_s - zero_s
    axis.text(left, high + (offset + share / 2) * size, name, **style)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
