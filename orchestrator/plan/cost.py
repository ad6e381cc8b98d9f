"""How long a cell takes, roughly, from the catalogue alone: good enough to order and to budget.

A decode step reads the weights (of a mixture of experts those that its tokens are sent to) and the KV cache
of every running request once; measured engines reach about 60 % of the datasheet's memory bandwidth. Every
answer is taken to use its whole budget, so this is an upper estimate. None where the catalogue or the
hardware lacks a number: no guess is printed as an estimate. Seconds are the wall's: a simulated engine's are
divided by its speed, arrivals are not.
"""

from __future__ import annotations

from typing import Any

from orchestrator.config.schema import DeploymentConfig, HardwareConfig, SweepConfig
from orchestrator.engines.adapter import flag_name
from orchestrator.memory import GIB, PROMPT_TOKENS, draft_gib, kv_cache, weights_read_gib
from orchestrator.memory import in_flight as requests_in_flight
from orchestrator.plan.fit import Fit

BANDWIDTH_REACHED = 0.6
START_S = 100.0  # a 7B engine on an H200: 97 to 108 s cold
START_S_PER_GIB = 1.0


def speed(config: DeploymentConfig) -> float:
    """How many times faster than the wall's the engine's clock runs: 1 unless it is simulated."""
    return float(_simulated(config, "speed") or 1.0)


def start_s(config: DeploymentConfig, fit: Fit) -> float:
    """Seconds from the engine's command to healthy."""
    asked = _simulated(config, "start-seconds")
    own = START_S + START_S_PER_GIB * (fit.weights_gib or 0.0) / fit.tensor_parallel_size
    return (own if asked is None else float(asked)) / speed(config)


def _simulated(config: DeploymentConfig, flag: str) -> Any:
    """What a simulated engine is told by ``engine.args``; None where nothing, and of any other engine."""
    args = config.engine.args.items() if config.engine.simulated else ()
    return next((value for name, value in args if flag_name(name) == flag), None)


def requests_of(config: SweepConfig) -> int | None:
    """Measured requests of a cell; None when the dataset's size is not known before it is loaded."""
    sizes = [size for size in (config.limit, config.dataset.size) if size is not None]
    return min(sizes) * config.repeats if sizes else None


def cell_s(config: SweepConfig, fit: Fit, hardware: HardwareConfig) -> float | None:
    """Seconds one cell takes on a live engine."""
    requests = requests_of(config)
    kv = kv_cache(config.model, config.opt.values(), fit.tensor_parallel_size)
    if requests is None or kv is None or hardware.bandwidth_gb_s is None:
        return None
    in_flight = min(requests, requests_in_flight(config))
    weights = weights_read_gib(config.model, config.opt.values(), in_flight)
    draft = draft_gib(config.model, config.opt.values())
    if weights is None or draft is None:
        return None
    context = PROMPT_TOKENS + config.max_tokens / 2
    read = (weights + draft) * GIB + in_flight * kv.bytes_of(context)
    step_s = read / (hardware.bandwidth_gb_s * 1e9 * BANDWIDTH_REACHED * fit.tensor_parallel_size)
    step_s /= speed(config)
    decode_s = (requests + in_flight) * config.max_tokens * step_s / in_flight  # warm-up is one more wave
    if config.load.rate is not None:
        return max(decode_s, requests / config.load.rate + config.max_tokens * step_s)
    return decode_s
