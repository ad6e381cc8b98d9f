"""What a sweep would start for a deployment, for handing it to somebody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from orchestrator import datasets
from orchestrator.cell import Cell
from orchestrator.config.compose import to_config
from orchestrator.config.schema import SamplingConfig, SweepConfig
from orchestrator.engines.launch import Launch, build_launch
from orchestrator.engines.version import engine_version, interpreter
from orchestrator.engines.weights import prepare, served
from orchestrator.paths import conf_dir
from orchestrator.plan.plan import Job, make_plan


@dataclass(frozen=True)
class Planned:
    """A cell with the launch of its engine, the model's folder made."""

    cell: Cell
    launch: Launch
    gpus: int

    @property
    def config(self) -> SweepConfig:
        return self.cell.config

    @property
    def sampling(self) -> SamplingConfig:
        return self.cell.facts.sampling

    @property
    def described(self) -> str:
        where = f"{self.gpus} GPUs ({self.cell.facts.gpu_type})" if self.gpus else "CPU"
        engine = f"{self.config.engine.name} {self.cell.facts.engine_version}"
        return f"{where}, {engine}, {self.config.model.name}, weights={self.config.weights}"

    def questions(self) -> list[str]:
        """The words of each, as one message."""
        items = datasets.load(self.config.dataset, self.config.limit).items
        return ["\n\n".join(message["content"] for message in item.messages) for item in items]


def planned(overrides: Sequence[str]) -> Planned:
    """Composes and plans one cell. Exits where it cannot run."""
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", lambda: "unused", replace=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = to_config(compose("sweep", list(overrides)))
    plan = make_plan([Job(tuple(overrides), config)])
    if not plan.deployments:
        raise SystemExit(f"cannot run: {plan.cells[0].reason}")
    (deployment,) = plan.deployments
    launch = build_launch(
        config,
        hardware="gpu" if deployment.gpus else "cpu",
        tensor_parallel_size=deployment.fit.tensor_parallel_size,
        model=prepare(served(config), interpreter(config.engine)),
        engine_version=engine_version(config.engine),
    )
    return Planned(deployment.cells[0], launch, deployment.gpus)
