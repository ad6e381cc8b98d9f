"""A whole sweep against the scripted server: what is stored beside what is true."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.scripted import Truth, serve
from orchestrator.store.read import read_cells, read_requests

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def measure(binary: Path, arguments: argparse.Namespace) -> None:
    """Runs ``orchestrator.sweep engine=external`` and prints a table: metric, stored, true, the difference.
    Raises ValueError when the cell is not done or a request is not accounted for."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(
            binary,
            ttft_s=arguments.ttft_s,
            gap_s=arguments.gap_s,
            together=arguments.together,
            core=None,
        ) as server,
    ):
        overrides = {
            "engine": "external",
            "engine.base_url": f"http://127.0.0.1:{server.port}",
            "hardware": "cpu",
            "tracker": "none",
            "limit": arguments.requests,
            "load.concurrency": arguments.streams,
            "load.processes": arguments.processes[0],
            "max_tokens": arguments.tokens,
            "results_dir": folder,
        }
        flags = [f"{name}={value}" for name, value in overrides.items()]
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.sweep", "-m", *flags], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise ValueError(
                f"the sweep ended with status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"
            )
        study = Path(folder) / "default"
        (cell,) = read_cells(study).to_pylist()
        sent = set(read_requests(study)["request_id"].to_pylist())
        truth = [each for each in server.truth() if each.request_id in sent]
    if not len(truth) == len(sent) == cell["requests_ok"] == arguments.requests:
        raise ValueError(f"{arguments.requests} asked, {len(sent)} stored, {len(truth)} seen by the server")
    print(
        f"{arguments.requests} requests of {arguments.tokens} tokens, {arguments.streams} at a time,", end=" "
    )
    print(f"one every {arguments.gap_s * 1e3:g} ms; status {cell['status']}, flags {cell['flags']}\n")
    print("| metric | stored | true | difference |\n|---|---|---|---|")
    for name, value in expected(truth, arguments.tokens).items():
        stored = cell[name]
        unit, scale = (
            ("ms", 1e3) if name.rsplit("_", 1)[0].endswith("_s") and "per_s" not in name else ("", 1.0)
        )
        print(f"| {name} | {stored * scale:.3f} {unit} | {value * scale:.3f} {unit} |", end=" ")
        print(f"{(stored - value) * scale:+.3f} {unit} ({stored / value - 1:+.2%}) |")


def expected(truth: list[Truth], tokens: int) -> Mapping[str, Any]:
    """The cell's metrics as they follow from the server's own times alone."""
    each = {
        "ttft_s": np.array([t.ttft_s for t in truth]),
        "e2e_s": np.array([t.e2e_s for t in truth]),
        "tpot_s": np.array([(t.last_s - t.first_s) / (tokens - 1) for t in truth]),
    }
    metrics = {f"{name}_mean": values.mean() for name, values in each.items()}
    metrics |= {
        f"{name}_{label}": np.quantile(values, q)
        for name, values in each.items()
        for label, q in _QUANTILES.items()
    }
    window_s = max(t.last_s for t in truth) - min(t.received_s for t in truth)
    return metrics | {
        "request_per_s": len(truth) / window_s,
        "output_token_per_s": len(truth) * tokens / window_s,
    }
