"""What the simulated engine is told of a model and its GPUs, which it never sees: the catalogue's numbers."""

from __future__ import annotations

from typing import Any

from orchestrator.config.schema import DeploymentConfig
from orchestrator.engines.adapter import flag_name
from orchestrator.engines.simulated.settings import complaint
from orchestrator.errors import ConfigError
from orchestrator.memory import active_parameters_b, kv_cache, kv_gib, weights_gib


def lacking(config: DeploymentConfig) -> str | None:
    """What is missing to simulate this model on this hardware; None when nothing is."""
    hardware, model = config.hardware, config.model
    for name in ("memory_gib", "bandwidth_gb_s", "bf16_tflops"):
        if hardware.kind != "gpu" or getattr(hardware, name) is None:
            return (
                f"engine=simulated needs a GPU whose {name} is known, by name (hardware=h200, say); "
                f"this is hardware={hardware.name}"
            )
    if model.sliding_window is not None:
        return f"engine=simulated has no sliding window in its KV cache, and {model.name} has one"
    shape = ("kv_lora_rank",) if model.kv_lora_rank is not None else ("kv_heads", "head_dim")
    for name in ("parameters_b", "layers", *shape):
        if getattr(model, name) is None:
            return f"engine=simulated needs model.{name}, and {model.name} names none"
    return None


def described(config: DeploymentConfig, tensor_parallel_size: int) -> dict[str, Any]:
    """The flags that say what is simulated. Empty where the catalogue lacks numbers (`lacking`) or the model
    does not fit. Raises ConfigError for an ``engine.args`` that the engine does not take."""
    asked = {flag_name(name): value for name, value in config.engine.args.items() if value is not None}
    if found := complaint(asked):
        name, allowed = found
        raise ConfigError(f"engine.args.{name}={str(asked[name]).lower()}: {allowed}")
    if lacking(config) is not None:
        return {}
    opts = list(config.opt.values())
    weights = weights_gib(config.model, opts)
    cache = kv_cache(config.model, opts, tensor_parallel_size)
    room = kv_gib(config, config.hardware, tensor_parallel_size)
    if weights is None or cache is None or room is None or room <= 0:
        return {}
    return {
        "weights-gib": round(weights, 6),
        "parameters-b": active_parameters_b(config.model),
        "kv-bytes-per-token": cache.full,
        "kv-gib": round(room, 6),
        "bandwidth-gb-s": config.hardware.bandwidth_gb_s,
        "bf16-tflops": config.hardware.bf16_tflops,
        "reasoning": config.model.kind == "reasoning",
    }
