"""What a command costs beside its work: the wall time of a real sweep on a simulated engine, less the
simulated work.

``python -m benchmarks.cluster.fixed [--times N] [--checkout DIR ...] [OVERRIDE...]`` prints seven parts,
each the median of N runs, in seconds, and ends with 1 where the last checkout's add up to more than 6 s.
Several checkouts take turns, so that what else the machine does befalls them alike; CPU seconds are those of
the command and of what it waited for. The parts:

    plan     the command begins → its plan is printed: imports, composing, planning
    Ray      → the first engine is asked for: importing Ray, starting its daemons, connecting
    worker   → the worker begins to start the engine: its process and imports
    engine   → the engine is ready, less the start that it simulates
    cells    → the last cell is on the disk, less the time in which the engine has requests
    end      → the last line is printed: engine, workers and daemons end, the results' table
    exit     → the command is gone

The dashboard is on, as it is by default; it is not waited for.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cluster.overhead import read

AT_MOST_S = 6.0
START_S = 2.0
SPEED = 10.0
SWEEP = (
    *("-m", "engine=simulated", "model=r1-7b", "hardware=h200", "tracker=none", "max_tokens=1000,2000"),
    *("limit=16", "load.concurrency=8", f"engine.args.speed={SPEED:g}"),
    f"engine.args.start-seconds={START_S * SPEED:g}",
)
PARTS = ("plan", "Ray", "worker", "engine", "cells", "end", "exit")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--checkout", type=Path, action="append", help="default: this one")
    parser.add_argument("overrides", nargs="*", help="as of a sweep")
    chosen = parser.parse_args()
    checkouts = chosen.checkout or [Path(__file__).parents[2]]
    runs: dict[Path, list[dict[str, float]]] = {checkout: [] for checkout in checkouts}
    for _ in range(chosen.times):
        for checkout, found in runs.items():
            found.append(measured(checkout, chosen.overrides))
    columns = (*PARTS, "fixed", "work", "CPU")
    print(f"{len(os.sched_getaffinity(0))} cores; medians of {chosen.times}, seconds")
    print("".join(f"{name:>8}" for name in columns))
    worst = 0.0
    for checkout, found in runs.items():
        middle = {name: statistics.median(run[name] for run in found) for name in columns}
        print("".join(f"{middle[name]:8.2f}" for name in columns), checkout if len(runs) > 1 else "")
        worst = middle["fixed"]
    if worst > AT_MOST_S:
        print(f"more than {AT_MOST_S:g} s of fixed cost")
    return worst > AT_MOST_S


def measured(checkout: Path, overrides: list[str]) -> dict[str, float]:
    """One run's parts, their sum ``fixed``, the simulated ``work`` and ``CPU``, all in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "orchestrator.sweep", *SWEEP, *overrides, f"results_dir={folder}"]
        environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONUNBUFFERED": "1"}
        cpu_s, began = _cpu_s(), time.time()
        said: dict[str, float] = {}
        with subprocess.Popen(
            command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                for mark in ("Plan of study", "starting the engine", "results: "):
                    if mark in line:
                        said.setdefault(mark, time.time())
        ended = time.time()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        cells = read(Path(folder) / "default")
    ready, asked = cells[0].engine_ready, cells[0].engine_ready - cells[0].engine_start_s
    own_s = sum(cell.engine_s for cell in cells)
    parts = {
        "plan": said["Plan of study"] - began,
        "Ray": said["starting the engine"] - said["Plan of study"],
        "worker": asked - said["starting the engine"],
        "engine": ready - asked - START_S,
        "cells": cells[-1].committed - ready - own_s,
        "end": said["results: "] - cells[-1].committed,
        "exit": ended - said["results: "],
    }
    return parts | {"fixed": sum(parts.values()), "work": START_S + own_s, "CPU": _cpu_s() - cpu_s}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
