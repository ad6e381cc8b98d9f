"""A callback that writes down what Hydra tells it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Told(Callback):
    def _write(self, line: str) -> None:
        with Path(os.environ["TOLD"]).open("a") as file:
            file.write(f"{line}\n")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._write("multirun start")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._write(f"job {config.hydra.job.num} start max_tokens={config.max_tokens}")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        value = "none" if job_return.return_value is None else "a number"
        self._write(f"job {config.hydra.job.num} end {job_return.status.name} {value}")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        self._write("multirun end")
