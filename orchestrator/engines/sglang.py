"""SGLang as an OpenAI-compatible server. Written against 0.5.17 to 0.5.23."""

from __future__ import annotations

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

CPU_KV_CACHE_TOKENS = 32768
STRICT = "enable-strict-thinking"


def base_args(launch: Launch) -> dict[str, Any]:
    """Nothing that could change a number is left to a default: no radix cache, and no sampling defaults from
    the model's ``generation_config.json``, since the sampling is sent with every request."""
    args: dict[str, Any] = {
        "dtype": launch.dtype,
        "context-length": launch.context,
        "random-seed": launch.seed,
        "sampling-defaults": "openai",
        "disable-radix-cache": True,
        "enable-metrics": True,
        "enable-cache-report": True,
    }
    if launch.tokenizer:
        # SGLang has one revision for both, so that of the tokenizer goes with its name (`entry`).
        at = f"@{launch.tokenizer_revision}" if launch.tokenizer_revision else ""
        args["tokenizer-path"] = launch.tokenizer + at
    if launch.reasoning_parser:
        args["reasoning-parser"] = launch.reasoning_parser
    if launch.weights == "dummy":
        args["load-format"] = "dummy"
    if launch.hardware == "cpu":
        args |= {
            "device": "cpu",
            "attention-backend": "torch_native",
            "sampling-backend": "pytorch",
            "max-total-tokens": CPU_KV_CACHE_TOKENS,
            "sleep-on-idle": True,  # an idle scheduler would hold a core
        }
    else:
        args["mem-fraction-static"] = launch.gpu_memory_utilization
    return args


def defaults(hardware: HardwareConfig) -> dict[str, Any]:
    """By ``handle_gpu_memory_settings`` of 0.5.23, whose sizes are in MiB of the whole GPU."""
    if hardware.kind != "gpu" or hardware.memory_gib is None:
        return {}
    steps = ((20, 2048), (60, 4096), (160, 8192))
    size = next((size for below_gib, size in steps if hardware.memory_gib < below_gib), 16384)
    return {"chunked-prefill-size": size}


def command(launch: Launch) -> list[str]:
    own: dict[str, Any] = {
        "model-path": launch.model,
        "revision": None if launch.local else launch.revision,
        "served-model-name": launch.served_name,
        "host": launch.host,
        "port": launch.port,
        "tp-size": launch.tensor_parallel_size,
    }
    if launch.nodes > 1:
        own |= {
            "nnodes": launch.nodes,
            "node-rank": launch.node_rank,
            "dist-init-addr": launch.master or "$MASTER_ADDR:$MASTER_PORT",
        }
    return [*served_by("sglang", launch.python), *to_flags(own), *to_flags(respelt(launch))]


def respelt(launch: Launch) -> dict[str, Any]:
    """The launch's flags as its version spells them: ``--disable-cuda-graph`` is deprecated in 0.5.23."""
    args = dict(launch.args)
    if args.get("disable-cuda-graph") is True and not launch.older_than(0, 5, 23):
        del args["disable-cuda-graph"]
        args |= {"cuda-graph-backend-decode": "disabled", "cuda-graph-backend-prefill": "disabled"}
    return args


def environment(launch: Launch) -> dict[str, str]:
    env = {"ENGINE_API_KEY": launch.api_key}
    if launch.hardware == "cpu":
        env["SGLANG_USE_CPU_ENGINE"] = "1"
    else:
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as NVML counts, which telemetry goes by
    if launch.args.get(STRICT):
        # Without it some versions do not look at a request's own budget; that one comes before it.
        env["SGLANG_MAX_THINK_TOKENS"] = str(launch.context)
    if launch.local:
        env["HF_HUB_OFFLINE"] = "1"
    if launch.address:
        env["SGLANG_HOST_IP"] = launch.address
    return env


def lacks_for_budget(launch: Launch) -> str | None:
    """Without the flag SGLang ignores a budget without a word."""
    if launch.hardware == "cpu":
        return "needs a GPU: SGLang's CPU build dies of its first token under a budget"
    return None if launch.args.get(STRICT) else f"needs +engine.args.{STRICT}=true"


def cache_was_reset(body: bytes) -> bool:
    """SGLang answers 200 when it has flushed, 400 while requests run."""
    return True


# No route says whether it sleeps: its last answer does.
SLEEP = Sleeping(
    flags={"enable-memory-saver": True, "enable-weights-cpu-backup": True},
    environment={},
    sleep=("POST", "/release_memory_occupation", b"{}"),
    wake=("POST", "/resume_memory_occupation", b"{}"),
    kept_gib=1.4,  # by hand, one H100, 0.5.17: 2.7 GiB with two asleep
    since=(0, 5, 17),
)

ADAPTER = Adapter(
    name="sglang",
    distributions=("sglang",),
    base_args=base_args,
    defaults=defaults,
    command=command,
    environment=environment,
    metrics={
        "kv_usage": "sglang:token_usage",
        "running": "sglang:num_running_reqs",
        "waiting": "sglang:num_queue_reqs",
        "preemptions_total": "sglang:num_retracted_requests_total",
        # Every prompt token is looked up in the radix tree.
        "prefix_queries_tokens_total": "sglang:prompt_tokens_total",
        "prefix_hits_tokens_total": "sglang:cached_tokens_total",
        "spec_drafts_total": "sglang:spec_verify_calls_total",
        "spec_accept_rate": "sglang:spec_accept_rate",  # of the last 40 steps or so; there is no counter
        "prompt_tokens_total": "sglang:prompt_tokens_total",
        "generation_tokens_total": "sglang:generation_tokens_total",
        "queue_s_total": "sglang:queue_time_seconds_sum",
        "queue_requests_total": "sglang:queue_time_seconds_count",
    },
    ready_path="/health_generate",
    health_path="/health",
    reset_cache=CacheReset("POST", "/flush_cache", cache_was_reset),
    reserved={
        "model-path": "model",
        "model": "model",
        "revision": "model.revision",
        "served-model-name": "model.name",
        "host": "nothing: engines listen on the loopback only",
        "port": "nothing: ports are drawn",
        "api-key": "nothing: keys are drawn",
        "tp-size": "tensor_parallel_size",
        "tensor-parallel-size": "tensor_parallel_size",
        **dict.fromkeys(
            ("pp-size", "pipeline-parallel-size", "dp-size", "data-parallel-size"),
            "nothing: a deployment reserves the GPUs of tensor_parallel_size and no more",
        ),
        **dict.fromkeys(("base-gpu-id", "gpu-id-step", "use-ray"), "nothing: the scheduler says which GPUs"),
        "nnodes": "tensor_parallel_size",
        "node-rank": "tensor_parallel_size",
        "dist-init-addr": "nothing: the nodes meet at a port that is drawn",
        "nccl-init-addr": "nothing: the nodes meet at a port that is drawn",
        "load-format": "weights",
        "random-seed": "seed",
        "context-length": "model.context",
        "dtype": "model.dtype",
        "mem-fraction-static": "hardware.gpu_memory_utilization",
        **dict.fromkeys(("enable-memory-saver", "enable-weights-cpu-backup"), "engine.sleep"),
        "config": "nothing: a file of flags would set what no cell's name has",
        "admin-api-key": "nothing: keys are drawn",
        **dict.fromkeys(
            ("grpc-mode", "smg-grpc-mode", "grpc-port", "ssl-keyfile", "ssl-certfile"),
            "nothing: engines are spoken to by HTTP on the loopback",
        ),
    },
    reasoning_fields=("reasoning_content",),
    thinking_budget=ThinkingBudget(
        lambda budget: {"custom_params": {"thinking_budget": budget}},
        since=(0, 5, 11),
        lacking=lacks_for_budget,
    ),
    lazy=frozenset(
        {
            *("preemptions_total", "prefix_hits_tokens_total", "spec_drafts_total", "spec_accept_rate"),
            *("queue_s_total", "queue_requests_total"),
        }
    ),
    preload=(
        "sglang.srt.entrypoints.http_server",
        "sglang.srt.managers.scheduler",
        "sglang.srt.managers.detokenizer_manager",
    ),
    sleep=SLEEP,
)
