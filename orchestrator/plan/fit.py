"""Does a model fit, and over how many GPUs: decided before any GPU time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator import memory
from orchestrator.config.schema import HardwareConfig, ModelConfig, SweepConfig
from orchestrator.memory import GIB, KvCache

NODES = (2, 4, 8)  # of one deployment, where tensor_parallel_size=auto


@dataclass(frozen=True)
class Fit:
    """Memory of one deployment, in GiB over all its GPUs. None where the catalogue lacks the numbers.

    ``weights_gib`` has a draft model's in it. ``reason`` says why it cannot work, with the arithmetic; None
    when it can. ``own_size`` is what ``auto`` would have taken for the job alone, where the study's other
    jobs need more.
    """

    tensor_parallel_size: int
    weights_gib: float | None
    kv_gib: float | None
    reason: str | None = None
    own_size: int | None = None


def fit(config: SweepConfig, hardware: HardwareConfig, size: int | None = None) -> Fit:
    """Chooses the tensor-parallel size, or says why none works. ``size`` stands for ``auto``'s choice.

    ``auto``: the smallest size within a node with room for the asked requests in flight; else the smallest
    that holds the weights and what the engine needs at least, over several nodes of a cluster
    (``ray.address``) where no single one does. On a CPU the size is 1 and only the weights are checked; a
    server that runs already has whatever size it has, and its weights take no memory here.
    """
    opts = list(config.opt.values())
    asked = config.tensor_parallel_size
    if config.engine.name == "external":
        return Fit(1 if asked == "auto" else int(asked), None, None)
    weights = memory.weights_gib(config.model, opts)
    if hardware.kind == "cpu":
        return _fit_cpu(weights, asked, hardware)
    forced = int(asked) if asked != "auto" else size
    sizes = [forced] if forced is not None else sizes_of(config, hardware)
    real = config.engine.name in ("vllm", "sglang")
    if reason := _indivisible(sizes[-1], config, hardware, real=real) or _no_rest(config, hardware):
        return Fit(sizes[-1], weights, None, reason)
    kv = memory.kv_cache(config.model, opts)
    if weights is None or kv is None or hardware.memory_gib is None:
        if asked == "auto" and (key := memory.unknown_draft(config.model, opts)):
            return Fit(sizes[0], None, None, _unknown_draft(config.model, key))
        return Fit(forced or 1, weights, None)
    fallback: Fit | None = None
    for one in sizes:
        if fallback is not None and one > hardware.gpus_per_node:
            break  # what a node can hold is not spread over a network
        kv_gib = memory.kv_gib(config, hardware, one)
        stored = memory.kv_cache(config.model, opts, one)
        if kv_gib is None or stored is None or kv_gib * GIB < _least_bytes(config, stored):
            continue
        if kv_gib * GIB >= _wanted_bytes(config, stored):
            return Fit(one, weights, kv_gib)
        fallback = fallback or Fit(one, weights, kv_gib)
    return fallback or Fit(sizes[-1], weights, None, _too_large(config, hardware, sizes[-1]))


def sizes_of(config: SweepConfig, hardware: HardwareConfig) -> list[int]:
    """What ``auto`` chooses from: powers of two that divide the attention heads, of a draft model too, and
    either divide the key-value heads or are multiples of them; beyond a node, of whole nodes."""
    node = hardware.gpus_per_node
    within = [size for size in (1, 2, 4, 8) if size <= node]
    beyond = [] if config.ray.address is None else [nodes * node for nodes in NODES]
    return [size for size in within + beyond if _divides(size, config)]


def nodes_of(tensor_parallel_size: int, hardware: HardwareConfig) -> int:
    return math.ceil(tensor_parallel_size / hardware.gpus_per_node) if hardware.kind == "gpu" else 1


def _wanted_bytes(config: SweepConfig, kv: KvCache) -> float:
    """KV cache for the asked number of requests in flight, each with its whole budget."""
    engine = config.engine.name
    return memory.in_flight(config) * kv.reserved_bytes(memory.request_tokens(config), engine)


def _least_bytes(config: SweepConfig, kv: KvCache) -> float:
    return kv.least_bytes(memory.least_tokens(config), config.engine.name)


def _too_large(config: SweepConfig, hardware: HardwareConfig, size: int) -> str:
    opts = list(config.opt.values())
    own, draft = memory.own_weights_gib(config.model, opts), memory.draft_gib(config.model, opts)
    kv = memory.kv_cache(config.model, opts, size)
    each, usable = memory.for_weights_and_kv_gib(config, hardware), hardware.memory_gib
    if own is None or draft is None or kv is None or each is None or usable is None:
        raise ValueError(f"{config.model.name}: sizes that are not known cannot be too large")
    parts = [f"weights {own:.1f} GiB"]
    if draft:
        parts.append(f"draft model {draft:.1f} GiB")
    parts.append(f"{memory.least_tokens(config)} tokens of KV cache {_least_bytes(config, kv) / GIB:.1f} GiB")
    if config.engine.name == "sglang":
        limit = f"{each:.1f} GiB for weights and KV cache of {hardware.name}"
    else:
        parts.append(f"overhead {memory.overhead_gib(config) * size:.1f} GiB")
        limit = f"{usable * hardware.gpu_memory_utilization:.1f} GiB usable of {hardware.name}"
    nodes = nodes_of(size, hardware)
    over = f", {nodes} nodes of {size // nodes}" if nodes > 1 else ""
    return f"does not fit: {' + '.join(parts)} > {size} x {limit}{over}"


def _no_rest(config: SweepConfig, hardware: HardwareConfig) -> str | None:
    """SGLang's activations and CUDA graphs take what its fraction leaves."""
    if config.engine.name != "sglang" or hardware.memory_gib is None:
        return None
    rest = (1.0 - hardware.gpu_memory_utilization) * (hardware.memory_gib - memory.OUTSIDE_GIB)
    if rest >= memory.REST_GIB:
        return None
    return (
        f"hardware.gpu_memory_utilization={hardware.gpu_memory_utilization:g}: SGLang gives that share to "
        f"weights and KV cache alone, and {rest:.1f} GiB per GPU are left for activations and CUDA graphs"
    )


def _unknown_draft(model: ModelConfig, key: str) -> str:
    named = getattr(model, key)
    return (
        f"model.{key}={named}: its size is not known; give model.draft_shapes.{key} (hub_id, parameters_b, "
        "layers, heads, kv_heads, head_dim), or tensor_parallel_size"
    )


def _indivisible(size: int, config: SweepConfig, hardware: HardwareConfig, *, real: bool) -> str | None:
    """``real``: the engine divides the heads, which a simulated one on one node only pretends."""
    nodes = nodes_of(size, hardware)
    if size % nodes:
        return f"tensor_parallel_size={size}: is not divided evenly by the {nodes} nodes it takes"
    for name, heads, _ in _heads(config) if nodes > 1 or real else ():
        if heads is not None and heads % size:
            return f"tensor_parallel_size={size}: does not divide the {heads} attention heads of {name}"
    return None


def _fit_cpu(weights: float | None, asked: object, hardware: HardwareConfig) -> Fit:
    if asked not in ("auto", 1):
        return Fit(1, weights, None, f"tensor_parallel_size={asked}: a CPU engine runs as one")
    if weights is not None and hardware.memory_gib is not None and weights > 0.7 * hardware.memory_gib:
        reason = f"does not fit: weights {weights:.1f} GiB > 70 % of {hardware.memory_gib:.1f} GiB of memory"
        return Fit(1, weights, None, reason)
    return Fit(1, weights, None)


def _divides(size: int, config: SweepConfig) -> bool:
    (_, own, _), *_ = shapes = _heads(config)
    if own is None and 8 % size:
        return False
    return all(
        (heads is None or heads % size == 0)
        and (kv_heads is None or kv_heads % size == 0 or size % kv_heads == 0)
        for _, heads, kv_heads in shapes
    )


def _heads(config: SweepConfig) -> list[tuple[str, int | None, int | None]]:
    """Name, attention heads and key-value heads of the model, then of the draft models beside it, which
    engines divide as they divide the model. None where there are none to divide, or the catalogue does not
    know."""
    model = config.model
    own = (model.name, model.heads, model.kv_heads if model.kv_lora_rank is None else None)
    known = [shape for shape in memory.drafts(model, config.opt.values()) if shape is not None]
    return [own, *((f"its draft {one.hub_id}", one.heads, one.kv_heads) for one in known)]
