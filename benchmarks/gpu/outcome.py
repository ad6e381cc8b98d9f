"""How a sweep over several GPUs came out, from what it stored: what more GPUs to a model bring, and how close
the schedule came to its lower bound.

    python -m benchmarks.gpu.outcome RESULTS [WATCH.jsonl]

With what the watcher wrote it also says how many cells had their GPUs to themselves.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.gpu.seen import engines, on_their_own
from benchmarks.schedule.simulate import Policy, Simulation, Work, bound_s
from orchestrator.cluster.packing import Need, Node
from orchestrator.store.ledger import Reservation, reservations
from orchestrator.store.read import read_cells

Row = Mapping[str, Any]
ORDERS: tuple[Policy, ...] = ("longest first", "best order")


@dataclass(frozen=True)
class Outcome:
    """Seconds. ``makespan_s`` from the first reservation to the end of the last, or of the last cell where
    that is later: a sweep that was cut off did not write its last reservations. ``again`` are cells that took
    more than one attempt.

    Of the deployments that were measured, each taken as one start and its cells as they were, on one host
    with these ``gpus``: ``bound_s`` is what no schedule that gives each one engine is shorter than (its
    GPU-seconds over the GPUs, or its longest deployment), and ``orders`` what the scheduler comes to in
    simulated time when it admits them longest first, and in the order that it chooses.
    """

    study: str
    gpus: int
    deployments: int
    cells: int
    again: int
    makespan_s: float
    bound_s: float
    orders: Mapping[Policy, float]


def outcome(study_dir: Path) -> Outcome | None:
    """None where nothing was reserved on GPUs, or no cell was measured."""
    held = [one for one in reservations(study_dir) if one.gpus]
    cells = [row for row in read_cells(study_dir).to_pylist() if row["deployment_start_s"] is not None]
    if not held or not cells:
        return None
    of: dict[str, list[Row]] = defaultdict(list)
    for row in cells:
        of[row["deployment_id"]].append(row)
    works = [
        Work(
            key=key,
            need=Need(gpus=rows[0]["gpus"], cpus=0.0),
            start_s=min(row["deployment_start_s"] for row in rows),
            cells_s=tuple(row["duration_s"] for row in rows),
        )
        for key, rows in of.items()
    ]
    host = [Node("host", most_held(held), 0.0)]
    began = min(one.started_at for one in held)
    ends = [one.started_at + timedelta(seconds=one.duration_s) for one in held]
    ends += [row["started_at"] + timedelta(seconds=row["duration_s"]) for row in cells if row["started_at"]]
    return Outcome(
        study=study_dir.name,
        gpus=round(host[0].gpus),
        deployments=len(works),
        cells=len(cells),
        again=sum(row["attempts"] > 1 for row in cells),
        makespan_s=(max(ends) - began).total_seconds(),
        bound_s=bound_s(works, host),
        orders={policy: Simulation(works, host, policy).run().makespan_s for policy in ORDERS},
    )


def most_held(held: Sequence[Reservation]) -> int:
    """The most GPUs that were reserved at one moment."""
    changes: list[tuple[datetime, float]] = []
    for one in held:
        gpus = one.gpus * len(one.nodes)
        changes += [(one.started_at, gpus), (one.started_at + timedelta(seconds=one.duration_s), -gpus)]
    most = now = 0.0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return round(most)


def scaling(cells: Sequence[Row]) -> list[tuple[Row, float | None]]:
    """Cells that are done of models that were served on several numbers of GPUs or on more than one, each
    with its throughput per GPU over that of the same cell on one GPU; None without such a cell."""
    done = [row for row in cells if row["status"] == "done" and row["output_token_per_s"]]
    alone = {_point(row): row["output_token_per_s"] for row in done if row["tensor_parallel_size"] == 1}
    found = []
    for row in sorted(done, key=lambda row: (*_point(row), row["tensor_parallel_size"])):
        per_gpu = row["output_token_per_s"] / row["tensor_parallel_size"]
        single = alone.get(_point(row))
        found.append((row, per_gpu / single if single else None))
    return found


def _point(row: Row) -> tuple[str, ...]:
    parts = (row["model"], "+".join(row["opt"]), row["load"], row["concurrency"], row["request_rate"])
    return tuple(str(one) for one in parts)


def markdown(results: Path) -> str:
    """A line a study with GPUs, and the cells of those with models on several; empty where there is none."""
    studies = [one.parent for one in sorted(results.glob("*/cells"))]
    outcomes = [found for study in studies if (found := outcome(study)) is not None]
    if not outcomes:
        return ""
    head = "| study | GPUs | deployments | cells | tried again | makespan, s | bound, s | ratio |"
    lines = [head + "".join(f" {policy}, s |" for policy in ORDERS), "|---" * (8 + len(ORDERS)) + "|"]
    lines += [
        f"| {one.study} | {one.gpus} | {one.deployments} | {one.cells} | {one.again} "
        f"| {one.makespan_s:.0f} | {one.bound_s:.0f} | {one.makespan_s / one.bound_s:.2f} |"
        + "".join(f" {one.orders[policy]:.0f} |" for policy in ORDERS)
        for one in outcomes
    ]
    for study in studies:
        cells = read_cells(study).to_pylist()
        if any(row["tensor_parallel_size"] > 1 for row in cells):
            lines += ["", *_scaled(cells)]
    return "\n".join(lines) + "\n"


def _scaled(cells: Sequence[Row]) -> list[str]:
    head = "| model | opt | load | TP | output tokens/s | per GPU, of one GPU's | TTFT p50 ms | TPOT p50 ms "
    lines = [head + "| ready after, s |", "|---" * 9 + "|"]
    for row, share in scaling(cells):
        lines.append(
            f"| {row['model']} | {'+'.join(row['opt'])} | {row['load']}, {row['concurrency']} "
            f"| {row['tensor_parallel_size']} | {row['output_token_per_s']:,.0f} "
            f"| {'' if share is None else f'{100 * share:.0f} %'} | {1000 * row['ttft_s_p50']:,.0f} "
            f"| {1000 * row['tpot_s_p50']:.1f} | {row['deployment_start_s']:.0f} |"
        )
    return lines


def to_themselves(results: Path, watch: Path) -> str:
    """How many of the cells that were measured had exactly their own GPUs, and alone."""
    cells = [row for path in sorted(results.glob("*/cells")) for row in read_cells(path.parent).to_pylist()]
    measured = [row for row in cells if row["started_at"] is not None and row["gpus"]]
    count = on_their_own(measured, engines(watch)[0])
    return f"\n{count} of {len(measured)} cells had an engine on exactly the GPUs given to it, and alone\n"


if __name__ == "__main__":
    sys.stdout.write(markdown(Path(sys.argv[1])))
    if sys.argv[2:]:
        sys.stdout.write(to_themselves(Path(sys.argv[1]), Path(sys.argv[2])))
