"""A sweeper that asks for one job after another, and takes values as hydra-optuna-sweeper 1.3.0 does.

What is no number is a failed trial, NaN is an error, and without any value there is no best trial."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Batches(Sweeper):
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        assert self.launcher is not None
        (swept,) = (one for one in arguments if "," in one)
        fixed = [one for one in arguments if one is not swept]
        key, _, values = swept.partition("=")
        found: list[float | None] = []
        for number, value in enumerate(values.split(",")):
            (job,) = self.launcher.launch([[*fixed, f"{key}={value}"]], initial_job_idx=number)
            if job.return_value is not None and math.isnan(job.return_value):
                raise ValueError("The value nan is not acceptable.")
            found.append(job.return_value)
        Path(os.environ["FOUND"]).write_text(json.dumps(found))
        if all(value is None for value in found):
            raise ValueError("No trials are completed yet.")


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="batches",
    node={"_target_": "hydra_plugins.batches_like_optuna.Batches"},
    provider="test",
)
