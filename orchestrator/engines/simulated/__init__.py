"""A simulated engine: the server is real, its tokens' times come from a model, and no GPU is touched.

For rehearsing a sweep where the GPUs are not, and for testing what runs engines. `settings` has its flags,
`latency` and `batching` the model, `server` the process.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.engines.adapter import Adapter, CacheReset, Launch, ThinkingBudget
from orchestrator.engines.simulated.settings import Place, flags
from orchestrator.engines.vllm import SLEEP, cache_was_reset

VERSION = "2"  # raise it when the same flags give other times or other answers

# Isolated from site-packages, which it does not need and whose search would be most of its start.
_MAIN = (
    f"import sys; sys.path.append({str(Path(__file__).parents[3])!r}); "
    "from orchestrator.engines.simulated.server import main; main(sys.argv[1:])"
)


def base_args(launch: Launch) -> dict[str, Any]:
    return {
        "max-model-len": launch.context,
        "enable-prefix-caching": False,
        "speed": 1.0,
    }


def command(launch: Launch) -> list[str]:
    place = Place(
        host=launch.host,
        port=launch.port,
        served_model_name=launch.served_name,
        tensor_parallel_size=launch.tensor_parallel_size,
        node_rank=launch.node_rank,
    )
    return [launch.python, "-I", "-S", "-c", _MAIN, *flags(place, launch.args)]


def environment(launch: Launch) -> dict[str, str]:
    return {"SIMULATED_API_KEY": launch.api_key}


ADAPTER = Adapter(
    name="simulated",
    distributions=(),
    version=VERSION,
    base_args=base_args,
    command=command,
    environment=environment,
    metrics={
        "kv_usage": "simulated:kv_cache_usage_perc",
        "running": "simulated:num_requests_running",
        "waiting": "simulated:num_requests_waiting",
        "preemptions_total": "simulated:num_preemptions_total",
        "prefix_queries_tokens_total": "simulated:prefix_cache_queries_total",
        "prefix_hits_tokens_total": "simulated:prefix_cache_hits_total",
        "prompt_tokens_total": "simulated:prompt_tokens_total",
        "generation_tokens_total": "simulated:generation_tokens_total",
        "queue_s_total": "simulated:request_queue_time_seconds_sum",
        "queue_requests_total": "simulated:request_queue_time_seconds_count",
        "prefill_s_total": "simulated:request_prefill_time_seconds_sum",
    },
    ready_path="/health",
    health_path="/health",
    reset_cache=CacheReset("POST", "/reset_prefix_cache", cache_was_reset),
    reserved={
        "host": "nothing: engines listen on the loopback only",
        "port": "nothing: ports are drawn",
        "served-model-name": "model.name",
        "tensor-parallel-size": "tensor_parallel_size",
        "node-rank": "tensor_parallel_size",
        "max-model-len": "model.context",
        "enable-sleep-mode": "engine.sleep",
    },
    reasoning_fields=("reasoning_content",),
    sleep=replace(SLEEP, environment={}, since=(1,)),
    thinking_budget=ThinkingBudget(lambda budget: {"thinking_token_budget": budget}),
)
