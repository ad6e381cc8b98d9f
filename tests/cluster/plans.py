"""Plans of deployments that nothing real stands behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.cell import Cell, ResolvedJob
from orchestrator.config.schema import EngineConfig, HardwareConfig, ModelConfig, SamplingConfig, SweepConfig
from orchestrator.plan.fit import Fit
from orchestrator.plan.plan import Deployment, Plan, PlannedCell

FACTS = ResolvedJob("r", "v", {}, {}, "d", "w", "h200", 1, SamplingConfig())


def deployment(
    gpus: int,
    *,
    name: str = "d",
    cells: Sequence[str] = ("",),
    cpus: float = 1.0,
    label: str | None = None,
    engine: str = "vllm",
    gpus_per_node: int = 8,
    model: str | None = None,
    sleepers: int | None = None,
    runs: int = 1,
) -> Deployment:
    """``cells`` are what `fake_worker.FakeWorker` does for each of its ``runs``; ``name`` is the model's too
    where ``model`` is none. With ``sleepers`` its engine sleeps beside so many others."""
    hardware = HardwareConfig(
        name="h200" if gpus else "cpu",
        kind="gpu" if gpus else "cpu",
        ray_accelerator_type=label if gpus else None,
        cpus=cpus,
        gpus_per_node=gpus_per_node,
    )
    sleep = EngineConfig(name=engine, sleep="on", sleepers=sleepers or 0)
    config = SweepConfig(
        model=ModelConfig(name=model or name),
        engine=EngineConfig(name=engine) if sleepers is None else sleep,
        hardware=hardware,
    )
    made = tuple(
        Cell(
            f"{name}-{index}" if run == 1 else f"{name}-{index}-{run}",
            name,
            (f"does={does}",),
            config,
            FACTS,
            run=run,
            run_of=f"{name}-{index}",
        )
        for run in range(1, runs + 1)
        for index, does in enumerate(cells)
    )
    return Deployment(name, made, Fit(max(gpus, 1), None, None), hardware, ())


def plan_of(folder: Path, *deployments: Deployment, cell_s: float | None = None) -> Plan:
    """``cell_s`` is what each cell is estimated to take."""
    planned = tuple(PlannedCell(cell, "planned", None, cell_s) for one in deployments for cell in one.cells)
    return Plan("study", folder, planned, tuple(deployments))


class SilentBoard:
    """Takes every event and shows none."""

    def __getattr__(self, event: str) -> Callable[..., None]:
        return lambda *arguments, **more: None
