"""A cell, a deployment, and the hashes that name them.

A cell's identity is everything that can change its numbers, so a finished cell is recognised by content:
the same command again, another folder, another cluster or another order find it done, and a changed engine
version or dataset does not. Paths, tracking and scheduling are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.config.schema import SamplingConfig, SweepConfig

IDENTITY_VERSION = (
    1  # raise it when what a cell measures changes, so that old results are not mistaken for new
)

# Keys of the load that say where and how hard the client works, not what it sends.
_NOT_MEASURED = ("path", "processes", "telemetry_hz")


@dataclass(frozen=True)
class ResolvedJob:
    """What planning found out about one job, beyond its configuration.

    ``engine_args`` and ``engine_env`` are complete: adapter, optimizations and the user's own, merged.
    ``engine_version`` is None where the engine's interpreter is not on this machine. ``wording`` stands for
    the words around each question, ``trace_revision`` for the content of the load's trace file,
    ``length_revision`` for that of a trace of output lengths.
    """

    model_revision: str
    engine_version: str | None
    engine_args: Mapping[str, Any]
    engine_env: Mapping[str, str]
    dataset_revision: str
    wording: str
    gpu_type: str
    tensor_parallel_size: int
    sampling: SamplingConfig
    trace_revision: str | None = None
    length_revision: str | None = None


@dataclass(frozen=True)
class Cell:
    """One measurement. ``cell_id`` and ``deployment_id`` are 16 hex digits."""

    cell_id: str
    deployment_id: str
    overrides: tuple[str, ...]
    config: SweepConfig
    facts: ResolvedJob

    @property
    def opts(self) -> tuple[str, ...]:
        return opt_names(self.config)

    @property
    def simulated(self) -> bool:
        return self.config.engine.simulated

    @property
    def label(self) -> str:
        """What sets this cell apart, in the user's own words."""
        return " ".join(self.overrides) or self.config.model.name


def sampling(config: SweepConfig) -> SamplingConfig:
    """What is sent: the job's own values, else the model card's."""
    card, own = config.model.sampling, config.sampling
    return SamplingConfig(
        temperature=card.temperature if own.temperature is None else own.temperature,
        top_p=card.top_p if own.top_p is None else own.top_p,
        top_k=card.top_k if own.top_k is None else own.top_k,
        seeded=bool(card.seeded if own.seeded is None else own.seeded),
    )


def opt_names(config: SweepConfig) -> tuple[str, ...]:
    """The optimizations in force, sorted; ``("none",)`` when there are none."""
    return tuple(sorted(name for name in config.opt if name != "none")) or ("none",)


def canonical_json(value: object) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN. Raises ValueError on NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """The first 16 hex digits of SHA-256 over the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def deployment_identity(config: SweepConfig, facts: ResolvedJob) -> dict[str, Any]:
    """What one engine process group is: a model served by an engine with one set of arguments."""
    model, engine = config.model, config.engine
    return {
        "version": IDENTITY_VERSION,
        "model": {
            "name": model.name,
            "source": None if model.path else model.hub_id or model.package,
            "revision": facts.model_revision,
            "dtype": model.dtype,
            "context": model.context,
            "weights": config.weights,
        },
        "engine": {
            "name": engine.name,
            "version": facts.engine_version,
            "args": dict(facts.engine_args),
            "env": dict(facts.engine_env),
            "base_url": engine.base_url,
        },
        "opt": opt_names(config),
        "gpu_type": facts.gpu_type,
        "tensor_parallel_size": facts.tensor_parallel_size,
    }


def cell_identity(config: SweepConfig, facts: ResolvedJob) -> dict[str, Any]:
    """Everything that can change the numbers of one cell."""
    dataset = asdict(config.dataset)
    dataset |= {"path": None, "revision": facts.dataset_revision, "wording": facts.wording}
    load = {key: value for key, value in asdict(config.load).items() if key not in _NOT_MEASURED}
    return {
        "deployment": deployment_identity(config, facts),
        "dataset": dataset | {"limit": config.limit},
        "load": load | {"trace_revision": facts.trace_revision},
        "sampling": asdict(facts.sampling),
        "chat_template_kwargs": dict(config.model.chat_template_kwargs),
        "max_tokens": config.max_tokens,
        "output_length": facts.length_revision or config.output_length,
        "seed": config.seed,
        "repeats": config.repeats,
        "slo": asdict(config.slo),
    }


def make_cell(config: SweepConfig, facts: ResolvedJob, overrides: tuple[str, ...]) -> Cell:
    """Names a job by content."""
    return Cell(
        cell_id=digest(cell_identity(config, facts)),
        deployment_id=digest(deployment_identity(config, facts)),
        overrides=overrides,
        config=config,
        facts=facts,
    )
