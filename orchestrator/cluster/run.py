"""Runs a plan on Ray, from connecting to the last commit."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext

from rich.console import Console

from orchestrator.cluster.admission import needs
from orchestrator.cluster.head import watched_head
from orchestrator.cluster.kept import Kept
from orchestrator.cluster.schedule import run_deployments
from orchestrator.cluster.session import Session
from orchestrator.errors import StorageError
from orchestrator.interruption import interruptible
from orchestrator.plan.durations import Durations
from orchestrator.plan.plan import Plan
from orchestrator.progress.board import Board
from orchestrator.store.claims import Claims
from orchestrator.store.sharing import SharedStudy, driver_name
from orchestrator.store.write import clean_partial
from orchestrator.track.ray_metrics import SweepMetrics
from orchestrator.track.tracker import Tracker


def run_plan(plan: Plan, console: Console, kept: Kept) -> None:
    """Measures every planned cell, on the Ray and the engines that are ``kept`` from the command's batch
    before where there are any. Raises KeyboardInterrupt after an orderly end when interrupted, and
    ConfigError when the cluster does not answer."""
    clean_partial(plan.study_dir)
    config = plan.deployments[0].cells[0].config
    cpus, declared = _local_resources(plan)

    def begun(session: Session) -> None:
        # A thread, since a local Ray's dashboard takes seconds to serve, which no cell need wait for.
        threading.Thread(target=_say_where, args=(session, console), daemon=True).start()

    session = kept.session(config.ray, cpus, declared, begun)
    kept.study_dir = plan.study_dir
    with Tracker(plan.study_dir, config.tracker, console, plan.varied()) as tracker:
        metrics, durations = SweepMetrics(_study_label(plan)), _durations(plan, kept)
        try:
            with (
                Claims(plan.study_dir, driver_name()) as claims,
                Board(plan, console, metrics, lambda cell: tracker.log(cell.cell_id), durations) as board,
                nullcontext() if session.local else watched_head(session.head, board.say),
            ):
                stored = {one.cell.cell_id: one.stored for one in plan.cells}
                sharing = SharedStudy(plan.study_dir, claims, stored)
                asyncio.run(_run(plan, board, durations, sharing, kept))
        except StorageError as error:
            console.print(f"stopped: {error}", markup=False, highlight=False)


def _durations(plan: Plan, kept: Kept) -> Durations:
    """What the command's batches before have taught, with this one's estimates."""
    if kept.durations is None:
        kept.durations = Durations.learnt_from(plan.cells)
    else:
        kept.durations.estimate(plan.cells)
    return kept.durations


def _study_label(plan: Plan) -> str:
    """The study's name on dashboards, which add up whatever carries the same one."""
    simulated = [deployment.simulated for deployment in plan.deployments]
    mark = " SIMULATED" if all(simulated) else " partly SIMULATED" if any(simulated) else ""
    return plan.study + mark


def _local_resources(plan: Plan) -> tuple[float, dict[str, float] | None]:
    """The CPUs that a local Ray must have, and what else it is to declare: where every engine that reserves
    GPUs is simulated, a node of the hardware that the plan says; else nothing, so that no real engine is
    given a GPU that is not there."""
    cpus = max(needs(deployment).cpus for deployment in plan.deployments)
    on_gpus = [deployment for deployment in plan.deployments if deployment.needs_gpu]
    if not on_gpus or not all(deployment.simulated for deployment in on_gpus):
        return cpus, None
    kinds = [deployment.hardware for deployment in on_gpus]
    labels = {one.ray_accelerator_type for one in kinds if one.ray_accelerator_type}
    return (
        max(cpus, *(one.cpus * one.gpus_per_node for one in kinds)),
        {"GPU": float(max(one.gpus_per_node for one in kinds))}
        | {f"accelerator_type:{label}": 1.0 for label in labels},
    )


async def _run(plan: Plan, board: Board, durations: Durations, sharing: SharedStudy, kept: Kept) -> None:
    """An interruption cancels the scheduler, which stops every engine before it ends."""
    scheduler = run_deployments(plan, board, durations=durations, sharing=sharing, kept=kept)
    await interruptible(asyncio.create_task(scheduler))


def _say_where(session: Session, console: Console) -> None:
    if (url := session.dashboard()) is not None:
        console.print(
            f"Ray dashboard: {url}  (asks for a token: ray get-auth-token)",
            markup=False,
            highlight=False,
        )
