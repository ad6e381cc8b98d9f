"""What a worker must know of its deployment, and what follows from it on the worker's own node."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.schema import SweepConfig
from orchestrator.engines.launch import Launch, build_launch
from orchestrator.engines.version import engine_version, interpreter
from orchestrator.engines.weights import prepare, served
from orchestrator.errors import EngineError


@dataclass(frozen=True)
class WorkerSpec:
    """``study_dir`` is absolute and on a file system that the driver sees too, ``gpus`` are those of all
    ``nodes``."""

    deployment_id: str
    label: str
    study: str
    study_dir: Path
    config: SweepConfig
    tensor_parallel_size: int
    nodes: int
    gpus: int


def launch_of(spec: WorkerSpec) -> Launch:
    """The engine's launch, with its weights brought to this node where they are not here yet."""
    config = spec.config
    return build_launch(
        config,
        hardware="gpu" if spec.gpus else "cpu",
        tensor_parallel_size=spec.tensor_parallel_size,
        nodes=spec.nodes,
        model=None if config.engine.simulated else prepare(served(config), interpreter(config.engine)),
        engine_version=engine_version(config.engine),
    )


def check_sees_results(spec: WorkerSpec) -> None:
    """Raises EngineError when this node does not see the results."""
    if not spec.study_dir.is_dir():
        raise EngineError(
            f"results_dir: {spec.study_dir} is not there on node {socket.gethostname()}; "
            "name a folder on a file system that every node sees",
            "no_results_dir",
        )


def log_path(spec: WorkerSpec) -> Path:
    """Claims ``engine.log``, or ``engine.N.log`` for restart N, by making it: two engines of one deployment
    may start at the same moment."""
    folder = spec.study_dir / "logs" / spec.deployment_id
    folder.mkdir(parents=True, exist_ok=True)
    taken = 0
    while True:
        path = folder / (f"engine.{taken}.log" if taken else "engine.log")
        try:
            path.touch(exist_ok=False)
            return path
        except FileExistsError:
            taken += 1
