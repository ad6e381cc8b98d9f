"""The Hydra launcher: it receives every job of a sweep at once, which is what makes a global plan possible.

Any sweeper works. The value of a job is the study's objective for its cell, which is what a sweeper such as
Optuna optimises; NaN where the cell has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from orchestrator import study
from orchestrator.compose_errors import check_known
from orchestrator.config import SweepConfig
from orchestrator.errors import ConfigError
from orchestrator.plan.plan import Job

exit_codes: list[int] = []
"""What each batch of jobs came to. Hydra's main returns nothing, so `orchestrator.sweep` reads it here."""


class Launcher(HydraLauncher):
    def __init__(self) -> None:
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None
        assert self.hydra_context is not None
        setup_globals()
        loader = self.hydra_context.config_loader
        jobs = []
        for overrides in job_overrides:
            composed = loader.load_sweep_config(self.config, list(overrides))
            jobs.append(Job(tuple(overrides), to_config(composed)))
        result = study.run(jobs)
        exit_codes.append(result.exit_code)
        return [
            JobReturn(
                overrides=overrides,
                status=JobStatus.COMPLETED,
                _return_value=math.nan if value is None else value,
            )
            for overrides, value in zip(job_overrides, result.objectives, strict=True)
        ]


def to_config(composed: DictConfig) -> SweepConfig:
    """A composed job as the schema's own classes, without Hydra's node. Raises ConfigError for a key that
    no schema knows and for a value that is missing."""
    if "hydra" in composed:
        with read_write(composed), open_dict(composed):
            del composed["hydra"]
    check_known(composed)
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise ConfigError(f"{missing[0]}: has no value, give one")
    config = OmegaConf.to_object(composed)
    if not isinstance(config, SweepConfig):
        raise ConfigError("the primary config must begin with the defaults entry 'sweep_schema'")
    return config
