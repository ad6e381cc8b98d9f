"""How close the scheduler comes to the shortest schedule there could be, in simulated time.

``python -m benchmarks.schedule [--seeds N]``: 10,000 cells in 400 deployments of 1 to 16 GPUs
on 64 nodes of 8 GPUs, several shapes of sets. No engine, no Ray: the decisions are the scheduler's own.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from benchmarks.schedule.sets import SHAPES, draw
from benchmarks.schedule.simulate import Policy, Simulation, area_bound_s, bound_s

POLICIES: tuple[Policy, ...] = ("in order", "first fit", "longest first", "shared")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--deployments", type=int, default=400)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=64)
    chosen = parser.parse_args()
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = (
        f"{chosen.cells:,} cells, {chosen.deployments} deployments, {chosen.nodes} nodes x 8 GPUs: "
        f"makespan over its lower bound, the worst of {chosen.seeds} seeds"
    )
    table.add_column("set")
    for name in (*POLICIES, "bound by", "planned in (CPU)", "further engines"):
        table.add_column(name, justify="right")
    for shape in SHAPES:
        ratios: dict[Policy, float] = dict.fromkeys(POLICIES, 0.0)
        planned_s, further, by = 0.0, 0, set[str]()
        for seed in range(chosen.seeds):
            works, nodes = draw(
                shape, seed, deployments=chosen.deployments, cells=chosen.cells, nodes=chosen.nodes
            )
            bound = bound_s(works, nodes)
            by.add("GPU-seconds" if bound == area_bound_s(works, nodes) else "chain")
            for policy in POLICIES:
                result = Simulation(works, nodes, policy).run()
                ratios[policy] = max(ratios[policy], result.makespan_s / bound)
                if policy == "shared":
                    planned_s = max(planned_s, result.planned_s)
                    further = max(further, result.starts - len(works))
        shown = [f"{ratios[policy]:.3f}" for policy in POLICIES]
        table.add_row(shape.name, *shown, ", ".join(sorted(by)), f"{planned_s:.1f} s", str(further))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
