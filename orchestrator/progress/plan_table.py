"""The plan as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.plan.plan import Deployment, Plan


def show(plan: Plan, console: Console) -> None:
    """Prints deployments, simulated ones in a table of their own, then its notes, what will not run and
    why, the totals."""
    for simulated, title in ((False, ""), (True, ": SIMULATED, nothing will be measured")):
        if deployments := [one for one in plan.deployments if one.simulated == simulated]:
            console.print(_table(deployments, f"Plan of study '{plan.study}'{title}"))
    for planned in plan.with_status("skipped"):
        console.print(Text(f"skipped  {plan.label(planned.cell)}: {planned.reason}"))
    for line in plan.notes:
        console.print(Text(f"note  {line}"))
    done = len(plan.with_status("done"))
    total = plan.to_json()["totals"]
    parts = [f"{len(plan.with_status('planned'))} cells to run on {total['deployments']} deployments"]
    if done:
        parts.append(f"{done} already done in {plan.study_dir}")
    if skipped := len(plan.with_status("skipped")):
        parts.append(f"{skipped} skipped")
    for key, name in (("gpu_hours", "GPU-hours"), ("simulated_gpu_hours", "SIMULATED GPU-hours")):
        if total[key] is not None:
            parts.append(f"about {total[key]:.2f} {name}")
    console.print(Text(", ".join(parts)))


def _table(deployments: Sequence[Deployment], title: str) -> Table:
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    for name in ("deployment", "model", "engine", "opt"):
        table.add_column(name, overflow="fold")
    for name in ("cells", "GPUs", "weights GiB", "KV GiB", "GPU-hours"):
        table.add_column(name, justify="right")
    for one in deployments:
        table.add_row(
            one.deployment_id,
            Text(one.config.model.name),
            one.config.engine.name,
            Text("+".join(one.cells[0].opts)),
            str(len(one.cells)),
            _reserved(one),
            _number(one.fit.weights_gib),
            _number(one.fit.kv_gib),
            _number(one.estimated_gpu_hours),
        )
    return table


def _reserved(one: Deployment) -> str:
    if one.theirs:
        return ""
    if not one.needs_gpu:
        return f"{one.hardware.cpus:g} CPUs"
    return f"{one.gpus}" if one.nodes == 1 else f"{one.nodes} x {one.gpus // one.nodes}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
