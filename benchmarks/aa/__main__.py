"""Whether equal cells are told apart: pairs of cells that differ in their seed alone, each measured several
times, compared as different ones would be.

    python -m benchmarks.aa                             # 20 pairs with runs=3 on vLLM on this machine
    python -m benchmarks.aa --part 1/4                  # a quarter of the pairs; the report is on all so far
    python -m benchmarks.aa --busy                      # two busy loops beside half of the pairs
    python -m benchmarks.aa --report                    # measures nothing
    python -m benchmarks.aa engine=simulated engine.args.speed=5      # a rehearsal

Overrides are those of a sweep. What is measured already is not measured again. With ``--busy`` the odd pairs
have busy loops beside them, and the report says which runs were flagged and that no such pair was compared.
Ends with 1 where over 5 % of the comparisons call equal cells different after Holm's correction, where none
could be made, and where a pair with busy loops beside it passed as one that counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.aa.study import ACCURACY, COLUMNS, Pair, compared, false_positives, flags, pairs, seeds
from orchestrator.metrics.runs import null_band
from orchestrator.metrics.significance import LEVEL
from orchestrator.metrics.stats import present

CELL = (
    *("engine=vllm", "model=smollm2-135m", "dataset=arithmetic", "limit=24", "max_tokens=64"),
    *("load=closed", "load.concurrency=4", "tracker=none", "rerun=none", "ray.dashboard=false"),
)
STOPPED = (2, 130)  # exit codes of a sweep after which there is no point in going on


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.aa", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every N-th pair, from the K-th on")
    parser.add_argument("--busy", action="store_true", help="busy loops beside half of the pairs")
    parser.add_argument("--loops", type=int, default=2, help="how many of them")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER")
    asked, overrides = parser.parse_known_args(arguments)
    if asked.pairs < 1 or asked.runs < 1 or asked.loops < 1:
        parser.error("--pairs, --runs and --loops must be 1 or more")
    part, parts = _part(parser, asked.part)
    study = "aa-busy" if asked.busy else "aa"
    if not asked.report:
        mine = range(part - 1, asked.pairs, parts)
        for busy in (True, False) if asked.busy else (False,):
            chosen = [pair for pair in mine if not asked.busy or (pair % 2 == 1) == busy]
            with _loops(asked.loops if busy else 0):
                code = _sweep(chosen, asked.runs, study, asked.results, overrides)
            if code in STOPPED:
                return code
    return report(asked.results / study, asked.pairs, asked.runs, busy=asked.busy)


def report(study_dir: Path, count: int, runs: int, *, busy: bool) -> int:
    console = Console() if sys.stdout.isatty() else Console(width=140)
    found = pairs(study_dir, range(count))
    counting = [pair for pair in found if pair.counts(runs)]
    told = compared(study_dir, counting)
    table = Table(
        title=f"{len(counting)} of {count} pairs of equal cells compared, runs={runs}", title_justify="left"
    )
    for name in ("column", "p below 5 %", "after Holm", "too few", "null band of one run"):
        table.add_column(name, justify="left" if name == "column" else "right")
    for column in (*COLUMNS, ACCURACY):
        own = [one for one in told if one.column == column]
        before, after = (false_positives(own, adjusted=adjusted) for adjusted in (False, True))
        few = sum(one.comparison.method == "too few" for one in own)
        table.add_row(column, _of(*before), _of(*after), str(few), _band(counting, column))
    before, after = (false_positives(told, adjusted=adjusted) for adjusted in (False, True))
    table.add_row("all", _of(*before), _of(*after), "", "")
    console.print(table)
    groups = {"without busy loops": found}
    if busy:
        groups = {
            name: [p for p in found if p.number % 2 == odd] for name, odd in (("quiet", 0), ("busy", 1))
        }
    for name, group in groups.items():
        rows = [row for pair in group for row in pair.rows]
        raised = ", ".join(f"{flag} {count}" for flag, count in flags(group).most_common()) or "none"
        out = sum(not pair.counts(runs) for pair in group)
        console.print(
            f"{name}: {len(rows)} runs of {len(group)} pairs, {out} pairs not compared; flags: {raised}"
        )
    unseen = sum(pair.counts(runs) for pair in found if busy and pair.number % 2)
    if unseen:
        console.print(f"{unseen} pairs with busy loops beside them passed as measurements that count")
    return 0 if after[1] and after[0] <= LEVEL * after[1] and not unseen else 1


def _band(of: Sequence[Pair], column: str) -> str:
    """The median over the cells of what repetition does to the difference of two single runs."""
    cells = [present(row[column] for row in side) for pair in of for side in (pair.first, pair.second)]
    bands = [band for values in cells if (band := null_band(values)) is not None]
    share = column == ACCURACY  # in points, which are the same from any accuracy on
    widths = sorted(band.half_width / (1 if share else band.mean) for band in bands if share or band.mean)
    return f"± {100 * widths[len(widths) // 2]:.1f} {'points' if share else '%'}" if widths else ""


def _of(wrong: int, known: int) -> str:
    return f"{wrong} of {known}" + (f" ({100 * wrong / known:.1f} %)" if known else "")


def _part(parser: argparse.ArgumentParser, text: str) -> tuple[int, int]:
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        parser.error(f"--part {text}: must be K/N with 1 <= K <= N")
    return int(first), int(last)


def _sweep(chosen: Sequence[int], runs: int, study: str, results: Path, overrides: Sequence[str]) -> int:
    if not chosen:
        return 0
    swept = "seed=" + ",".join(str(seed) for pair in chosen for seed in seeds(pair))
    own = (f"runs={runs}", f"study_name={study}", f"results_dir={results}", swept)
    command = [sys.executable, "-m", "orchestrator.sweep", "-m", *CELL, *overrides, *own]
    return subprocess.run(command, check=False).returncode


@contextmanager
def _loops(count: int) -> Iterator[None]:
    """So many processes that each keep a CPU busy, until it ends."""
    parent = f"import os\nwhile os.getppid() == {os.getpid()}:\n for _ in range(10**6): pass"
    running = [subprocess.Popen([sys.executable, "-c", parent]) for _ in range(count)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
