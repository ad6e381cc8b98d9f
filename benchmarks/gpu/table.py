"""The table of docs/h200.md, from what the sweeps stored:  python -m benchmarks.gpu.table RESULTS"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.metrics.engine import gpu_starved_share
from orchestrator.metrics.window import Window
from orchestrator.records import Sample
from orchestrator.store.read import read_cells, read_requests, read_telemetry

Row = Mapping[str, Any]


def _ms(row: Row, key: str) -> str:
    return "" if row[key] is None else f"{1000 * row[key]:,.{0 if row[key] > 0.1 else 1}f}"


def _percent(row: Row, key: str) -> str:
    return "" if row[key] is None else f"{100 * row[key]:.0f} %"


def _load(row: Row) -> str:
    if row["load"] == "closed":
        return f"closed, {row['concurrency']}"
    return f"{row['load']}, {row['request_rate']:g}/s, burstiness {row['burstiness']:g}"


def _cpu_s(row: Row) -> str:
    """Of each kind of the engine's processes that took over 1 s while the cell ran."""
    seconds = json.loads(row["provenance"]).get("engine_cpu_s") or {}
    return ", ".join(f"{name} {took:.1f}" for name, took in sorted(seconds.items()) if took > 1)


def _accuracy(row: Row) -> str:
    if row["accuracy"] is None:
        return ""
    low, high = 100 * row["accuracy_low"], 100 * row["accuracy_high"]
    return f"{100 * row['accuracy']:.1f} % [{low:.1f}, {high:.1f}]"


COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "study": lambda row: row["study"],
    "model": lambda row: row["model"],
    "engine": lambda row: f"{row['engine']} {row['engine_version']}",
    "opt": lambda row: "+".join(row["opt"]),
    "TP": lambda row: "" if row["tensor_parallel_size"] in (None, 1) else f"{row['tensor_parallel_size']}",
    "dataset": lambda row: row["dataset"],
    "load": _load,
    "usage": lambda row: "" if row["usage"] == "continuous" else row["usage"],
    "top p": lambda row: "" if row["top_p"] in (None, 0.95) else f"{row['top_p']:g}",
    "API servers": lambda row: str(json.loads(row["engine_args"]).get("api-server-count", "")),
    "requests": lambda row: f"{row['requests_ok']}/{row['requests_total']}",
    "prompt tokens": lambda row: (
        f"{row['prompt_tokens'] / row['requests_ok']:.0f}"
        if row["prompt_tokens"] and row["requests_ok"]
        else ""
    ),
    "output tokens/s": lambda row: f"{row['output_token_per_s']:,.0f}" if row["output_token_per_s"] else "",
    "TTFT p50 ms": lambda row: _ms(row, "ttft_s_p50"),
    "TTFT p99 ms": lambda row: _ms(row, "ttft_s_p99"),
    "TPOT p50 ms": lambda row: _ms(row, "tpot_s_p50"),
    "within SLO": lambda row: _percent(row, "slo_attainment"),
    "KV max": lambda row: _percent(row, "kv_usage_max"),
    "hits": lambda row: _percent(row, "prefix_hit_rate"),
    "accepted": lambda row: _percent(row, "spec_acceptance_rate"),
    "GPU busy": lambda row: _percent(row, "gpu_util_mean"),
    "GPU starved": lambda row: _percent(row, "gpu_starved_share"),
    "busiest process": lambda row: _percent(row, "engine_cpu_busiest_mean"),
    "engine's CPUs": lambda row: f"{row['engine_cpus_mean']:.1f}" if row["engine_cpus_mean"] else "",
    "CPU s": _cpu_s,
    "J/token": lambda row: f"{row['joule_per_output_token']:.2f}" if row["joule_per_output_token"] else "",
    "accuracy": _accuracy,
    "clients": lambda row: str(json.loads(row["provenance"]).get("client_processes", "")),
    "send lag p99 ms": lambda row: _ms(row, "send_lag_s_p99"),
    "start s": lambda row: f"{row['deployment_start_s']:.0f}" if row["deployment_start_s"] else "",
    "verdict": lambda row: " ".join([row["status"], *row["flags"]]),
}


def markdown(results: Path) -> str:
    """One row per stored cell of every study under ``results``; columns empty for all are left out."""
    rows = [row for study in sorted(results.glob("*/cells")) for row in _rows(study.parent)]
    if not rows:
        return "no cell is stored\n"
    cells = {name: [show(row) for row in rows] for name, show in COLUMNS.items()}
    kept = {name: values for name, values in cells.items() if any(values)}
    lines = [list(kept), ["---"] * len(kept), *map(list, zip(*kept.values(), strict=True))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _rows(study_dir: Path) -> Sequence[Row]:
    order = ("model", "engine", "dataset", "load", "concurrency", "opt", "tensor_parallel_size")
    rows = [
        row | {"gpu_starved_share": _starved(study_dir, row)} for row in read_cells(study_dir).to_pylist()
    ]
    return sorted(rows, key=lambda row: [str(row[key] or "").rjust(8) for key in order])


def _starved(study_dir: Path, row: Row) -> float | None:
    """The column, or what it would have been for a cell stored before there was one."""
    share: float | None = row["gpu_starved_share"]
    if share is not None or not row["window_s"]:
        return share
    requests = read_requests(study_dir, [row["cell_id"]])
    sent_s = min(one for one in requests["sent_s"].to_pylist() if one is not None)
    samples = [_sample(one) for one in read_telemetry(study_dir, row["cell_id"]).to_pylist()]
    return gpu_starved_share(samples, Window(sent_s, sent_s + row["window_s"]))


def _sample(one: Row) -> Sample:
    return Sample(
        one["t_s"],
        running=one["running"],
        engine_cpu_busiest=one["engine_cpu_busiest"],
        gpu_util=None if one["gpu_util"] is None else tuple(one["gpu_util"]),
    )


if __name__ == "__main__":
    sys.stdout.write(markdown(Path(sys.argv[1])))
