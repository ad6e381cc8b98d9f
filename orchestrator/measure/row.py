"""A cell's row: identity and configuration as columns beside its metrics, as docs/results.md has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from orchestrator.cell import Cell, secret_values
from orchestrator.secrets import hidden_in, masked, masked_config

# The columns whose texts come from outside: what a user, an engine or a node's environment says.
_IN_WORDS = ("overrides", "engine_args", "provenance", "reason")


def cell_row(
    cell: Cell,
    *,
    study: str,
    status: str,
    attempts: int,
    gpus: int,
    nodes: int,
    reason: str | None = None,
    flags: Sequence[str] = (),
    started_at: datetime | None = None,
    duration_s: float | None = None,
    deployment_start_s: float | None = None,
    since_wake_s: float | None = None,
    engine_version: str | None = None,
    items: int | None = None,
    block: str | None = None,
    block_position: int | None = None,
    usage_mode: str | None = None,
    reasoning_from: str | None = None,
    metrics: Mapping[str, float | int | None] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The row of one cell, without NaN and without secrets; a metric that does not apply is absent."""
    config, facts = cell.config, cell.facts
    row = {
        "cell_id": cell.cell_id,
        "deployment_id": cell.deployment_id,
        "study": study,
        "overrides": list(cell.overrides),
        "model": config.model.name,
        "model_kind": config.model.kind,
        "model_revision": facts.model_revision,
        **{f"model_{name}": facts.sources.get(name) for name in ("hub_id", "path", "package")},
        "weights": config.weights,
        "engine": config.engine.name,
        "engine_version": engine_version or facts.engine_version,
        "opt": list(cell.opts),
        "tensor_parallel_size": facts.tensor_parallel_size,
        "gpu_type": facts.gpu_type,
        "gpus": gpus,
        "nodes": nodes,
        "dataset": config.dataset.name,
        "dataset_revision": facts.dataset_revision,
        "prompt": config.dataset.prompt,
        "items": items,
        "load": config.load.kind,
        "concurrency": config.load.concurrency,
        "batch_size": config.load.batch_size,
        "request_rate": config.load.rate,
        "burstiness": config.load.burstiness,
        "normalize": config.load.normalize,
        "usage": config.load.usage,
        "usage_mode": usage_mode,
        "reasoning_from": reasoning_from,
        "cache": config.load.cache,
        "max_tokens": config.max_tokens,
        "thinking_budget": config.thinking_budget,
        "seed": config.seed,
        "run": cell.run,
        "run_of": cell.run_of,
        "block": block,
        "block_position": block_position,
        "repeats": config.repeats,
        **vars(facts.sampling),
        "slo_ttft_s": config.slo.ttft_s,
        "slo_ttfvt_s": config.slo.ttfvt_s,
        "slo_tpot_s": config.slo.tpot_s,
        "slo_e2e_s": config.slo.e2e_s,
        "slo_itl_s": config.slo.itl_s,
        "engine_args": dict(facts.engine_args),
        "provenance": {
            **(provenance or {}),
            "engine_env": masked(facts.engine_env),
            "config": masked_config(asdict(config)),
            "planned": {
                **facts.keys,
                "engine_version": facts.engine_version,
                "served": facts.served and dict(facts.served),
                "model_source": facts.model_source,
                "files": dict(facts.files),
                "trace_revision": facts.trace_revision,
                "length_revision": facts.length_revision,
            },
            **({"speed": facts.engine_args["speed"]} if cell.simulated else {}),
        },
        "status": status,
        "reason": reason,
        "flags": list(flags),
        "attempts": attempts,
        "started_at": started_at,
        "duration_s": duration_s,
        "deployment_start_s": deployment_start_s,
        "since_wake_s": since_wake_s,
        "simulated": cell.simulated,
        **(metrics or {}),
    }
    secrets = secret_values(config)
    return row | {name: hidden_in(row[name], secrets) for name in _IN_WORDS}
