"""One job's identity and whether it can work: what planning must find out, without a GPU or a network."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from orchestrator import datasets
from orchestrator.cell import Cell, ResolvedJob, make_cell, sampling
from orchestrator.config.schema import HardwareConfig, SweepConfig
from orchestrator.engines import ADAPTERS
from orchestrator.engines.launch import Launch, build_launch
from orchestrator.engines.version import engine_version
from orchestrator.engines.weights import revision, served
from orchestrator.errors import ConfigError
from orchestrator.load import lengths
from orchestrator.plan.compatibility import skip_reason
from orchestrator.plan.fit import Fit, fit, nodes_of


@dataclass(frozen=True)
class Identified:
    """``reason`` is why the cell cannot work; None when it can."""

    cell: Cell
    fit: Fit
    command: tuple[str, ...]
    reason: str | None


def resolve_job(
    config: SweepConfig, overrides: tuple[str, ...], hardware: HardwareConfig, fitted: Fit | None = None
) -> Identified:
    """``fitted`` is what the study gives the job, None what it would take alone. Raises ConfigError where a
    file or an interpreter that the job names does not exist."""
    fitted = fitted or fit(config, hardware)
    reason = skip_reason(config, hardware) or fitted.reason
    launch = None if reason or config.engine.name == "external" else _launch(config, hardware, fitted)
    facts = ResolvedJob(
        model_revision=revision(config.model if launch is None else served(config)),
        engine_version=None if launch is None else launch.version,
        engine_args={} if launch is None else launch.args,
        engine_env={} if launch is None else launch.env,
        dataset_revision=datasets.fingerprint(config.dataset),
        wording=datasets.wording(config.dataset),
        gpu_type=hardware.name,
        tensor_parallel_size=fitted.tensor_parallel_size,
        sampling=sampling(config),
        trace_revision=_trace_revision(config.load.path),
        length_revision=lengths.revision(config.output_length),
    )
    command = () if launch is None else tuple(ADAPTERS[launch.engine].command(launch))
    return Identified(make_cell(config, facts, overrides), fitted, command, reason)


def _launch(config: SweepConfig, hardware: HardwareConfig, fitted: Fit) -> Launch:
    return build_launch(
        config,
        hardware="gpu" if hardware.kind == "gpu" else "cpu",
        tensor_parallel_size=fitted.tensor_parallel_size,
        nodes=nodes_of(fitted.tensor_parallel_size, hardware),
        engine_version=engine_version(config.engine),
    )


def _trace_revision(path: str | None) -> str | None:
    if path is None:
        return None
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"load.path={path}: must be a CSV file of arrivals, and there is no such file")
    return sha256(file.read_bytes()).hexdigest()[:16]
