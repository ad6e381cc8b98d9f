"""The plan as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from orchestrator.plan.plan import Plan


def show(plan: Plan, console: Console) -> None:
    """Prints deployments, then what will not run and why, then the totals."""
    if plan.deployments:
        table = Table(title=f"Plan of study '{plan.study}'", title_justify="left", box=None, pad_edge=False)
        for name in ("deployment", "model", "engine", "opt"):
            table.add_column(name, overflow="fold")
        for name in ("cells", "GPUs", "weights GiB", "KV GiB", "GPU-hours"):
            table.add_column(name, justify="right")
        for one in plan.deployments:
            table.add_row(
                one.deployment_id,
                one.config.model.name,
                one.config.engine.name,
                "+".join(one.cells[0].opts),
                str(len(one.cells)),
                f"{one.gpus}" if one.needs_gpu else f"{one.hardware.cpus:g} CPUs",
                _number(one.fit.weights_gib),
                _number(one.fit.kv_gib),
                _number(one.estimated_gpu_hours),
            )
        console.print(table)
    for planned in plan.with_status("skipped"):
        console.print(f"skipped  {plan.label(planned.cell)}: {planned.reason}", highlight=False, markup=False)
    done = len(plan.with_status("done"))
    total = plan.to_json()["totals"]
    parts = [f"{len(plan.with_status('planned'))} cells to run on {total['deployments']} deployments"]
    if done:
        parts.append(f"{done} already done in {plan.study_dir}")
    if skipped := len(plan.with_status("skipped")):
        parts.append(f"{skipped} skipped")
    if total["gpu_hours"] is not None:
        parts.append(f"about {total['gpu_hours']:.2f} GPU-hours")
    console.print(", ".join(parts), highlight=False, markup=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
