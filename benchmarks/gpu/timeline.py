"""Draws one cell's telemetry: how busy the GPU was, how busy the engine's busiest process, the GPU's power.

python -m benchmarks.gpu.timeline STUDY CELL_ID OUT.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import pyarrow.compute as pc

matplotlib.use("svg")
import matplotlib.pyplot as plt

from orchestrator.store.read import read_requests, read_telemetry

INK, GPU, CPU, POWER = "#24292f", "#54aeff", "#cf222e", "#8c959f"


def draw(study_dir: Path, cell_id: str, out: Path) -> None:
    """Writes the picture. Zero is when the cell's first request was sent; of several GPUs one is drawn."""
    samples = read_telemetry(study_dir, cell_id)
    requests = read_requests(study_dir, [cell_id])
    zero_s, end_s = pc.min(requests["sent_s"]).as_py(), pc.max(requests["end_s"]).as_py()
    at = [t_s - zero_s for t_s in samples["t_s"].to_pylist()]
    column = {
        name: [_first(value) for value in samples[name].to_pylist()]
        for name in ("gpu_util", "engine_cpu_busiest", "gpu_power_w")
    }
    plt.rcParams |= {"font.family": "sans-serif", "text.color": INK, "svg.fonttype": "none", "font.size": 9}
    figure, (busy, power) = plt.subplots(2, 1, figsize=(9.4, 3.6), sharex=True, height_ratios=(2, 1))
    busy.fill_between(at, 0, [100 * one for one in column["gpu_util"]], step="pre", color=GPU, label="GPU")
    busy.plot(
        at,
        [100 * one for one in column["engine_cpu_busiest"]],
        color=CPU,
        linewidth=1.4,
        label="busiest process of the engine, of one CPU",
    )
    busy.set_ylabel("busy, %")
    busy.set_ylim(0, 125)
    busy.legend(loc="upper right", ncols=2, frameon=False)
    power.plot(at, column["gpu_power_w"], color=POWER, linewidth=1.4)
    power.set_ylabel("GPU power, W")
    power.set_ylim(0, None)
    power.set_xlabel("seconds")
    power.set_xlim(0, end_s - zero_s)
    for axis in (busy, power):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})


def _first(value: float | list[float] | None) -> float:
    """Of a GPU's column, whose lists have one entry a GPU, the first."""
    first = value[0] if isinstance(value, list) else value
    return float("nan") if first is None else first


if __name__ == "__main__":
    draw(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
