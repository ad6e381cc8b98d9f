"""What a deployment needs of a cluster's nodes, and whether they could ever give it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from orchestrator.cluster.packing import Need, is_kind
from orchestrator.engines.adapter import flag_name
from orchestrator.engines.sglang import CPU_KV_CACHE_TOKENS
from orchestrator.engines.vllm import CPU_KV_CACHE_BYTES
from orchestrator.memory import GIB, kv_cache
from orchestrator.plan.hardware import labels_of_several
from orchestrator.plan.plan import Deployment

EXTERNAL_CPUS = 1.0
CPU_OVERHEAD_GIB = 1.5  # an engine on a CPU without its model: 1.2 to 1.4 GiB over its processes
LABEL = "accelerator_type:"  # the resource that Ray gives a node with such GPUs
GPU_MEMORY = "gpu_memory_gib"  # which Ray does not know: what `nodes.GpuMemory` found


def needs(deployment: Deployment) -> Need:
    """Of each of its nodes. A group of GPUs larger than a node's takes whole nodes."""
    hardware, nodes = deployment.hardware, deployment.nodes
    external = deployment.config.engine.name == "external"
    label = hardware.ray_accelerator_type if deployment.gpus else None
    told = label not in labels_of_several() or deployment.simulated
    return Need(
        gpus=float(-(-deployment.gpus // nodes)),
        cpus=EXTERNAL_CPUS if external else hardware.cpus,
        nodes=nodes,
        gpu_type=label,
        gpu_memory_gib=None if told else hardware.memory_gib,
        memory_bytes=_cpu_engine_bytes(deployment),
    )


def bundles(need: Need) -> list[dict[str, float]]:
    """The placement group's bundles: one a node, each with its share of the GPUs."""
    bundle = {"CPU": need.cpus}
    bundle |= {"GPU": need.gpus} if need.gpus else {}
    bundle |= {"memory": need.memory_bytes} if need.memory_bytes else {}
    return [dict(bundle) for _ in range(need.nodes)]


def could_hold(need: Need, node: Mapping[str, float]) -> bool:
    """Whether an empty node with these resources could hold its share of ``need``."""
    labels = [key.removeprefix(LABEL) for key in node if key.startswith(LABEL)]
    enough = all(node.get(key, 0.0) >= value for key, value in bundles(need)[0].items())
    return enough and is_kind(need, labels, node.get(GPU_MEMORY))


def impossible(need: Need, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Why these nodes, all of them empty, could not hold it; None when they could. ``nodes`` are Ray's
    resources of each."""
    if sum(could_hold(need, node) for node in nodes) >= need.nodes:
        return None
    has = "; ".join(_told(node) for node in nodes if {"CPU", "GPU"} & node.keys())
    return f"needs {asked(need)}; the cluster has: {has or 'no node with CPUs or GPUs'}"


def asked(need: Need) -> str:
    """What it needs, in words."""
    sizes = f" with {need.gpu_memory_gib:.0f} GiB each" if need.gpu_memory_gib else ""
    kind = f" of type {need.gpu_type}{sizes}" if need.gpu_type else ""
    return f"{need.nodes} node(s) with {_told(bundles(need)[0])}{kind}"


def server_of(deployment: Deployment) -> str | None:
    """The server that an external deployment measures, which no other may load at the same time."""
    url = deployment.config.engine.base_url
    if deployment.config.engine.name != "external" or url is None:
        return None
    parts = urlsplit(url if "//" in url else f"//{url}")
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _cpu_engine_bytes(deployment: Deployment) -> float:
    """An engine's memory on a CPU: its weights, its KV cache, and its processes. 0 for one that has no model
    here, or whose memory is a GPU's."""
    config, weights_gib = deployment.config, deployment.fit.weights_gib
    if deployment.gpus or deployment.simulated or config.engine.name == "external" or weights_gib is None:
        return 0.0
    args = {flag_name(name): value for name, value in config.engine.args.items()}
    if config.engine.name == "sglang":
        tokens = _number(args.get("max-total-tokens"), CPU_KV_CACHE_TOKENS)
        cache = kv_cache(config.model, config.opt.values())
        kv_bytes = 0.0 if cache is None else cache.bytes_of(tokens)
    else:
        kv_bytes = _number(args.get("kv-cache-memory-bytes"), CPU_KV_CACHE_BYTES)
    return float(round((weights_gib + CPU_OVERHEAD_GIB) * GIB + kv_bytes))


def _number(value: object, default: float) -> float:
    """A number as engines read it: ``4G`` is 4 GiB, ``4g`` 4 GB. What is none the engine refuses itself."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)", str(value))
    if found is None:
        return default
    base, power = (1000, "kmgt") if found[2].islower() else (1024, "KMGT")
    return float(found[1]) * (base ** (power.index(found[2]) + 1) if found[2] else 1)


def _told(resources: Mapping[str, float]) -> str:
    parts = [f"{resources[key]:g} {key}" for key in ("CPU", "GPU") if key in resources]
    if "memory" in resources:
        parts.append(f"{resources['memory'] / GIB:.1f} GiB memory")
    labels = [key.removeprefix(LABEL) for key in resources if key.startswith(LABEL)]
    if resources.get(GPU_MEMORY):
        labels.append(f"{resources[GPU_MEMORY]:.0f} GiB each")
    return ", ".join(parts) + (f" ({', '.join(labels)})" if labels else "")
