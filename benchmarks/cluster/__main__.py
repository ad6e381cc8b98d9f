"""What the scheduler adds to the engines' own time, on real Ray with declared GPUs:

    python -m benchmarks.cluster [--slots N]

A cluster of 8 nodes with 8 declared GPUs each, all on this machine, and on it the real command with simulated
engines: 200 cells on 20 deployments of 1, 2, 4 and 8 GPUs. `overhead` says what counts. The engines' clock
is slow enough that their tokens cost little CPU; ``--slots`` lets fewer engines run at once, so that what is
left is not each other's. Meanwhile the metrics and Ray's state are read as dashboards do; ends with 1 when
one of these checks fails or a cell is not done.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.cluster import checks, overhead
from benchmarks.cluster.virtual import virtual_cluster
from benchmarks.cluster.watch import Watch
from orchestrator.store.ledger import reservations
from orchestrator.store.read import statuses

ROOT = Path(__file__).parents[2]
NODES, GPUS, CPUS = 8, 8, 6.0  # CPUs of a deployment
START_S = 3.0  # of an engine
LIMIT_S = 0.05
STUDY = "cluster"
FIXED = (
    "opt=none,fp8,kv-fp8,prefix-cache,chunked-prefill",
    "tensor_parallel_size=1,2,4,8",
    "engine=simulated",
    "model=r1-7b",
    "hardware=h200",
    f"hardware.cpus={CPUS}",
    "tracker=none",
    f"study_name={STUDY}",
    "limit=8",
    "load.concurrency=4",
    "max_tokens=48",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slots", type=int, help="engines at once, one a node; without it all that fit")
    parser.add_argument("--seeds", type=int, default=10, help="cells of each deployment")
    parser.add_argument("--speed", type=float, default=0.04, help="of the engines' clock")
    chosen = parser.parse_args()
    console = Console(width=140, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        swept = f"seed=range(0,{chosen.seeds})", f"results_dir={folder}"
        clock = f"engine.args.speed={chosen.speed}", f"engine.args.start-seconds={START_S * chosen.speed}"
        arguments = ["-m", *FIXED, *clock, *swept]
        plan = json.loads(_sweep(*arguments, "dry_run=json").stdout)
        nodes = chosen.slots or NODES
        with virtual_cluster(nodes, GPUS, CPUS * (1 if chosen.slots else GPUS), "H200") as cluster:
            before, began_s = psutil.getloadavg()[0], time.monotonic()
            psutil.cpu_percent()
            with Watch(cluster.metrics, cluster.dashboard) as watch:
                ended = _sweep(*arguments, f"ray.address={cluster.address}")
            busy, wall_s = psutil.cpu_percent(), time.monotonic() - began_s
            watch.read_the_end(cells=len(plan["cells"]))
        study = Path(folder) / STUDY
        done = sum(status.status == "done" for status in statuses(study).values())
        if ended.returncode or done < len(plan["cells"]):
            print(
                f"{done} of {len(plan['cells'])} cells are done\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
            )
            return 1
        cells = overhead.read(study)
        console.print(
            f"{done} cells on {len(plan['deployments'])} deployments in {wall_s:.0f} s; on average "
            f"{overhead.at_once(cells):.1f} engines at once; {psutil.cpu_count()} CPUs {busy:.0f} % busy, "
            f"load average before: {before:.1f}"
        )
        found = _show(cells, study, console)
        results = [
            (
                found <= LIMIT_S,
                f"median overhead of a cell: {1000 * found:.0f} ms, limit {1000 * LIMIT_S:.0f}",
            ),
            *checks.of_metrics(watch.pages, cells, study),
            *checks.of_state(watch, [one["deployment_id"] for one in plan["deployments"]], study),
        ]
    for good, line in results:
        console.print(f"{'ok   ' if good else 'WRONG'} {line}", markup=False)
    return 0 if all(good for good, _ in results) else 1


def _show(cells: list[overhead.Cell], study: Path, console: Console) -> float:
    """Prints where the time went; returns the median overhead of a cell."""
    table = Table(box=None, pad_edge=False)
    table.add_column("ms a cell")
    for name in ("median", "p90", "maximum", "mean"):
        table.add_column(name, justify="right")
    found = overhead.overheads(cells)
    rows = {part: [getattr(one, part) for one in found] for part in overhead.PARTS}
    rows |= {"overhead": [one.total for one in found], "engine's own": [cell.engine_s for cell in cells]}
    for name, seconds in rows.items():
        table.add_row(name, *(f"{1000 * value:,.0f}" for value in overhead.summary(seconds)))
    console.print(table)
    starts = {cell.engine: cell.engine_start_s for cell in cells}
    held_s = sum(one.duration_s for one in reservations(study))
    beside_s = held_s - sum(starts.values()) - overhead.served_s(cells)
    console.print(
        f"{len(starts)} engines: {sum(starts.values()) / len(starts):.1f} s to start, and beside it "
        f"{beside_s / len(starts):.1f} s for the worker's process, the engine's stop and the placement group"
    )
    return overhead.summary(rows["overhead"])[0]


def _sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.sweep", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main())
