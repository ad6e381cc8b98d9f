"""How much of the time that an engine is held is spent measuring: one sweep, an engine per cell, a peer.

    python -m benchmarks.efficiency [--way WAY]... [OVERRIDE...]

Twelve cells: two optimizations, three concurrencies, two seeds. Each way runs them once:

- ``sweep``: one `orchestrator.sweep` command;
- ``engine-per-cell``: a command for each, which is what a loop in a shell does;
- ``vllm-bench-sweep``: one `vllm bench sweep serve`, with our engines' flags, the same questions, sampling
  and budget, and a warm-up wave before each run.

Efficiency is the seconds inside measurement windows (from the first request sent to the last one ended) over
those that the engine's resources were held. Overrides are those of a sweep, and hold for every way. Described
in docs/efficiency.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from benchmarks.efficiency import peer
from benchmarks.efficiency.plans import planned
from orchestrator.store.ledger import reservations
from orchestrator.store.read import read_cells, read_requests

SEEDS = (0, 1)


@dataclass(frozen=True)
class Points:
    """What is measured: every combination, each on the first ``limit`` questions. ``alone`` is how many of
    them, evenly spread, the second way runs."""

    opts: tuple[str, ...]
    concurrency: tuple[int, ...]
    limit: int
    alone: int
    overrides: tuple[str, ...]

    def cells(self) -> list[tuple[str, ...]]:
        """The overrides that tell one cell from the others, in the order of a sweep."""
        return [
            (f"opt={opt}", f"load.concurrency={concurrency}", f"seed={seed}")
            for opt, concurrency, seed in itertools.product(self.opts, self.concurrency, SEEDS)
        ]

    def alone_cells(self) -> list[tuple[str, ...]]:
        """Those that the second way runs."""
        cells = self.cells()
        chosen = [round((index + 0.5) * len(cells) / self.alone - 0.5) for index in range(self.alone)]
        return [cells[index] for index in chosen]

    def shared(self, folder: Path, study: str) -> list[str]:
        where = [f"results_dir={folder}", f"study_name={study}", "tracker=none"]
        return ["load=closed", f"limit={self.limit}", *where, *self.overrides]


@dataclass(frozen=True)
class Outcome:
    """Sums over one way. ``cells`` counts them by status; seconds are inside windows, of engines held, and of
    the whole commands."""

    cells: Counter[str]
    engines: int
    output_tokens: int
    window_s: float
    held_s: float
    wall_s: float

    def row(self, way: str) -> str:
        beside_s = (self.held_s - self.window_s) / self.cells.total()
        columns = (
            way,
            ", ".join(f"{count} {status}" for status, count in self.cells.items()),
            f"{self.engines}",
            f"{self.output_tokens:,}",
            f"{self.window_s:.1f}",
            f"{self.held_s:.1f}",
            f"{100 * self.window_s / self.held_s:.1f} %",
            f"{beside_s:.1f}",
            f"{self.wall_s:.0f}",
        )
        return f"| {' | '.join(columns)} |"


COLUMNS = (
    *("way", "cells", "engines", "output tokens", "in windows s", "held s", "efficiency"),
    *("beside s a cell", "commands took s"),
)


def one_sweep(points: Points, folder: Path) -> Outcome:
    began_s = time.monotonic()
    varied = [
        f"opt={','.join(points.opts)}",
        f"load.concurrency={','.join(map(str, points.concurrency))}",
        f"seed={','.join(map(str, SEEDS))}",
    ]
    _sweep([*points.shared(folder, "sweep"), *varied])
    return stored([folder / "sweep"], time.monotonic() - began_s)


def engine_per_cell(points: Points, folder: Path) -> Outcome:
    began_s = time.monotonic()
    studies = {f"cell-{index}": cell for index, cell in enumerate(points.alone_cells())}
    for study, cell in studies.items():
        _sweep([*points.shared(folder, study), *cell])
    return stored([folder / study for study in studies], time.monotonic() - began_s)


def vllm_bench_sweep(points: Points, folder: Path) -> Outcome:
    deployments = [planned([*points.shared(folder, "plan"), f"opt={opt}"]) for opt in points.opts]
    began_s = time.monotonic()
    runs, held_s = peer.run(deployments, points.concurrency, SEEDS, folder)
    statuses = Counter(
        "done" if run.completed == points.limit else f"with {points.limit - run.completed} lost"
        for run in runs
    )
    window_s, tokens = sum(run.duration_s for run in runs), sum(run.output_tokens for run in runs)
    return Outcome(statuses, len(deployments), tokens, window_s, held_s, time.monotonic() - began_s)


WAYS = {"sweep": one_sweep, "engine-per-cell": engine_per_cell, "vllm-bench-sweep": vllm_bench_sweep}


def stored(studies: Sequence[Path], wall_s: float) -> Outcome:
    """What the studies' rows and reservations come to."""
    statuses: Counter[str] = Counter()
    engines = tokens = 0
    window_s = held_s = 0.0
    for study in studies:
        statuses.update(read_cells(study)["status"].to_pylist())
        requests = read_requests(study)
        tokens += pc.sum(requests["output_tokens"]).as_py() or 0
        times = requests.group_by("cell_id").aggregate([("sent_s", "min"), ("end_s", "max")])
        window_s += pc.sum(pc.subtract(times["end_s_max"], times["sent_s_min"])).as_py() or 0.0
        engines += len(list((study / "logs").glob("*/engine*.log")))
        held_s += sum(one.duration_s for one in reservations(study))
    return Outcome(statuses, engines, tokens, window_s, held_s, wall_s)


def _sweep(overrides: Sequence[str]) -> None:
    """Cells that are invalid, on a busy machine say, are counted as such: their time passed all the same."""
    words = [sys.executable, "-m", "orchestrator.sweep", "-m", *overrides]
    ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ended.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(words)} ended with {ended.returncode}:\n{ended.stdout}")
    happened = [line for line in ended.stdout.splitlines() if re.match(r" *[\d.]+ s  ", line)]
    print("\n".join(happened), flush=True)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.efficiency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--way", action="append", choices=tuple(WAYS), help="only this one; may be repeated")
    parser.add_argument("--opts", default="none,prefix-cache", help="two of them, for twelve cells")
    parser.add_argument("--concurrency", type=_numbers, default=(2, 4, 8), help="three of them")
    parser.add_argument("--limit", type=int, default=24, help="questions a cell")
    parser.add_argument("--alone", type=int, default=12, help="how many cells get an engine each")
    parser.add_argument("--out", type=Path, help="where studies and the peer's files are kept")
    parser.add_argument("overrides", nargs="*", help="of a sweep")
    args = parser.parse_intermixed_args()
    points = Points(
        tuple(args.opts.split(",")), args.concurrency, args.limit, args.alone, tuple(args.overrides)
    )
    ways = args.way or list(WAYS)
    rows = []
    with tempfile.TemporaryDirectory(prefix="efficiency-") as scratch:
        folder = (args.out or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        first = planned([*points.shared(folder, "plan"), f"opt={points.opts[0]}"])
        if "vllm-bench-sweep" in ways:
            peer.check(first)
        print(f"{platform.platform()}, {len(os.sched_getaffinity(0))} cores: {first.described}", flush=True)
        for way in ways:
            if (own := folder / way).exists():
                parser.error(f"--out: {own} is there already, and would be counted again")
            own.mkdir()
            print(f"\n{way}", flush=True)
            rows.append(WAYS[way](points, own).row(way))
            print(rows[-1], flush=True)
    print("", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows, sep="\n")


if __name__ == "__main__":
    main()
