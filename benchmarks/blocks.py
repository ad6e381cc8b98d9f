"""How much narrower intervals are that pair runs by block than unpaired ones of the same runs, in any study:

    python -m benchmarks.blocks results/STUDY
    python -m benchmarks.blocks --simulate [--trials 4000]

The first prints each comparison of times and rates that shares blocks, and ends with 1 where there is none;
the second how often equal cells, and such as differ by three standard deviations of a run, are told apart by
their blocks. Tables in Markdown.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import ConfigError
from orchestrator.metrics.blocks import Placed, compare_blocks, pairs_of
from orchestrator.metrics.compare import Comparison, compare_runs
from orchestrator.metrics.significance import LEVEL
from orchestrator.report.comparisons import MEASURES, Measure, logs_of, placed
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.pairs import Pair, pairs
from orchestrator.report.read import read_runs
from orchestrator.report.variants import sort_out

BLOCKS = (2, 3, 4, 5, 6, 8, 12)
EFFECT, DRIFT, LEVELS = 3.0, 20.0, 5.0  # standard deviations of a run
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
DRAWS: dict[str, Draw] = {
    "normal": lambda random, n: random.normal(0, 1, n),
    "skewed (log-normal)": lambda random, n: random.lognormal(0, 1, n),
    "two peaks": lambda random, n: random.normal(0, 0.05, n) + (random.random(n) < 0.5),
}


def study_table(folder: Path) -> list[str]:
    """The rows; none where no two configurations share blocks. Raises ConfigError for what is no study."""
    runs = read_runs(Options(results_dir=folder.parent, studies=(folder.name,)))
    variants, _ = sort_out(runs)
    names, rows, widths = Names(variants), [], []
    for pair in pairs(variants, {})[0]:
        for measure in MEASURES:
            if measure.kind not in ("rate", "time") or (found := _both(pair, measure)) is None:
                continue
            by_block, alone = found
            assert by_block.pairing is not None
            if by_block.pairing.width is not None:
                widths.append(by_block.pairing.width)
            of = f"{names.whole(pair.variant)} against {names.configuration(pair.baseline)}"
            rows.append(
                f"| {of} | {measure.key} | {by_block.units} | {_told(by_block)} | {_told(alone)} "
                f"| {_width(by_block.pairing.width)} |"
            )
    if not rows:
        return []
    columns = ("comparison", "measure", "blocks", "paired by block", "unpaired", "length over unpaired")
    median = f"Median over {len(widths)} comparisons: {statistics.median(widths):.2f}." if widths else ""
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows, "", median]


def _both(pair: Pair, measure: Measure) -> tuple[Comparison, Comparison] | None:
    """Paired and unpaired, of the logarithms of the same runs; None where no two blocks are shared."""
    sides = [placed(side, measure) for side in (pair.baseline, pair.variant)]
    if any(run.value <= 0 for side in sides for run in side):
        return None
    logs = [logs_of(side) for side in sides]
    shared, by_block = pairs_of(*logs), compare_blocks(*logs)
    if shared is None or by_block is None:
        return None
    alone = compare_runs(shared.a, shared.b)
    assert alone is not None
    return by_block, alone


def _told(found: Comparison) -> str:
    """Difference, interval and p before any correction."""
    assert found.low is not None
    assert found.high is not None
    middle, low, high = (100 * math.expm1(one) for one in (found.difference, found.low, found.high))
    p = "–" if found.p is None else f"{found.p:.2g}"
    return f"{middle:+.2f} % ({low:+.2f} to {high:+.2f}), p = {p}"


def _width(width: float | None) -> str:
    return "–" if width is None else f"{width:.2f}"


def simulated(
    random: np.random.Generator, draw: Draw, blocks: int, effect: float, step: float, levels: float
) -> list[list[Placed]]:
    """Runs of A and of B, higher by ``effect``, in blocks of random order on a machine whose level changes by
    ``step`` from each run to the next, and at random from block to block by so many ``levels``."""
    level = random.normal(0, levels, blocks)
    places = 1 + (random.random(blocks) < 0.5)
    sides = []
    for of, more in ((places, 0.0), (3 - places, effect)):
        values = draw(random, blocks) + more + level + step * (2 * np.arange(blocks) + of)
        sides.append(
            [
                Placed(float(value), str(block), int(place))
                for block, (value, place) in enumerate(zip(values, of, strict=True))
            ]
        )
    return sides


def share(
    blocks: int,
    trials: int,
    draw: Draw,
    *,
    effect: float = 0.0,
    step: float = 0.0,
    levels: float = 0.0,
    paired: bool = True,
) -> float:
    """Of simulated comparisons those with p below `LEVEL`, in per cent."""
    random, told = np.random.default_rng([blocks, trials]), 0
    for _ in range(trials):
        a, b = simulated(random, draw, blocks, effect, step, levels)
        found = compare_blocks(a, b) if paired else compare_runs([r.value for r in a], [r.value for r in b])
        told += found is not None and found.p is not None and found.p < LEVEL
    return 100 * told / trials


def simulate(trials: int) -> None:
    normal = DRAWS["normal"]
    print("Equal cells that are told apart, in per cent.\n")
    _head("a run's number is")
    for name, draw in DRAWS.items():
        _row(name, [share(n, trials, draw) for n in BLOCKS])
    for step in (1.0, 3.0, 10.0):
        shares = [share(n, trials, normal, step=step) for n in BLOCKS]
        _row(f"normal, and slower by {step:g} sd with each run", shares)
    print(f"\nCells that differ by {EFFECT:g} sd and are told apart, in per cent.\n")
    _head("the machine")
    machines = {
        "steady": (0.0, 0.0),
        f"another level in each block, of {LEVELS:g} sd": (0.0, LEVELS),
        f"slower by {DRIFT:g} sd from the first run to the last": (DRIFT, 0.0),
    }
    for name, (drift, levels) in machines.items():
        for paired in (True, False):
            shares = []
            for n in BLOCKS:
                step = drift / (2 * n)
                of = share(n, trials, normal, effect=EFFECT, step=step, levels=levels, paired=paired)
                shares.append(of)
            _row(f"{name}; {'paired by block' if paired else 'unpaired'}", shares)


def _head(what: str) -> None:
    print(f"| {what} | {' | '.join(f'{n} blocks' for n in BLOCKS)} |")
    print("|---" * (1 + len(BLOCKS)) + "|")


def _row(name: str, shares: Sequence[float]) -> None:
    print(f"| {name} | {' | '.join(f'{one:.1f}' for one in shares)} |", flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.blocks", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("study", type=Path, nargs="?", metavar="results/STUDY")
    parser.add_argument("--simulate", action="store_true", help="how often blocks tell cells apart")
    parser.add_argument("--trials", type=int, default=4000)
    asked = parser.parse_args(arguments)
    if (asked.study is None) != asked.simulate or asked.trials < 1:
        parser.error("name the folder of a study, or --simulate, with --trials of 1 or more")
    if asked.simulate:
        simulate(asked.trials)
        return 0
    try:
        rows = study_table(asked.study)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(rows) or f"{asked.study}: no two configurations that are compared share two blocks")
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
