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
from omegaconf import DictConfig

from orchestrator import study
from orchestrator.config.compose import SweepLoader
from orchestrator.config.schema import SweepConfig
from orchestrator.plan.agreement import check_command
from orchestrator.plan.plan import Job

exit_codes: list[int] = []
"""What each batch of jobs came to. Hydra's main returns nothing, so `orchestrator.sweep` reads it here."""


class Launcher(HydraLauncher):
    def __init__(self) -> None:
        self.config: DictConfig | None = None
        self.loader: SweepLoader | None = None
        self.first: SweepConfig | None = None  # of the whole sweep, which may come in batches

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        # The sweeper holds the same context, so that its own check of every job goes the fast way too.
        self.loader = SweepLoader(hydra_context.config_loader.get_search_path())
        hydra_context.config_loader = self.loader
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None
        assert self.loader is not None
        setup_globals()
        jobs = []
        for overrides in job_overrides:
            jobs.append(Job(tuple(overrides), self.loader.sweep_config(self.config, list(overrides))))
        self.first = self.first or jobs[0].config
        check_command([self.first, *(job.config for job in jobs)])
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
