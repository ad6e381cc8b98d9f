"""Does a model fit, and over how many GPUs: arithmetic on the catalogue, before any GPU time.

Per GPU: ``memory x gpu_memory_utilization = weights / tp + overhead + KV cache``. The overhead (activations,
CUDA graphs, the engine's own) was 2.0 GiB for a 7B model in vLLM 0.25.1 on an H200: 126.4 GiB usable less
14.2 of weights left 110.2 of KV cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.config.schema import HardwareConfig, ModelConfig, OptConfig, SweepConfig

GIB = 2.0**30
OVERHEAD_GIB = 2.0
NODES = (2, 4, 8)  # of one deployment, where tensor_parallel_size=auto
PROMPT_TOKENS = 512  # assumed length of a question with its instructions, where room for requests is reckoned
DTYPE_BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}


@dataclass(frozen=True)
class Fit:
    """Memory of one deployment, in GiB over all its GPUs. None where the catalogue lacks the numbers.

    ``reason`` says why it cannot work, with the arithmetic; None when it can.
    """

    tensor_parallel_size: int
    weights_gib: float | None
    kv_gib: float | None
    reason: str | None = None


def weights_gib(model: ModelConfig, opts: Iterable[OptConfig]) -> float | None:
    """Weights over all GPUs. A quantization leaves embedding and output layer in the model's dtype."""
    if model.parameters_b is None:
        return None
    dense = DTYPE_BYTES[model.dtype]
    per_parameter = min((opt.weight_bytes for opt in opts if opt.weight_bytes is not None), default=dense)
    parameters = model.parameters_b * 1e9
    kept = 2.0 * (model.vocab_size or 0) * (model.hidden_size or 0) if per_parameter < dense else 0.0
    kept = min(kept, parameters)
    return (kept * dense + (parameters - kept) * per_parameter) / GIB


def kv_bytes_per_token(model: ModelConfig, opts: Iterable[OptConfig]) -> float | None:
    """Keys and values of every layer for one token, in bytes over all GPUs."""
    if model.layers is None or model.kv_heads is None or model.head_dim is None:
        return None
    element = min(
        (opt.kv_bytes for opt in opts if opt.kv_bytes is not None), default=DTYPE_BYTES[model.dtype]
    )
    return 2.0 * model.layers * model.kv_heads * model.head_dim * element


def tokens_wanted(config: SweepConfig) -> int:
    """Tokens of KV cache for the asked number of requests in flight, each with its whole budget."""
    in_flight = config.load.concurrency or config.load.batch_size or 64
    return in_flight * request_tokens(config)


def request_tokens(config: SweepConfig) -> int:
    return min(config.model.context, PROMPT_TOKENS + config.max_tokens)


def least_tokens(config: SweepConfig) -> int:
    """Tokens of KV cache without which there is no engine: one request's. vLLM does not start where one of
    the whole context would not fit, however short those are that it will get."""
    return config.model.context if config.engine.name == "vllm" else request_tokens(config)


def fit(config: SweepConfig, hardware: HardwareConfig) -> Fit:
    """Chooses the tensor-parallel size, or says why none works.

    ``auto``: the smallest size within a node with room for the asked requests in flight; else the smallest
    that holds the weights and what the engine needs at least, over several nodes of a cluster
    (``ray.address``) where no single one does. On a CPU the size is 1 and only the weights are checked.
    """
    opts = list(config.opt.values())
    weights = weights_gib(config.model, opts)
    per_token = kv_bytes_per_token(config.model, opts)
    asked = config.tensor_parallel_size
    if hardware.kind == "cpu":
        return _fit_cpu(weights, asked, hardware)
    sizes = _sizes(config, hardware) if asked == "auto" else [int(asked)]
    if reason := _indivisible(sizes[-1], config.model, hardware):
        return Fit(sizes[-1], weights, None, reason)
    if weights is None or per_token is None or hardware.memory_gib is None:
        return Fit(1 if asked == "auto" else int(asked), weights, None)
    usable = hardware.memory_gib * hardware.gpu_memory_utilization
    fallback: Fit | None = None
    for size in sizes:
        if fallback is not None and size > hardware.gpus_per_node:
            break  # what a node can hold is not spread over a network
        kv = (usable - OVERHEAD_GIB) * size - weights
        tokens = kv * GIB / (per_token * copies(config.model, size))
        if tokens >= max(tokens_wanted(config), least_tokens(config)):
            return Fit(size, weights, kv)
        if tokens >= least_tokens(config) and fallback is None:
            fallback = Fit(size, weights, kv)
    if fallback is not None:
        return fallback
    size = sizes[-1]
    least = least_tokens(config)
    kv_gib = least * per_token * copies(config.model, size) / GIB
    nodes = nodes_of(size, hardware)
    over = f", {nodes} nodes of {size // nodes}" if nodes > 1 else ""
    return Fit(
        size,
        weights,
        None,
        f"does not fit: weights {weights:.1f} GiB + {least} tokens of KV cache "
        f"{kv_gib:.1f} GiB + overhead {OVERHEAD_GIB * size:.1f} GiB "
        f"> {size} x {usable:.1f} GiB usable of {hardware.name}{over}",
    )


def copies(model: ModelConfig, size: int) -> float:
    """How often the KV cache is stored over all GPUs: a key-value head is not divided."""
    return max(1.0, size / (model.kv_heads or size))


def _indivisible(size: int, model: ModelConfig, hardware: HardwareConfig) -> str | None:
    nodes = nodes_of(size, hardware)
    if size % nodes:
        return f"tensor_parallel_size={size}: is not divided evenly by the {nodes} nodes it takes"
    if nodes > 1 and (model.heads or size) % size:
        return (
            f"tensor_parallel_size={size}: does not divide the {model.heads} attention heads of {model.name}"
        )
    return None


def _fit_cpu(weights: float | None, asked: object, hardware: HardwareConfig) -> Fit:
    if asked not in ("auto", 1):
        return Fit(1, weights, None, f"tensor_parallel_size={asked}: a CPU engine runs as one")
    if weights is not None and hardware.memory_gib is not None and weights > 0.7 * hardware.memory_gib:
        reason = f"does not fit: weights {weights:.1f} GiB > 70 % of {hardware.memory_gib:.1f} GiB of memory"
        return Fit(1, weights, None, reason)
    return Fit(1, weights, None)


def _sizes(config: SweepConfig, hardware: HardwareConfig) -> list[int]:
    """Powers of two that divide the attention heads; beyond a node, of whole nodes."""
    heads, node = config.model.heads or 8, hardware.gpus_per_node
    within = [size for size in (1, 2, 4, 8) if heads % size == 0 and size <= node]
    if config.ray.address is None:
        return within
    return within + [nodes * node for nodes in NODES if heads % (nodes * node) == 0]


def nodes_of(tensor_parallel_size: int, hardware: HardwareConfig) -> int:
    return math.ceil(tensor_parallel_size / hardware.gpus_per_node) if hardware.kind == "gpu" else 1
