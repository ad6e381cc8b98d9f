"""One job's identity and whether it can work: what planning must find out, without a GPU or a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import datasets
from orchestrator.cell import Cell, ResolvedJob, make_cell, sampling, secret_values
from orchestrator.config.schema import (
    DatasetConfig,
    DeploymentConfig,
    HardwareConfig,
    ModelConfig,
    SweepConfig,
)
from orchestrator.engines import ADAPTERS, content, flags
from orchestrator.engines.launch import Launch, build_launch
from orchestrator.engines.revisions import DATASET
from orchestrator.engines.version import engine_version, installed_version
from orchestrator.engines.weights import revision, served, source, sources
from orchestrator.errors import ConfigError
from orchestrator.load import lengths
from orchestrator.load.arrivals import check_trace
from orchestrator.paths import hub_parts
from orchestrator.plan.compatibility import (
    budget_reason,
    cache_reason,
    idle_reason,
    skip_reason,
    sleep_reason,
)
from orchestrator.plan.fit import Fit, fit, nodes_of
from orchestrator.plan.known import NOTHING, Known, engine_key, server_key
from orchestrator.plan.once import Once


@dataclass(frozen=True)
class Identified:
    """``reason`` is why the cell cannot work; None when it can."""

    cell: Cell
    fit: Fit
    command: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True)
class _Engine:
    """What follows from a deployment alone, for each of its jobs. ``launch`` is None where no engine will be
    started, ``idle`` why it would be for nothing, ``facts`` are the fields of `ResolvedJob` that it has."""

    launch: Launch | None
    command: tuple[str, ...]
    idle: str | None
    facts: Mapping[str, Any]


def resolve_job(
    config: SweepConfig,
    overrides: tuple[str, ...],
    hardware: HardwareConfig,
    known: Known = NOTHING,
    fitted: Fit | None = None,
    run: int = 1,
    once: Once | None = None,
) -> Identified:
    """``config`` is `settle.settled`, ``fitted`` what the study gives the job, None what it would take alone.
    Raises ConfigError where a file or an interpreter that the job names does not exist."""
    once = once or Once()
    fitted = fitted or fit(config, hardware)
    deployment = once.deployment(config)
    reason = once(skip_reason, config, hardware) or fitted.reason
    starts = not reason and config.engine.name != "external"
    engine = once(_engine, deployment, hardware, fitted.tensor_parallel_size, known, starts)
    reason = (
        reason
        or cache_reason(config, {} if engine.launch is None else engine.launch.args)
        or budget_reason(config, engine.launch)
        or engine.idle
    )
    facts = ResolvedJob(
        **engine.facts,
        dataset_revision=once(datasets.fingerprint, config.dataset),
        wording=once(datasets.wording, config.dataset),
        sampling=sampling(config),
        trace_revision=_trace_revision(config),
        length_revision=lengths.revision(config.output_length),
        keys=once(_keys, deployment, config.dataset, known),
    )
    cell = make_cell(config, facts, overrides, run, once(secret_values, deployment))
    return Identified(cell, fitted, engine.command, reason)


def _engine(
    config: DeploymentConfig, hardware: HardwareConfig, size: int, known: Known, starts: bool
) -> _Engine:
    """``size`` is the tensor-parallel size; without ``starts`` none will be started here."""
    external = config.engine.name == "external"
    launch = _launch(config, hardware, size, known) if starts else None
    model = config.model if launch is None else served(config)
    told = known.served.get(server_key(config.engine)) if external else None
    return _Engine(
        launch=launch,
        command=() if launch is None else tuple(ADAPTERS[launch.engine].command(launch)),
        idle=None if launch is None else _idle(config, hardware, launch),
        facts={
            # A catalogue's revision says nothing of what somebody else's server has loaded.
            "model_revision": _root(told) if external else revision(model),
            "engine_version": None if launch is None else launch.version,
            "engine_args": {} if launch is None else launch.args,
            "engine_env": {} if launch is None else launch.env,
            "gpu_type": hardware.name,
            "tensor_parallel_size": size,
            "model_source": source(model),
            "nodes": 1 if launch is None else launch.nodes,
            "files": {} if launch is None else content.of_named(launch.args),
            "served": told,
            "sources": {} if external else sources(model),
        },
    )


def _idle(config: DeploymentConfig, hardware: HardwareConfig, launch: Launch) -> str | None:
    """Why it would be started for nothing, or cannot sleep as it is told to."""
    reason = idle_reason(config, hardware, launch)
    if reason is None and config.engine.sleep == "on":
        reason = sleep_reason(config, hardware, launch.version, launch.nodes)
    return reason


def _root(served: Mapping[str, Any] | None) -> str:
    """What the name of an external server's model stands for, as far as it tells."""
    return "not told" if served is None else str(served.get("root") or served.get("id"))


def _keys(config: DeploymentConfig, dataset: DatasetConfig, known: Known) -> dict[str, Any]:
    """By what a later plan finds what this one knew."""
    by = (
        {"server_key": server_key(config.engine)}
        if config.engine.name == "external"
        else {"engine_key": engine_key(config.engine)}
    )
    pinned = _pinned(config.model, dataset)
    revisions = {
        one: commit for one, commit in known.revisions.items() if f"{hub_parts(one)[0]}@{commit}" in pinned
    }
    return {**by, "revisions": revisions}


def _pinned(model: ModelConfig, data: DatasetConfig) -> set[str | None]:
    """What is loaded from the hub, with its revision."""
    pinned = {f"{model.hub_id}@{model.revision}", *model.checkpoints.values(), model.draft, model.eagle3}
    return pinned | {f"{DATASET}{data.hub_id}@{data.revision}"}


def _launch(config: DeploymentConfig, hardware: HardwareConfig, size: int, known: Known) -> Launch:
    version = known.versions.get(engine_key(config.engine)) or engine_version(config.engine)
    launch = build_launch(
        config,
        hardware="gpu" if hardware.kind == "gpu" else "cpu",
        tensor_parallel_size=size,
        nodes=nodes_of(size, hardware),
        engine_version=version,
    )
    _check_flags(config, launch)
    return launch


def _check_flags(config: DeploymentConfig, launch: Launch) -> None:
    """Raises ConfigError for a flag of the user's that the engine does not have or that another key sets, and
    for a value that it does not take, by the engine's own help, where this machine has the engine in the
    version of the nodes."""
    adapter, version = ADAPTERS[launch.engine], launch.version
    if not config.engine.args or version is None or adapter.version is not None:
        return
    if installed_version(config.engine) == version and (found := flags.known(launch, version)):
        flags.check_reserved(adapter, config.engine.args, "engine.args", found)
        flags.check_known(adapter, config.engine.args, "engine.args", found, version)
        flags.check_values(adapter, config.engine.args, "engine.args", found, version)


def _trace_revision(config: SweepConfig) -> str | None:
    path = config.load.path
    if path is None:
        return None
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"load.path={path}: must be a file of arrivals, and there is no such file")
    items = datasets.count(config.dataset, config.limit)
    check_trace(config.load, None if items is None else config.repeats * items, most_requests(config))
    return content.of_file(file)[:16]


def most_requests(config: SweepConfig) -> int | None:
    """The job's cell has no more; None where only loading its questions from the hub tells."""
    items = datasets.count(config.dataset, config.limit) or config.limit
    return None if items is None else config.repeats * items
