"""What a decode step reads of a GPU's memory, by the catalogue's shapes and what was seen to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from orchestrator.config.schema import DraftShape, ModelConfig, OptConfig
from orchestrator.memory import DTYPE_BYTES, GIB, draft_gib, kv_cache, weights_read_gib
from orchestrator.metrics.stats import ratio
from orchestrator.paths import conf_dir
from orchestrator.report.settings import configuration_of
from orchestrator.report.variants import Row

_MODEL = (
    *("parameters_b", "layers", "hidden_size", "heads", "kv_heads", "head_dim", "kv_lora_rank"),
    *("qk_rope_head_dim", "sliding_window", "sliding_window_layers", "experts", "experts_per_token"),
    *("expert_parameters_b", "weight_bytes", "weight_bytes_of", "vocab_size", "tied_embeddings", "dtype"),
    *("draft", "eagle3"),
)
_OPT = ("needs", "weight_bytes", "kv_bytes")
_DRAFT = ("hub_id", "parameters_b", "layers", "heads", "kv_heads", "head_dim", "dtype")


@dataclass(frozen=True)
class Reads:
    """Bytes that one GPU reads in a step: ``weights``, ``kv_tokens`` (of all requests that run) times
    ``kv_token``, and a draft model's weights, once for each token that it drafts (0 without one, None where
    that is not known)."""

    weights: float
    kv_tokens: float
    kv_token: float
    draft: float | None


def reads(row: Row) -> Reads | None:
    """None where the catalogue lacks a shape, or nobody saw how many requests ran or how long they were."""
    config = configuration_of(row)
    running, tokens = row.get("running_mean"), _context(row)
    gpus = row.get("tensor_parallel_size") or 1
    model = _model(config.get("model") or {})
    if not running or tokens is None or model is None or row.get("engine") == "external":
        return None
    opts = [OptConfig(**_known(one, _OPT)) for one in (config.get("opt") or {}).values() if one]
    per_step = row.get("spec_tokens_per_step") or 1.0
    weights = weights_read_gib(model, opts, max(1, round(running * per_step)))
    own = [OptConfig(kv_bytes=opt.kv_bytes) for opt in opts]  # a draft's cache is not read as the model's is
    cache = kv_cache(model, own, gpus)
    if weights is None or cache is None:
        return None
    return Reads(
        weights * GIB / gpus,
        running * tokens,
        cache.bytes_of(tokens) / tokens / gpus,
        _draft(row, model, opts, gpus),
    )


def bandwidth(row: Row) -> float | None:
    """Of one GPU's memory by its datasheet, bytes per second: of the cell's own configuration, else of the
    catalogue's GPU of that name (``hardware=auto`` is stored as it was asked for); of a simulated engine by
    its faster clock. None where neither has one."""
    config = configuration_of(row)
    found = (config.get("hardware") or {}).get("bandwidth_gb_s") or _listed(str(row.get("gpu_type")))
    if not found:
        return None
    clock = ((config.get("engine") or {}).get("args") or {}).get("speed") if row.get("simulated") else None
    return float(found) * 1e9 * float(clock or 1.0)


@cache
def _listed(gpu_type: str) -> float | None:
    """GB/s by the catalogue."""
    path = conf_dir() / "hardware" / f"{gpu_type}.yaml"
    listed = OmegaConf.load(path) if path.is_file() else None
    return listed.get("bandwidth_gb_s") if isinstance(listed, DictConfig) else None


def _context(row: Row) -> float | None:
    """Tokens of a request that runs, prompt included, on average over the steps: an answer of n tokens is in
    n of them, and half as long on average."""
    prompt, answer = _length(row, "prompt"), _length(row, "output")
    if prompt is None or not answer:
        return None
    spread = row.get("output_length_sd") or 0.0
    return float(prompt + (answer + spread**2 / answer) / 2)


def _length(row: Row, of: str) -> float | None:
    """Tokens of an ok request, of a row of an older version by their sum."""
    mean: float | None = row.get(f"{of}_length_mean")
    return ratio(row.get(f"{of}_tokens"), row.get("requests_ok")) if mean is None else mean


def _draft(row: Row, model: ModelConfig, opts: list[OptConfig], gpus: int) -> float | None:
    size = draft_gib(model, opts)
    if not size:
        return size
    per_step, accepted = row.get("spec_tokens_per_step"), row.get("spec_acceptance_rate")
    if not per_step or not accepted:
        return None
    return float(size * GIB * (per_step - 1) / accepted / gpus)


def _model(stored: Mapping[str, Any]) -> ModelConfig | None:
    shapes = {
        key: DraftShape(**_known(shape, _DRAFT))
        for key, shape in (stored.get("draft_shapes") or {}).items()
        if shape
    }
    found = ModelConfig(**_known(stored, _MODEL), draft_shapes=shapes)
    return found if found.dtype in DTYPE_BYTES else None


def _known(stored: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """What is stored of ``names``: an older version has fewer of them."""
    return {name: stored[name] for name in names if stored.get(name) is not None}
