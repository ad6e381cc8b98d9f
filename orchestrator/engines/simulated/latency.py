"""How long a step of a simulated engine takes: a roofline over what the step reads and computes, and the
CPU's part. Calibrated on vLLM 0.25.1 serving a 7B model on one H200; `benchmarks.simulated` compares, and
docs/engines.md says what is not measured.

    GPU s = max(bytes / (0.85 · bandwidth), FLOP / (0.42 · peak)) + 0.9 ms
    CPU s = 38 µs · sequences in the step
    step  = max(GPU, CPU): the engine prepares and delivers beside the GPU's work

with bytes = weights + KV cache of every context and FLOP = 2 · parameters · tokens, shared by the GPUs.
"""

from __future__ import annotations

import math

from orchestrator.engines.simulated.settings import Settings

GIB = 2.0**30
BANDWIDTH_REACHED = 0.85
COMPUTE_REACHED = 0.42
COMPUTE_GAIN_8BIT = 1.1  # where the datasheet promises 2
STEP_S = 0.0009
SEQUENCE_S = 38e-6  # one core delivers some 26,000 tokens a second
REQUEST_S = 0.0013  # one core parses and tokenizes some 770 requests a second
START_S = 95.0
START_S_PER_GIB = 0.5


def step_s(settings: Settings, gpus: int, tokens: int, context_tokens: int, sequences: int) -> float:
    """Seconds of one step over ``tokens`` new tokens of ``sequences``, whose contexts have
    ``context_tokens`` in all."""
    read = settings.weights_gib * GIB + context_tokens * settings.kv_bytes_per_token
    peak = settings.bf16_tflops * 1e12 * (COMPUTE_GAIN_8BIT if settings.compute_8bit else 1.0)
    memory_s = read / (settings.bandwidth_gb_s * 1e9 * BANDWIDTH_REACHED * gpus)
    compute_s = 2.0 * settings.parameters_b * 1e9 * tokens / (peak * COMPUTE_REACHED * gpus)
    return max(max(memory_s, compute_s) + STEP_S, SEQUENCE_S * sequences)


def start_s(settings: Settings, gpus: int) -> float:
    """Seconds from the command to serving, with cold caches."""
    if settings.start_seconds is not None:
        return settings.start_seconds
    return START_S + START_S_PER_GIB * settings.weights_gib / gpus


def drifted(settings: Settings, duration_s: float, at_s: float) -> float:
    """What becomes of a step that begins at ``at_s`` by the machine's monotonic clock, in seconds."""
    return duration_s * (1.0 + settings.drift * math.sin(2.0 * math.pi * at_s / settings.drift_period_s))
