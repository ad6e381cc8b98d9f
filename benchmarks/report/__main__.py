"""What a report on a large study takes: time, memory, and how large its page is.

    python -m benchmarks.report                         # 2,000 cells with 500 requests, five runs of each
    python -m benchmarks.report --cells 200 --runs 1    # smaller; every configuration measured once
    python -m benchmarks.report --results FOLDER        # keeps the study there, and takes what there is

The study is synthetic and is made first, through the project's own metrics and writer (some 0.2 s a cell);
only ``python -m orchestrator.report`` is measured, as a process of its own. Memory is the largest sum over
that process and its children, looked at 20 times a second. Ends with 1 above 60 s or 4 GiB.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import track

from benchmarks.report.study import make, most

MOST_S, MOST_BYTES = 60.0, 4 * 2**30
LOOK_S = 0.05


@dataclass(frozen=True)
class Used:
    """``wall_s`` and ``cpu_s``, user and system, of the process and its children; ``peak_bytes`` at once."""

    code: int
    wall_s: float
    cpu_s: float
    peak_bytes: int


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=500, help="of each cell")
    parser.add_argument("--runs", type=int, default=5, help="of each configuration")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where the study is kept")
    asked = parser.parse_args(arguments)
    if min(asked.cells, asked.requests, asked.runs) < 1 or asked.cells > most(asked.runs):
        parser.error(
            f"--cells must be 1 to {most(asked.runs):,} with --runs {asked.runs}, all of them 1 or more"
        )
    with contextlib.ExitStack() as stack:
        results = asked.results or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        study = f"report-{asked.cells}-{asked.requests}-{asked.runs}"
        console = Console(stderr=True)
        for _ in track(
            make(results, study, asked.cells, asked.requests, asked.runs),
            "making the study",
            asked.cells,
            console=console,
            disable=not console.is_terminal,
        ):
            pass
        out = results / f"{study}-report"
        command = [sys.executable, "-m", "orchestrator.report", f"results_dir={results}", f"study={study}"]
        used = measured([*command, f"out={out}"])
        return _told(used, out) if used.code == 0 else 1


def measured(command: Sequence[str]) -> Used:
    """Runs it."""
    before, began, peak = os.times(), time.perf_counter(), 0
    process = subprocess.Popen(command)
    with contextlib.suppress(psutil.Error):
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _resident(watched))
            time.sleep(LOOK_S)
    code, wall_s, after = process.wait(), time.perf_counter() - began, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Used(code, wall_s, cpu_s, peak)


def _resident(process: psutil.Process) -> int:
    """Bytes, with its children's."""
    held = 0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            held += one.memory_info().rss
    return held


def _told(used: Used, out: Path) -> int:
    """Prints what was used and returns the exit code."""
    page = out / "index.html"
    rest = sum(path.stat().st_size for path in (out / "files").iterdir())
    print(f"wall {used.wall_s:.1f} s (at most {MOST_S:g}), CPU {used.cpu_s:.1f} s")
    print(f"peak {used.peak_bytes / 2**30:.2f} GiB (at most {MOST_BYTES / 2**30:g})")
    print(f"page {page.stat().st_size / 1e6:.2f} MB, the files beside it {rest / 1e6:.1f} MB")
    return int(used.wall_s > MOST_S or used.peak_bytes > MOST_BYTES)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
