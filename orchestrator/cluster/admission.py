"""What a deployment needs of a cluster's nodes, and whether they could ever give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.cluster.packing import Need
from orchestrator.plan.plan import Deployment

EXTERNAL_CPUS = 1.0


def needs(deployment: Deployment) -> Need:
    """Of each of its nodes. A group of GPUs larger than a node's takes whole nodes."""
    hardware, nodes = deployment.hardware, deployment.nodes
    external = deployment.config.engine.name == "external"
    return Need(
        gpus=float(-(-deployment.gpus // nodes)),
        cpus=EXTERNAL_CPUS if external else hardware.cpus,
        nodes=nodes,
        gpu_type=hardware.ray_accelerator_type if deployment.gpus else None,
    )


def bundles(need: Need) -> list[dict[str, float]]:
    """The placement group's bundles: one a node, each with its share of the GPUs."""
    bundle = {"CPU": need.cpus} | ({"GPU": need.gpus} if need.gpus else {})
    return [dict(bundle) for _ in range(need.nodes)]


def impossible(need: Need, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Why these nodes, all of them empty, could not hold it; None when they could. ``nodes`` are Ray's
    resources of each."""
    wanted = bundles(need)[0] | ({f"accelerator_type:{need.gpu_type}": 0.001} if need.gpu_type else {})
    fitting = [node for node in nodes if all(node.get(key, 0.0) >= value for key, value in wanted.items())]
    if len(fitting) >= need.nodes:
        return None
    asked = ", ".join(f"{value:g} {key}" for key, value in bundles(need)[0].items())
    has = "; ".join(
        ", ".join(f"{node.get(key, 0.0):g} {key}" for key in ("CPU", "GPU") if key in node) for node in nodes
    )
    kind = f" of type {need.gpu_type}" if need.gpu_type else ""
    return f"needs {need.nodes} node(s) with {asked}{kind}; the cluster has: {has}"
