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
) -> Deployment:
    """``cells`` are what `fake_worker.FakeWorker` does for each; ``name`` is the model's."""
    hardware = HardwareConfig(
        name="h200" if gpus else "cpu",
        kind="gpu" if gpus else "cpu",
        ray_accelerator_type=label if gpus else None,
        cpus=cpus,
        gpus_per_node=gpus_per_node,
    )
    config = SweepConfig(model=ModelConfig(name=name), engine=EngineConfig(name=engine), hardware=hardware)
    made = tuple(
        Cell(f"{name}-{index}", name, (f"does={does}",), config, FACTS) for index, does in enumerate(cells)
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
