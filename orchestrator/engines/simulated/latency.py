"""How long a step of a simulated engine takes: a roofline over what the step reads and computes, and the
CPU's part. Calibrated on vLLM 0.25.1 serving a 7B model on one H200 (`benchmarks.simulated` compares; what is
not measured there is said in docs/engines.md).

    GPU s = max(bytes / (bandwidth · 0.9), FLOP / (peak · 0.55)) + 1.6 ms
    CPU s = 48 µs · sequences in the step
    step  = max(GPU, CPU): the engine prepares and delivers beside the GPU's work

with bytes = weights + KV cache of every context, FLOP = 2 · parameters · tokens, each over the GPUs.
"""

from __future__ import annotations

from orchestrator.engines.simulated.settings import Settings

GIB = 2.0**30
BANDWIDTH_REACHED = 0.9
COMPUTE_REACHED = 0.55
COMPUTE_GAIN_8BIT = 1.5  # of the 2 that the datasheet promises
STEP_S = 0.0016  # launches, sampling, scheduling: what a step costs however small
SEQUENCE_S = 48e-6  # one core delivers some 20,000 tokens a second
START_S = 86.0
START_S_PER_GIB = 1.0


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
