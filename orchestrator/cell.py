"""A cell, a deployment, and the hashes that name them.

A cell's identity is everything that can change its numbers, so a finished cell is recognised by content:
the same command again, another folder, another cluster or another order find it done, and a changed engine
version or dataset does not. Paths, tracking, scheduling, limits and secrets are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any

from orchestrator.config.schema import DeploymentConfig, SamplingConfig, SweepConfig
from orchestrator.secrets import hidden, known, public

# Raise it when what a cell measures changes, so that old results are not mistaken for new ones.
IDENTITY_VERSION = 2

# Every key of the configuration is part of a cell's identity as it stands, but for these two lists. A null
# counts as absent, so that a new key whose null means "as before" leaves old cells their names.
# Keys that are in it through what planning made of them, a field of `ResolvedJob`.
RESOLVED: Mapping[str, str] = {
    "model.hub_id": "model_source",
    "model.package": "model_source",
    "model.lora": "model_revision",
    "model.path": "model_revision",
    "model.revision": "model_revision",
    "model.checkpoints": "model_source",
    "model.draft": "engine_args",
    "model.eagle3": "engine_args",
    **{
        f"{prefix}sampling.{one.name}": "sampling"
        for prefix in ("model.", "")
        for one in fields(SamplingConfig)
    },
    "engine.version": "engine_version",
    "engine.args": "engine_args",
    "engine.env": "engine_env",
    "engine.sleep": "engine_args",
    "engine.sleepers": "engine_args",
    "opt.*.checkpoint": "model_source",
    "opt.*.quantization": "model_revision",
    **{f"opt.*.{engine}.args": "engine_args" for engine in ("vllm", "sglang", "simulated")},
    **{f"opt.*.{engine}.env": "engine_env" for engine in ("vllm", "sglang", "simulated")},
    "dataset.path": "dataset_revision",
    "dataset.revision": "dataset_revision",
    "load.path": "trace_revision",
    "output_length": "length_revision",
    "hardware.name": "gpu_type",
    "hardware.gpus_per_node": "nodes",
    "hardware.gpu_memory_utilization": "engine_args",
    "tensor_parallel_size": "tensor_parallel_size",
}

_SHAPE = "describes the weights, which model_revision names; random and simulated ones are described in full"
_FIT = "decides what fits; the size that follows is in tensor_parallel_size"
_ELSEWHERE = "says where results go"
_BOUND = "what takes longer has no numbers"
# Keys that are not in it, and why.
LEFT_OUT: Mapping[str, str] = {
    "model.pair": "names another model, for comparisons",
    **{
        f"model.{name}": _SHAPE
        for name in (
            *("parameters_b", "layers", "hidden_size", "heads", "kv_heads", "head_dim", "vocab_size"),
            *("architecture", "intermediate_size", "tied_embeddings", "quantization"),
            *("kv_lora_rank", "qk_rope_head_dim", "sliding_window", "sliding_window_layers"),
            *("experts", "experts_per_token", "expert_parameters_b", "weight_bytes", "weight_bytes_of"),
        )
    },
    "model.draft_shapes": _FIT,
    "max_tokens_fit": "the budget that follows is in max_tokens",
    "model.reasoning_parser": "an engine's is in engine_args; else reasoning_inline tells what follows",
    "engine.python": "a path; what it holds is in engine_version",
    "engine.api_key_env": "says which variable opens the server's door",
    "opt.*.summary": "words",
    "opt.*.excludes": "decides what is skipped",
    "opt.*.needs": "decides what is skipped",
    "opt.*.weight_bytes": _FIT,
    "opt.*.kv_bytes": _FIT,
    **{f"opt.*.{engine}.overhead_gib": _FIT for engine in ("vllm", "sglang", "simulated")},
    **{
        f"opt.*.{engine}.{key}": "decides what is skipped"
        for engine in ("vllm", "sglang", "simulated")
        for key in ("unsupported", "unsupported_on", "hardware")
    },
    "dataset.size": "an estimate; the items are those of the revision",
    "dataset.gated": "chooses the words of an error",
    "load.processes": "how the client works, not what it sends",
    "load.telemetry_hz": "how often counters are read, not what they count",
    "hardware.kind": "the engine's arguments follow from it",
    "hardware.ray_accelerator_type": "how nodes are found; what they are is in gpu_type",
    "hardware.memory_gib": _FIT,
    "hardware.bandwidth_gb_s": "for estimates; a simulated engine has it among its arguments",
    "hardware.bf16_tflops": "for estimates; a simulated engine has it among its arguments",
    "hardware.cpus": "what is reserved, not what an engine may use",
    **{f"tracker.{name}": _ELSEWHERE for name in ("name", "project", "entity", "mode")},
    "study_name": _ELSEWHERE,
    "results_dir": _ELSEWHERE,
    **{
        f"slo.{name}": "goodput follows from the stored requests"
        for name in ("ttft_s", "ttfvt_s", "tpot_s", "e2e_s", "itl_s")
    },
    "runs": "how many cells there are; which of them one is, is in its `run`",
    "objective": "chooses among a cell's numbers",
    "dry_run": "how a sweep is run",
    "report": "what is said of the numbers",
    "rerun": "how a sweep is run",
    "prepare": "how a sweep is run",
    "ray.address": "where a sweep is run",
    "ray.dashboard": "what is shown",
    **{
        f"timeout.{name}": _BOUND
        for name in ("engine_start_s", "weights_s", "cell_s", "engine_stop_s", "resources_s")
    },
}
# Values of newer keys that mean what was measured before there were such keys: they count as absent too.
AS_BEFORE: Mapping[str, Any] = {"load.cache": "cold"}
# These are in it where they are null too.
_SAMPLING_AT_FIRST = ("temperature", "top_p", "top_k", "seeded")
# Of the keys that are in it as they stand, those that an engine's process depends on.
_DEPLOYMENT = ("model.name", "model.dtype", "model.context", "weights", "engine.")


@dataclass(frozen=True)
class ResolvedJob:
    """What planning found out about one job, beyond its configuration.

    ``engine_args`` and ``engine_env`` are complete: adapter, optimizations and the user's own, merged.
    ``engine_version`` is that of the nodes' engine, None where nobody could be asked. ``wording`` stands for
    the words around each question, ``trace_revision`` for the content of the load's trace file,
    ``length_revision`` for that of a trace of output lengths. ``model_source`` is the hub id or package whose
    weights are loaded, ``files`` the content of files that ``engine_args`` name, ``served`` what an external
    server says it serves (None: it was not asked). Two are no part of the identity: ``keys`` is what the plan
    asked by, for later plans, ``sources`` the hub id, folder and package of the weights, for the row, which
    ``model_source`` and ``model_revision`` stand for.
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
    model_source: str | None = None
    nodes: int = 1
    files: Mapping[str, str] = field(default_factory=dict)
    served: Mapping[str, Any] | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One measurement. ``cell_id`` and ``deployment_id`` are 16 hex digits. It is the ``run``-th of the
    measurements of what ``run_of`` names, the cell_id of the first of them."""

    cell_id: str
    deployment_id: str
    overrides: tuple[str, ...]
    config: SweepConfig
    facts: ResolvedJob
    run: int = 1
    run_of: str = ""

    def __post_init__(self) -> None:
        if not self.run_of:
            object.__setattr__(self, "run_of", self.cell_id)

    @property
    def opts(self) -> tuple[str, ...]:
        return opt_names(self.config)

    @property
    def simulated(self) -> bool:
        return self.config.engine.simulated


def sampling(config: SweepConfig) -> SamplingConfig:
    """What is sent: the job's own values, else the model card's. One ``stop`` is a list of one."""
    card, own = vars(config.model.sampling), vars(config.sampling)
    sent = {name: card[name] if value is None else value for name, value in own.items()}
    if isinstance(sent["stop"], str):
        sent["stop"] = [sent["stop"]]
    return SamplingConfig(**{**sent, "seeded": bool(sent["seeded"])})


def opt_names(config: SweepConfig) -> tuple[str, ...]:
    """The optimizations in force, sorted; ``("none",)`` when there are none."""
    return tuple(sorted(name for name in config.opt if name != "none")) or ("none",)


def canonical_json(value: object) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN. Raises ValueError on NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object, secrets: tuple[str, ...] = ()) -> str:
    """The first 16 hex digits of SHA-256 over the canonical JSON, with ``***`` for secrets."""
    return hashlib.sha256(hidden(canonical_json(value), secrets).encode()).hexdigest()[:16]


def secret_values(config: DeploymentConfig) -> tuple[str, ...]:
    """What may be stored and shown nowhere: the secrets of the configuration's environments, the key of an
    external server, and those of this process's environment. Longest first."""
    entries = (entry for opt in config.opt.values() for entry in (opt.vllm, opt.sglang, opt.simulated))
    key = {"API_KEY": os.environ.get(config.engine.api_key_env or "", "").strip()}
    return known(config.engine.env, *(entry.env for entry in entries if entry), key)


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration's keys, dotted, with their values. Free mappings (``engine.args``) are one key each."""
    if not is_dataclass(value):
        return {prefix: value}
    found: dict[str, Any] = {}
    for one in fields(value):
        found |= leaves(getattr(value, one.name), f"{prefix}.{one.name}" if prefix else one.name)
    return found


def stated(config: SweepConfig) -> dict[str, Any]:
    """The keys that are in a cell's identity as they stand, without `RESOLVED`, `LEFT_OUT`, nulls and
    `AS_BEFORE`."""
    keys, values_of = _stated_keys()
    return {
        key: value
        for key, value in zip(keys, values_of(config), strict=True)
        if value is not None and not (key in AS_BEFORE and value == AS_BEFORE[key])
    }


@cache
def _stated_keys() -> tuple[tuple[str, ...], Callable[[SweepConfig], tuple[Any, ...]]]:
    """The schema's, for any configuration, and what takes their values of one."""
    left_out = {"opt", *RESOLVED, *LEFT_OUT}
    keys = tuple(key for key in leaves(SweepConfig()) if key not in left_out)
    return keys, attrgetter(*keys)


def deployment_identity(config: SweepConfig, facts: ResolvedJob) -> dict[str, Any]:
    """What one engine process group is: a model served by an engine with one set of arguments."""
    return {
        "version": IDENTITY_VERSION,
        "config": {key: value for key, value in stated(config).items() if key.startswith(_DEPLOYMENT)},
        "model": {"source": facts.model_source, "revision": facts.model_revision},
        "engine": {
            "version": facts.engine_version,
            "args": dict(facts.engine_args),
            "env": public(facts.engine_env),
            "files": dict(facts.files),
            "served": None if facts.served is None else dict(facts.served),
        },
        "opt": opt_names(config),
        "gpu_type": facts.gpu_type,
        "tensor_parallel_size": facts.tensor_parallel_size,
        "nodes": facts.nodes,
    }


def cell_identity(config: SweepConfig, facts: ResolvedJob) -> dict[str, Any]:
    """Everything that can change the numbers of one cell, at its first run."""
    return {
        "deployment": deployment_identity(config, facts),
        "config": {key: value for key, value in stated(config).items() if not key.startswith(_DEPLOYMENT)},
        "reasoning_inline": config.reasoning_inline,
        "dataset_revision": facts.dataset_revision,
        "wording": facts.wording,
        "trace_revision": facts.trace_revision,
        "sampling": {
            name: value
            for name, value in vars(facts.sampling).items()
            if value is not None or name in _SAMPLING_AT_FIRST
        },
        "output_length": facts.length_revision or config.output_length,
    }


def make_cell(
    config: SweepConfig,
    facts: ResolvedJob,
    overrides: tuple[str, ...],
    run: int = 1,
    secrets: tuple[str, ...] | None = None,
) -> Cell:
    """Names a job's ``run``-th measurement by content. ``secrets`` are `secret_values` of its configuration,
    None where they are yet to be looked for."""
    secrets = secret_values(config) if secrets is None else secrets
    identity = cell_identity(config, facts)
    # The first run is the cell as it is without runs, so that further ones can be added to what is measured.
    first = digest(identity, secrets)
    return Cell(
        run=run,
        run_of=first,
        cell_id=digest({"run": run, **identity}, secrets) if run > 1 else first,
        deployment_id=digest(identity["deployment"], secrets),
        overrides=overrides,
        config=config,
        facts=facts,
    )


def by_key(overrides: Iterable[str]) -> dict[str, str]:
    """Overrides, as they were typed, by their keys."""
    pairs = (one.split("=", 1) for one in overrides if "=" in one)
    return {key.lstrip("+"): value for key, value in pairs}
