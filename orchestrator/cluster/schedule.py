"""The driver's loop: every deployment gets a placement group, a worker and its cells, one after another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.cell import Cell
from orchestrator.cluster.admission import Resources, admit, bundles, impossible, needs
from orchestrator.cluster.board import Board
from orchestrator.cluster.measure import CellOutcome
from orchestrator.cluster.rows import cell_row
from orchestrator.cluster.worker import EngineWorker, Started, WorkerSpec
from orchestrator.errors import EngineError
from orchestrator.plan.plan import Deployment, Plan
from orchestrator.store.write import commit

ATTEMPTS = 2  # a cell that loses its engine is tried once more on a fresh one
NOT_RETRIED = frozenset(
    {"oom", "oom_serving", "unsupported", "bad_flag", "no_results_dir"}
)  # it would happen again
STOP_S = 45.0


async def run_deployments(plan: Plan, board: Board) -> None:
    """Runs every deployment of the plan. Returns when each of its cells is committed, done or failed."""
    nodes = alive_nodes()
    total = Resources(sum(n.get("GPU", 0.0) for n in nodes), sum(n.get("CPU", 0.0) for n in nodes))
    waiting: list[Deployment] = []
    for deployment in plan.deployments:
        if reason := impossible(deployment, nodes):
            for cell in deployment.cells:
                _fail(plan, deployment, cell, reason, "no_resources", 0, board)
        else:
            waiting.append(deployment)
    free, running = total, dict[asyncio.Task[None], Deployment]()
    try:
        while waiting or running:
            for deployment in admit(waiting, free):
                waiting.remove(deployment)
                free = free - needs(deployment)
                running[asyncio.create_task(_run_deployment(plan, deployment, board))] = deployment
            ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                free = free + needs(running.pop(task))
                task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def alive_nodes() -> list[dict[str, float]]:
    """Every live node's resources."""
    listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return [dict(node["Resources"]) for node in listed if node["Alive"]]


async def _run_deployment(plan: Plan, deployment: Deployment, board: Board) -> None:
    """A fresh engine as often as needed until every cell has been measured or has failed."""
    cells, attempts, restarts = list(deployment.cells), {cell.cell_id: 0 for cell in deployment.cells}, 0
    board.waiting(deployment)
    async with _placed(deployment) as group:
        while cells:
            await _serve(plan, deployment, group, cells, attempts, restarts, board)
            restarts += 1
    board.ended(deployment)


async def _serve(
    plan: Plan,
    deployment: Deployment,
    group: PlacementGroup,
    cells: list[Cell],
    attempts: dict[str, int],
    restarts: int,
    board: Board,
) -> None:
    """One engine's life: takes the cells it finishes, or that failed for good, off ``cells``."""
    async with _worker(deployment, group, restarts) as worker:
        watch = asyncio.create_task(_watch(worker, deployment, board))
        try:
            board.starting(deployment)
            try:
                started: Started = await worker.start.remote(_spec(plan, deployment))
                board.serving(deployment, started.seconds)
            except (RayTaskError, RayActorError) as error:
                reason, cause = _reason(error)
                attempts[cells[0].cell_id] += 1
                if cause in NOT_RETRIED or attempts[cells[0].cell_id] >= ATTEMPTS:
                    while cells:
                        _fail(plan, deployment, cells.pop(0), reason, cause, ATTEMPTS, board)
                return
            while cells:
                cell = cells[0]
                attempts[cell.cell_id] += 1
                board.measuring(deployment, cell)
                try:
                    outcome: CellOutcome = await worker.run.remote(cell, attempts[cell.cell_id])
                except (RayTaskError, RayActorError) as error:
                    reason, cause = _reason(error)
                    died = isinstance(error, RayActorError) or isinstance(error.cause, EngineError)
                    again = died and cause not in NOT_RETRIED and attempts[cell.cell_id] < ATTEMPTS
                    if not again:
                        _fail(plan, deployment, cells.pop(0), reason, cause, attempts[cell.cell_id], board)
                    if died:
                        return
                    continue
                lost = not outcome.engine_alive
                if lost and attempts[cell.cell_id] < ATTEMPTS and outcome.cause not in NOT_RETRIED:
                    return
                cells.pop(0)
                board.finished(deployment, cell, outcome)
                if lost:
                    return  # the next cell gets a fresh engine
        finally:
            watch.cancel()


@contextlib.asynccontextmanager
async def _placed(deployment: Deployment) -> AsyncIterator[PlacementGroup]:
    """The deployment's placement group, once Ray has found room for it."""
    group = placement_group(
        bundles(deployment),
        strategy="STRICT_PACK" if deployment.nodes == 1 else "PACK",
        name=f"{deployment.label} {deployment.deployment_id}",
    )
    try:
        await group.ready()
        yield group
    finally:
        remove_placement_group(group)


@contextlib.asynccontextmanager
async def _worker(deployment: Deployment, group: PlacementGroup, restarts: int) -> AsyncIterator[Any]:
    """The worker actor; its engine is stopped before this returns, whatever happened."""
    (bundle, *_) = bundles(deployment)
    actor: Any = ray.remote(EngineWorker)  # Ray's own types lose the class's methods
    worker = actor.options(
        name=f"{deployment.label} {deployment.deployment_id}.{restarts}",
        num_cpus=bundle["CPU"],
        num_gpus=bundle.get("GPU", 0),
        max_concurrency=5,
        scheduling_strategy=PlacementGroupSchedulingStrategy(
            placement_group=group,
            placement_group_bundle_index=0,
            placement_group_capture_child_tasks=False,
        ),
    ).remote()
    try:
        yield worker
    finally:
        with contextlib.suppress(RayActorError, RayTaskError, TimeoutError):
            await asyncio.shield(asyncio.wait_for(_wrap(worker.stop.remote()), STOP_S))
        ray.kill(worker)


def _spec(plan: Plan, deployment: Deployment) -> WorkerSpec:
    return WorkerSpec(
        deployment_id=deployment.deployment_id,
        label=deployment.label,
        study=plan.study,
        study_dir=plan.study_dir.resolve(),
        config=deployment.config,
        tensor_parallel_size=deployment.fit.tensor_parallel_size,
        nodes=deployment.nodes,
        gpus=deployment.gpus,
    )


async def _wrap(ref: Any) -> Any:
    return await ref


async def _watch(worker: Any, deployment: Deployment, board: Board) -> None:
    """Shows how far the worker is, once a second."""
    with contextlib.suppress(RayActorError, RayTaskError):
        while True:
            await asyncio.sleep(1.0)
            board.progress(deployment, await worker.progress.remote())


def _fail(
    plan: Plan, deployment: Deployment, cell: Cell, reason: str, cause: str, attempts: int, board: Board
) -> None:
    """Stores a cell that could not be measured, with why."""
    row: Mapping[str, Any] = cell_row(
        cell,
        study=plan.study,
        status="failed",
        reason=reason,
        flags=(),
        attempts=attempts,
        started_at=None,
        duration_s=None,
        deployment_start_s=None,
        engine_version=cell.facts.engine_version,
        gpus=deployment.gpus,
        nodes=deployment.nodes,
        items=None,
        metrics={},
        provenance={"cause": cause},
    )
    commit(plan.study_dir, cell.cell_id, row, (), (), ())
    outcome = CellOutcome(cell.cell_id, "failed", reason, (), 0, None, None, engine_alive=False, cause=cause)
    board.finished(deployment, cell, outcome)


def _reason(error: RayTaskError | RayActorError) -> tuple[str, str]:
    """What to store and show of a worker's exception, and the cause in one word."""
    if isinstance(error, RayActorError):
        return "the worker died: " + " ".join(str(error).split())[:500], "worker_died"
    cause = error.cause
    if isinstance(cause, EngineError):
        return str(cause), cause.cause
    return f"{type(cause).__name__}: {cause}", "error"
