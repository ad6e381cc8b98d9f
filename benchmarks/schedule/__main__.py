"""How close the scheduler comes to the shortest schedule there could be, in simulated time.

``python -m benchmarks.schedule [--seeds N]``: 10,000 cells in 400 deployments of 1 to 16 GPUs
on 64 nodes of 8 GPUs, several shapes of sets, and 60 cells in 20 deployments on one node. No engine, no Ray:
the decisions are the scheduler's own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import fmean

from rich.console import Console
from rich.table import Table

from benchmarks.schedule.sets import GPUS_PER_NODE, ON_ONE_HOST, SHAPES, Shape, draw
from benchmarks.schedule.simulate import Policy, Simulation, area_bound_s, bound_s

POLICIES: tuple[Policy, ...] = ("in order", "first fit", "longest first", "best order", "shared")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--deployments", type=int, default=400)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=64)
    chosen = parser.parse_args()
    console = Console(width=160)
    console.print(compared(SHAPES, chosen.seeds, chosen.deployments, chosen.cells, chosen.nodes))
    console.print(compared(ON_ONE_HOST, 10 * chosen.seeds, 20, 60, 1, mean=True))


def compared(
    shapes: Sequence[Shape], seeds: int, deployments: int, cells: int, nodes: int, *, mean: bool = False
) -> Table:
    """A row for each shape: the worst ratio of each policy over all seeds, or the mean."""
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = (
        f"{cells:,} cells, {deployments} deployments, {nodes} x {GPUS_PER_NODE} GPUs: "
        f"makespan over its lower bound, the {'mean' if mean else 'worst'} of {seeds} seeds"
    )
    table.add_column("set")
    for name in (*POLICIES, "bound by", "planned in (CPU)", "further engines"):
        table.add_column(name, justify="right")
    for shape in shapes:
        ratios: dict[Policy, list[float]] = {policy: [] for policy in POLICIES}
        planned_s, further, by = 0.0, 0, set[str]()
        for seed in range(seeds):
            works, there = draw(shape, seed, deployments=deployments, cells=cells, nodes=nodes)
            bound = bound_s(works, there)
            by.add("GPU-seconds" if bound == area_bound_s(works, there) else "chain")
            for policy in POLICIES:
                result = Simulation(works, there, policy).run()
                ratios[policy].append(result.makespan_s / bound)
                if policy == "shared":
                    planned_s = max(planned_s, result.planned_s)
                    further = max(further, result.starts - len(works))
        shown = [f"{fmean(of) if mean else max(of):.3f}" for of in ratios.values()]
        table.add_row(shape.name, *shown, ", ".join(sorted(by)), f"{planned_s:.1f} s", str(further))
    return table


if __name__ == "__main__":
    main()
