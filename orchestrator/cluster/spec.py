"""What a worker must know of its deployment, and what follows from it on the worker's own node."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cell import ResolvedJob
from orchestrator.config.schema import DeploymentConfig
from orchestrator.engines.launch import Launch, build_launch
from orchestrator.engines.version import engine_version, installed_version, interpreter, interpreter_path
from orchestrator.engines.weights import prepare, revision, served
from orchestrator.errors import EngineError

SEEN_S = 5.0
CPUS_PER_SLOT = 4  # an engine's two busy processes, the client, and the imports of the next engine


@dataclass(frozen=True)
class WorkerSpec:
    """``study_dir`` is absolute and on a file system that the driver sees too, ``gpus`` are those of all
    ``nodes``.

    ``facts`` is what the plan took for granted, which the worker checks (None: nothing), ``nonce`` the name
    of a file that the driver has put into ``study_dir`` (`left_nonce`; None: there is none).
    """

    deployment_id: str
    label: str
    study: str
    study_dir: Path
    config: DeploymentConfig
    tensor_parallel_size: int
    nodes: int
    gpus: int
    facts: ResolvedJob | None = None
    nonce: str | None = None


def launch_of(spec: WorkerSpec) -> Launch:
    """The engine's launch, with its weights brought to this node where they are not here yet. Raises
    EngineError where the engine or the weights here are not those of the plan."""
    config = spec.config
    version = installed_version(config.engine) or engine_version(config.engine)
    check_as_planned(spec, version)
    return build_launch(
        config,
        hardware="gpu" if spec.gpus else "cpu",
        tensor_parallel_size=spec.tensor_parallel_size,
        nodes=spec.nodes,
        model=None if config.engine.simulated else prepare(served(config), interpreter(config.engine)),
        engine_version=version,
    )


def check_as_planned(spec: WorkerSpec, version: str | None) -> None:
    """Raises EngineError where this node's engine has another version than the plan's, and where a folder of
    weights has another content here."""
    facts, config = spec.facts, spec.config
    if facts is None:
        return
    if facts.engine_version is not None and version is not None and version != facts.engine_version:
        raise EngineError(
            f"engine={config.engine.name}: node {socket.gethostname()} has version {version} at "
            f"{interpreter_path(config.engine)}, the plan took {facts.engine_version} for granted; install "
            "one version on the driver and every node, and run the same command again",
            "version_mismatch",
        )
    if served(config).path and not config.engine.simulated:
        found = revision(served(config))
        if found != facts.model_revision:
            raise EngineError(
                f"model.path={config.model.path}: holds {found} on node {socket.gethostname()}, "
                f"and {facts.model_revision} when planned; run the same command again to measure what is "
                "there now",
                "weights_mismatch",
            )


def check_serves_as_planned(spec: WorkerSpec, told: Mapping[str, Any]) -> None:
    """Raises EngineError where an external server serves something else than when the plan was made."""
    if spec.facts is None or spec.facts.served is None or dict(spec.facts.served) == dict(told):
        return
    planned = spec.facts.served
    changed = [
        f"{name} is {told.get(name)}, was {planned.get(name)}"
        for name in sorted({*planned, *told})
        if planned.get(name) != told.get(name)
    ]
    raise EngineError(
        f"engine.base_url={spec.config.engine.base_url}: serves something else than when the plan was made "
        f"({'; '.join(changed)}); run the same command again to measure what is served now",
        "served_mismatch",
    )


@contextmanager
def left_nonce(study_dir: Path) -> Iterator[str]:
    """The name of a new file in ``study_dir``, there while the block lasts: whoever finds it sees the very
    folder of the driver, and not one of the same path. Raises OSError."""
    file = study_dir / f".driver-{secrets.token_hex(8)}"
    study_dir.mkdir(parents=True, exist_ok=True)
    file.touch()
    try:
        yield file.name
    finally:
        with suppress(OSError):
            file.unlink()


def check_sees_results(spec: WorkerSpec) -> None:
    """Raises EngineError when this node does not see the results: no such folder, or one of its own."""
    deadline = time.monotonic() + SEEN_S  # a network file system may show a new file a moment later
    while not _sees_results(spec):
        if time.monotonic() > deadline:
            what = "is another folder" if spec.study_dir.is_dir() else "is not there"
            raise EngineError(
                f"results_dir: {spec.study_dir} {what} on node {socket.gethostname()}; "
                "name a folder on a file system that every node sees",
                "no_results_dir",
            )
        time.sleep(0.2)


def _sees_results(spec: WorkerSpec) -> bool:
    if not spec.study_dir.is_dir():
        return False
    if spec.nonce is None:
        return True
    with suppress(OSError):
        list(spec.study_dir.iterdir())  # has a network file system ask its server again
    return (spec.study_dir / spec.nonce).exists()


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


def worth_preparing(spec: WorkerSpec) -> bool:
    """Whether a start's imports may run beside a measurement. ``prepare=auto``: where a GPU would idle for
    them, and the node has CPUs enough that nobody is kept waiting."""
    if spec.config.engine.name in ("external", "simulated") or spec.nodes > 1 or spec.config.prepare == "off":
        return False
    if spec.config.prepare == "on":
        return True
    if not spec.gpus:
        return False
    slots = max(1, len(list(Path("/dev").glob("nvidia[0-9]*"))) // spec.gpus)
    return len(os.sched_getaffinity(0)) >= CPUS_PER_SLOT * slots
