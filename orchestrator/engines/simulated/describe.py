"""What the simulated engine is told of a model and its GPUs, which it never sees: the catalogue's numbers."""

from __future__ import annotations

from typing import Any

from orchestrator.config.schema import SweepConfig
from orchestrator.engines.adapter import flag_name
from orchestrator.engines.simulated.settings import complaint
from orchestrator.errors import ConfigError
from orchestrator.memory import fit, kv_bytes_per_token


def lacking(config: SweepConfig) -> str | None:
    """What is missing to simulate this model on this hardware; None when nothing is."""
    hardware, model = config.hardware, config.model
    for name in ("memory_gib", "bandwidth_gb_s", "bf16_tflops"):
        if hardware.kind != "gpu" or getattr(hardware, name) is None:
            return (
                f"engine=simulated needs a GPU whose {name} is known, by name (hardware=h200, say); "
                f"this is hardware={hardware.name}"
            )
    for name in ("parameters_b", "layers", "kv_heads", "head_dim"):
        if getattr(model, name) is None:
            return f"engine=simulated needs model.{name}, and {model.name} names none"
    return None


def described(config: SweepConfig) -> dict[str, Any]:
    """The flags that say what is simulated. Empty where the catalogue lacks numbers (`lacking`) or the model
    does not fit. Raises ConfigError for an ``engine.args`` that the engine does not take."""
    asked = {flag_name(name): value for name, value in config.engine.args.items() if value is not None}
    if found := complaint(asked):
        name, allowed = found
        raise ConfigError(f"engine.args.{name}={str(asked[name]).lower()}: {allowed}")
    fitted = fit(config, config.hardware) if lacking(config) is None else None
    if fitted is None or fitted.kv_gib is None or fitted.weights_gib is None:
        return {}
    return {
        "weights-gib": round(fitted.weights_gib, 6),
        "parameters-b": config.model.parameters_b,
        "kv-bytes-per-token": kv_bytes_per_token(config.model, config.opt.values()),
        "kv-gib": round(fitted.kv_gib, 6),
        "bandwidth-gb-s": config.hardware.bandwidth_gb_s,
        "bf16-tflops": config.hardware.bf16_tflops,
        "reasoning": config.model.kind == "reasoning",
    }
