"""What a model needs of GPUs' memory: arithmetic on the catalogue, before any GPU time.

What each engine's memory fraction leaves for the KV cache, here of one GPU that holds all of the weights:

    vLLM     KV = fraction x memory - overhead - weights      everything the engine takes is in the fraction
    SGLang   KV = fraction x (memory - outside) - weights     activations and CUDA graphs are in the rest

The constants are measured: docs/h200.md and docs/h200-multi.md, "Memory", have planned and reported KV cache.
Sizes are in bytes or GiB (2**30 bytes) over all GPUs of a deployment. Of one GPU are those of the hardware,
the constants, `overhead_gib` and `for_weights_and_kv_gib`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.config.schema import (
    DeploymentConfig,
    DraftShape,
    HardwareConfig,
    ModelConfig,
    OptConfig,
    SweepConfig,
)
from orchestrator.paths import hub_parts

GIB = 2.0**30
DTYPE_BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}

OVERHEAD_GIB = 2.0  # vLLM: driver, CUDA context, activations, CUDA graphs; per GPU
OUTSIDE_GIB = 1.4  # SGLang: what driver, CUDA context and libraries hold before it loads the weights; per GPU
REST_GIB = 1.0  # SGLang: the least that activations and CUDA graphs take; per GPU

PROMPT_TOKENS = 512  # assumed length of a question with its instructions, where room for requests is reckoned
IN_FLIGHT = 64  # assumed of an open load, which has no limit

# vLLM starts only with room for a request of the whole context, whose window layers then hold, beside the
# window, what two steps prefill.
VLLM_PREFILL_TOKENS = 2 * 8192
# SGLang makes two pools; that of the window layers has this share of the other's tokens
# (--swa-full-tokens-ratio).
SGLANG_WINDOW_SHARE = 0.8


@dataclass(frozen=True)
class KvCache:
    """Bytes per token over all GPUs: of the layers that keep every token, and of those that keep a window."""

    full: float
    windowed: float = 0.0
    window: int = 0  # tokens

    def bytes_of(self, tokens: float) -> float:
        """Of one request of so many tokens, prompt and output: what is held, and what a decode step reads."""
        return self.full * tokens + self.windowed * min(tokens, self.window)

    def reserved_bytes(self, tokens: float, engine: str) -> float:
        """What one such request takes of the engine's cache."""
        if engine != "sglang" or not self.windowed:
            return self.bytes_of(tokens)
        per_slot = self.full + SGLANG_WINDOW_SHARE * self.windowed
        return per_slot * max(tokens, min(tokens, self.window) / SGLANG_WINDOW_SHARE)

    def least_bytes(self, tokens: int, engine: str) -> float:
        """What must be there for one request of so many tokens."""
        if engine != "vllm":
            return self.reserved_bytes(tokens, engine)
        return self.full * tokens + self.windowed * min(tokens, self.window + VLLM_PREFILL_TOKENS)


def weights_gib(model: ModelConfig, opts: Iterable[OptConfig]) -> float | None:
    """Weights, a draft model's included; None where the catalogue lacks a number."""
    opts = list(opts)
    own, draft = own_weights_gib(model, opts), draft_gib(model, opts)
    return None if own is None or draft is None else own + draft


def own_weights_gib(model: ModelConfig, opts: Iterable[OptConfig]) -> float | None:
    """Weights without a draft model's."""
    found = _weights_bytes(model, opts)
    return None if found is None else sum(found) / GIB


def weights_read_gib(model: ModelConfig, opts: Iterable[OptConfig], sequences: int) -> float | None:
    """What a decode step of so many sequences reads of the weights: of a mixture of experts those that at
    least one token is sent to, each token to ``experts_per_token`` of them at random."""
    found = _weights_bytes(model, opts)
    if found is None:
        return None
    experts, rest = found
    return (experts * (1.0 - (1.0 - _expert_share(model)) ** sequences) + rest) / GIB


def active_parameters_b(model: ModelConfig) -> float | None:
    """Parameters that a token meets, in units of 1e9: of a mixture of experts not those of other experts."""
    if model.parameters_b is None:
        return None
    return model.parameters_b - (model.expert_parameters_b or 0.0) * (1.0 - _expert_share(model))


def draft_gib(model: ModelConfig, opts: Iterable[OptConfig]) -> float | None:
    """Weights of the draft model that an optimization loads beside the model, in the draft's own dtype; 0
    without one, None where the catalogue does not know it."""
    sizes = [
        None if shape is None or shape.parameters_b is None else shape.parameters_b * DTYPE_BYTES[shape.dtype]
        for shape in drafts(model, opts)
    ]
    known = [size for size in sizes if size is not None]
    return None if len(known) < len(sizes) else sum(known) * 1e9 / GIB


def unknown_draft(model: ModelConfig, opts: Iterable[OptConfig]) -> str | None:
    """The key (``draft``, ``eagle3``) of a draft model whose size is not known. None when there is none, or
    the model's own size is not known either."""
    if model.parameters_b is None or kv_cache(model, ()) is None:
        return None
    lacking = (opt.needs for opt in opts if opt.needs and not _complete(_draft(model, opt.needs)))
    return next(lacking, None)


def kv_cache(model: ModelConfig, opts: Iterable[OptConfig], size: int = 1) -> KvCache | None:
    """The KV cache of ``size`` GPUs in tensor parallel, a draft model's included. A key-value head is not
    divided, and a latent (MLA) is every GPU's: what does not divide is stored more than once. None where the
    catalogue lacks a number."""
    opts = list(opts)
    asked = min((opt.kv_bytes for opt in opts if opt.kv_bytes is not None), default=None)
    element = DTYPE_BYTES[model.dtype] if asked is None else asked
    if model.layers is None:
        return None
    if model.kv_lora_rank is not None and model.qk_rope_head_dim is not None:
        layer = float(model.kv_lora_rank + model.qk_rope_head_dim) * size
    elif model.kv_heads is None or model.head_dim is None:
        return None
    else:
        layer = _heads_elements(model.kv_heads, model.head_dim, size)
    windowed = 0
    if model.sliding_window is not None:
        windowed = model.layers if model.sliding_window_layers is None else model.sliding_window_layers
    full = (model.layers - windowed) * layer * element
    for shape in drafts(model, opts):
        if shape is None or shape.layers is None or shape.kv_heads is None or shape.head_dim is None:
            return None
        of_draft = DTYPE_BYTES[shape.dtype] if asked is None else asked
        full += shape.layers * _heads_elements(shape.kv_heads, shape.head_dim, size) * of_draft
    return KvCache(full, windowed * layer * element, model.sliding_window or 0)


def copies(kv_heads: int, size: int) -> float:
    """How often a KV cache is stored over ``size`` GPUs: a key-value head is not divided."""
    return max(1.0, size / kv_heads)


def for_weights_and_kv_gib(config: DeploymentConfig, hardware: HardwareConfig) -> float | None:
    """What the engine's memory fraction leaves of one GPU for weights and KV cache. None where the hardware's
    memory is not known."""
    if hardware.memory_gib is None:
        return None
    fraction = hardware.gpu_memory_utilization
    if config.engine.name == "sglang":
        return fraction * (hardware.memory_gib - OUTSIDE_GIB)
    return fraction * hardware.memory_gib - overhead_gib(config)


def overhead_gib(config: DeploymentConfig) -> float:
    """What vLLM takes of its fraction of one GPU for itself."""
    entries = (getattr(opt, config.engine.name, None) for opt in config.opt.values())
    return OVERHEAD_GIB + sum(float(entry.overhead_gib) for entry in entries if entry is not None)


def kv_gib(config: DeploymentConfig, hardware: HardwareConfig, size: int) -> float | None:
    """The KV cache's memory on ``size`` GPUs; negative where the weights alone are too large, None where the
    catalogue lacks a number."""
    each = for_weights_and_kv_gib(config, hardware)
    weights = weights_gib(config.model, config.opt.values())
    return None if each is None or weights is None else each * size - weights


def in_flight(config: SweepConfig) -> int:
    """Requests at once that room is made for."""
    return config.load.concurrency or config.load.batch_size or IN_FLIGHT


def request_tokens(config: SweepConfig) -> int:
    """The length of a request that uses its whole budget, prompt included."""
    return min(config.model.context, PROMPT_TOKENS + config.max_tokens)


def least_tokens(config: SweepConfig) -> int:
    """The request without whose room there is no engine. vLLM does not start where one of the whole context
    would not fit, however short those are that it will get."""
    return config.model.context if config.engine.name == "vllm" else request_tokens(config)


def impossible(model: ModelConfig) -> str | None:
    """The line for keys of the model's shape that contradict each other; None when they do not."""
    if (model.kv_lora_rank is None) != (model.qk_rope_head_dim is None):
        return "model.kv_lora_rank, model.qk_rope_head_dim: must be given together"
    if model.sliding_window_layers is not None:
        key = f"model.sliding_window_layers={model.sliding_window_layers}"
        if model.sliding_window is None:
            return f"{key}: needs model.sliding_window, the window's length in tokens"
        if model.layers is not None and model.sliding_window_layers > model.layers:
            return f"{key}: must be at most model.layers={model.layers}"
    if model.sliding_window is not None and model.kv_lora_rank is not None:
        return f"model.sliding_window={model.sliding_window}: not with model.kv_lora_rank"
    expert_keys = (model.experts, model.experts_per_token, model.expert_parameters_b)
    if None in expert_keys and any(value is not None for value in expert_keys):
        return (
            "model.experts, model.experts_per_token, model.expert_parameters_b: must be given together, "
            "or none of them"
        )
    if model.experts is not None and (model.experts_per_token or 0) > model.experts:
        return f"model.experts_per_token={model.experts_per_token}: must be at most {model.experts}"
    if (model.expert_parameters_b or 0.0) > (model.parameters_b or float("inf")):
        return f"model.expert_parameters_b={model.expert_parameters_b}: must be at most {model.parameters_b}"
    if model.weight_bytes_of == "experts" and model.experts is None:
        return "model.weight_bytes_of=experts: needs model.experts"
    return None


def _weights_bytes(model: ModelConfig, opts: Iterable[OptConfig]) -> tuple[float, float] | None:
    """Bytes of the routed experts and of all else. Quantizing leaves embedding and output layer, one matrix
    where they are tied, in the model's dtype."""
    if model.parameters_b is None:
        return None
    dense = DTYPE_BYTES[model.dtype]
    asked = min((opt.weight_bytes for opt in opts if opt.weight_bytes is not None), default=None)
    published = dense if model.weight_bytes is None else model.weight_bytes
    quantized = published if asked is None else asked
    of_rest = dense if asked is None and model.weight_bytes_of == "experts" else quantized
    experts = (model.expert_parameters_b or 0.0) * 1e9
    rest = model.parameters_b * 1e9 - experts
    matrices = 1.0 if model.tied_embeddings else 2.0
    kept = min(matrices * (model.vocab_size or 0) * (model.hidden_size or 0), rest)
    return experts * quantized, kept * dense + (rest - kept) * of_rest


def _expert_share(model: ModelConfig) -> float:
    return 1.0 if not model.experts else (model.experts_per_token or model.experts) / model.experts


def _heads_elements(kv_heads: int, head_dim: int, size: int) -> float:
    """Keys and values of one token in one layer."""
    return 2.0 * kv_heads * head_dim * copies(kv_heads, size)


def drafts(model: ModelConfig, opts: Iterable[OptConfig]) -> list[DraftShape | None]:
    """The draft models that the optimizations load beside the model; None for one that the catalogue does
    not know."""
    return [_draft(model, opt.needs) for opt in opts if opt.needs is not None]


def _draft(model: ModelConfig, key: str) -> DraftShape | None:
    """The shape of what ``model.draft`` or ``model.eagle3`` names; not of another that stood there before."""
    shape = model.draft_shapes.get(key)
    named, _ = hub_parts(str(getattr(model, key, None) or ""))
    return shape if shape is not None and shape.hub_id == named else None


def _complete(shape: DraftShape | None) -> bool:
    return shape is not None and None not in (
        shape.parameters_b,
        shape.layers,
        shape.kv_heads,
        shape.head_dim,
    )
