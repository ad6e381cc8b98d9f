"""One job's identity and whether it can work: what planning must find out, without a GPU or a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import datasets
from orchestrator.cell import Cell, ResolvedJob, make_cell, sampling
from orchestrator.config.schema import HardwareConfig, SweepConfig
from orchestrator.engines import ADAPTERS, content, flags
from orchestrator.engines.launch import Launch, build_launch
from orchestrator.engines.revisions import DATASET
from orchestrator.engines.version import engine_version, installed_version
from orchestrator.engines.weights import revision, served, source, sources
from orchestrator.errors import ConfigError
from orchestrator.load import lengths
from orchestrator.load.arrivals import check_trace
from orchestrator.paths import hub_parts
from orchestrator.plan.compatibility import budget_reason, cache_reason, idle_reason, skip_reason
from orchestrator.plan.fit import Fit, fit, nodes_of
from orchestrator.plan.known import NOTHING, Known, engine_key, server_key


@dataclass(frozen=True)
class Identified:
    """``reason`` is why the cell cannot work; None when it can."""

    cell: Cell
    fit: Fit
    command: tuple[str, ...]
    reason: str | None


def resolve_job(
    config: SweepConfig,
    overrides: tuple[str, ...],
    hardware: HardwareConfig,
    known: Known = NOTHING,
    fitted: Fit | None = None,
    run: int = 1,
) -> Identified:
    """``config`` is `settle.settled`, ``fitted`` what the study gives the job, None what it would take alone.
    Raises ConfigError where a file or an interpreter that the job names does not exist."""
    fitted = fitted or fit(config, hardware)
    reason = skip_reason(config, hardware) or fitted.reason
    external = config.engine.name == "external"
    launch = None if reason or external else _launch(config, hardware, fitted, known)
    reason = reason or cache_reason(config, {} if launch is None else launch.args)
    reason = reason or budget_reason(config, launch)
    if launch is not None:
        reason = reason or idle_reason(config, hardware, launch)
    model = config.model if launch is None else served(config)
    told = known.served.get(server_key(config.engine)) if external else None
    facts = ResolvedJob(
        # A catalogue's revision says nothing of what somebody else's server has loaded.
        model_revision=revision(model) if not external else _root(told),
        engine_version=None if launch is None else launch.version,
        engine_args={} if launch is None else launch.args,
        engine_env={} if launch is None else launch.env,
        dataset_revision=datasets.fingerprint(config.dataset),
        wording=datasets.wording(config.dataset),
        gpu_type=hardware.name,
        tensor_parallel_size=fitted.tensor_parallel_size,
        sampling=sampling(config),
        trace_revision=_trace_revision(config),
        length_revision=lengths.revision(config.output_length),
        model_source=source(model),
        nodes=1 if launch is None else launch.nodes,
        files={} if launch is None else content.of_named(launch.args),
        served=told,
        keys=_keys(config, known),
        sources={} if external else sources(model),
    )
    command = () if launch is None else tuple(ADAPTERS[launch.engine].command(launch))
    return Identified(make_cell(config, facts, overrides, run), fitted, command, reason)


def _root(served: Mapping[str, Any] | None) -> str:
    """What the name of an external server's model stands for, as far as it tells."""
    return "not told" if served is None else str(served.get("root") or served.get("id"))


def _keys(config: SweepConfig, known: Known) -> dict[str, Any]:
    """By what a later plan finds what this one knew."""
    by = (
        {"server_key": server_key(config.engine)}
        if config.engine.name == "external"
        else {"engine_key": engine_key(config.engine)}
    )
    revisions = {one: commit for one, commit in known.revisions.items() if _names(config, one, commit)}
    return {**by, "revisions": revisions}


def _names(config: SweepConfig, source: str, commit: str) -> bool:
    hub_id, model, data = hub_parts(source)[0], config.model, config.dataset
    pinned = {f"{model.hub_id}@{model.revision}", *model.checkpoints.values(), model.draft, model.eagle3}
    pinned.add(f"{DATASET}{data.hub_id}@{data.revision}")
    return f"{hub_id}@{commit}" in pinned


def _launch(config: SweepConfig, hardware: HardwareConfig, fitted: Fit, known: Known) -> Launch:
    version = known.versions.get(engine_key(config.engine)) or engine_version(config.engine)
    launch = build_launch(
        config,
        hardware="gpu" if hardware.kind == "gpu" else "cpu",
        tensor_parallel_size=fitted.tensor_parallel_size,
        nodes=nodes_of(fitted.tensor_parallel_size, hardware),
        engine_version=version,
    )
    _check_flags(config, launch)
    return launch


def _check_flags(config: SweepConfig, launch: Launch) -> None:
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
