"""The Hydra launcher: it receives every job of a sweep at once, which is what makes a global plan possible.

Any sweeper works. The value of a job is the study's objective for its cell, which is what a sweeper such as
Optuna optimises. Where the cell has none, a search goes on without it: Optuna's sweeper counts a trial whose
value is None as failed, and ends with a traceback at NaN; Nevergrad's and Ax's take only numbers, so that all
but Optuna's get NaN. Hydra's job callbacks fire: a batch's jobs start together and end together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from orchestrator import study
from orchestrator.cluster.kept import Kept
from orchestrator.config.compose import SweepLoader
from orchestrator.config.schema import SweepConfig
from orchestrator.errors import ConfigError
from orchestrator.plan.agreement import check_command
from orchestrator.plan.plan import Job

exit_codes: list[int] = []
"""What each batch of jobs came to. Hydra's main returns nothing, so `orchestrator.sweep` reads it here."""

_launching = False

kept = Kept()
"""What the command's batches share. `orchestrator.sweep` closes it."""


class Launcher(HydraLauncher):
    def __init__(self) -> None:
        self.config: DictConfig | None = None
        self.loader: SweepLoader | None = None
        self.first: SweepConfig | None = None  # of the whole sweep, which may come in batches
        self.context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        # The sweeper holds the same context, so that its own check of every job goes the fast way too.
        self.loader = SweepLoader(hydra_context.config_loader.get_search_path())
        hydra_context.config_loader = self.loader
        kept.engines = _may_launch_again(config)
        self.config, self.context, self.task_function = config, hydra_context, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None
        assert self.loader is not None
        setup_globals()
        if not job_overrides:
            raise ConfigError("the sweep has no jobs: give at least one value for every swept key")
        jobs = []
        for overrides in job_overrides:
            jobs.append(Job(tuple(overrides), self.loader.sweep_config(self.config, list(overrides))))
        self.first = self.first or jobs[0].config
        check_command([self.first, *(job.config for job in jobs)])
        told = self._started(job_overrides, initial_job_idx)
        result = _run(jobs)
        exit_codes.append(result.exit_code)
        none = _without_value(self.config)
        returns = [
            JobReturn(
                overrides=overrides,
                status=JobStatus.COMPLETED,
                _return_value=none if value is None else value,
            )
            for overrides, value in zip(job_overrides, result.objectives, strict=True)
        ]
        self._ended(told, returns)
        return returns

    def _started(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[DictConfig]:
        """Tells Hydra's callbacks of each job; the whole of it is composed only where there are any."""
        assert self.context is not None
        assert self.loader is not None
        assert self.config is not None
        assert self.task_function is not None
        told: list[DictConfig] = []
        if not self.context.callbacks.callbacks:
            return told
        for number, overrides in enumerate(job_overrides, first):
            config = self.loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = str(number)
                config.hydra.job.num = number
                config.hydra.runtime.output_dir = str(Path(str(config.hydra.sweep.dir)).absolute())
            self.context.callbacks.on_job_start(config=config, task_function=self.task_function)
            told.append(config)
        return told

    def _ended(self, told: list[DictConfig], returns: list[JobReturn]) -> None:
        assert self.context is not None
        for config, job_return in zip(told, returns, strict=False):
            job_return.hydra_cfg = OmegaConf.masked_copy(config, ["hydra"])
            job_return.cfg = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            job_return.task_name = config.hydra.job.name
            job_return.working_dir = str(Path.cwd())
            self.context.callbacks.on_job_end(config=config, job_return=job_return)


def _run(jobs: list[Job]) -> study.StudyResult:
    global _launching
    _launching = True
    result = study.run(jobs, kept)
    _launching = False  # not after an error, which is then ours
    return result


def between_batches() -> bool:
    """Whether what goes wrong now is the sweeper's."""
    return not _launching


def _may_launch_again(config: DictConfig) -> bool:
    """Whether the sweeper may come with further jobs: Hydra's own comes once, but for ``max_batch_size``."""
    sweeper = config.hydra.sweeper
    return "BasicSweeper" not in str(sweeper.get("_target_")) or sweeper.get("max_batch_size") is not None


def _without_value(config: DictConfig) -> float | None:
    """What the sweeper of this command takes for a job without a value."""
    return None if "optuna" in str(config.hydra.sweeper.get("_target_")) else math.nan
