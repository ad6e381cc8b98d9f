"""Draws a study's requests over time: a panel per cell, a row per model and engine, reasoning models first.

``python docs/picture.py results/demo docs/demo.svg``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from orchestrator.store.read import read_cells, read_requests

INK, WAIT, THINK, ANSWER = "#24292f", "#d0d7de", "#8250df", "#1f6feb"


def draw(study_dir: Path, out: Path) -> None:
    """Writes the picture. Cells that are not done are left out."""
    cells = [row for row in read_cells(study_dir).to_pylist() if row["status"] == "done"]
    cells.sort(key=lambda row: (*_row(row), row["opt"], row["max_tokens"]))
    rows = len({_row(row) for row in cells})
    columns = -(-len(cells) // rows)
    requests: dict[str, list[dict[str, Any]]] = {row["cell_id"]: [] for row in cells}
    for request in read_requests(study_dir, list(requests)).to_pylist():
        requests[request["cell_id"]].append(request)
    plt.rcParams |= {"font.family": "sans-serif", "text.color": INK, "svg.fonttype": "none"}
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.0 * columns, 2.6 * rows + 0.6), sharey=True, sharex=True, squeeze=False
    )
    for axis, cell in zip(axes.flat, cells, strict=True):
        _panel(axis, cell, requests[cell["cell_id"]])
    for axis in axes[:, 0]:
        axis.set_ylabel("requests, in the order sent")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    shown = [("waiting for the first token", WAIT), ("answering", ANSWER)]
    if any(request["thinking_s"] for group in requests.values() for request in group):
        shown.insert(1, ("thinking", THINK))
    handles = [Line2D([], [], color=color, linewidth=6, label=name) for name, color in shown]
    figure.legend(handles=handles, loc="lower center", ncols=len(shown), frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(out, metadata={"Date": None})


def _row(cell: dict[str, Any]) -> tuple[Any, ...]:
    return cell["model_kind"] != "reasoning", cell["model"], cell["engine"] != "vllm", cell["engine"]


def _panel(axis: Any, cell: dict[str, Any], requests: list[dict[str, Any]]) -> None:
    requests.sort(key=lambda request: request["sent_s"])
    zero = requests[0]["sent_s"]
    phases: dict[str, list[tuple[int, float, float]]] = {WAIT: [], THINK: [], ANSWER: []}
    for row, request in enumerate(requests):
        times = [request[name] for name in ("sent_s", "first_token_s", "first_visible_s", "last_token_s")]
        sent, first, visible, last = (None if at is None else at - zero for at in times)
        if sent is None or first is None or last is None:
            continue
        visible = last if visible is None else visible
        for color, start, end in ((WAIT, sent, first), (THINK, first, visible), (ANSWER, visible, last)):
            phases[color].append((row, start, end))
    for color, bars in phases.items():
        if bars:
            axis.hlines(*zip(*bars, strict=True), colors=color, linewidth=3.2)
    opts = [] if cell["opt"] == ["none"] else ["+".join(cell["opt"])]
    name = ", ".join([cell["model"], cell["engine"], *opts])
    axis.set_title(f"{name}\n{cell['max_tokens']} tokens at most", fontsize=10, loc="left")
    figures = f"{100 * cell['accuracy']:.0f} % right, {100 * cell['truncated_rate']:.0f} % cut off"
    axis.set_xlabel(f"seconds\n{figures}", fontsize=9)
    axis.set_ylim(len(requests), -1)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, labelbottom=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
