"""Which deployments may start now: pure arithmetic on what is free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from orchestrator.plan.plan import Deployment

EXTERNAL_CPUS = 1.0


@dataclass(frozen=True)
class Resources:
    gpus: float
    cpus: float

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.gpus + other.gpus, self.cpus + other.cpus)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.gpus - other.gpus, self.cpus - other.cpus)

    def holds(self, other: Resources) -> bool:
        return self.gpus >= other.gpus and self.cpus >= other.cpus


def needs(deployment: Deployment) -> Resources:
    """What a deployment reserves in all."""
    cpus = EXTERNAL_CPUS if deployment.config.engine.name == "external" else deployment.hardware.cpus
    return Resources(float(deployment.gpus), cpus * deployment.nodes)


def bundles(deployment: Deployment) -> list[dict[str, float]]:
    """The placement group's bundles: one a node, each with its share of the GPUs."""
    need, nodes = needs(deployment), deployment.nodes
    bundle = {"CPU": need.cpus / nodes}
    if need.gpus:
        bundle["GPU"] = float(ceil(need.gpus / nodes))
        label = deployment.hardware.ray_accelerator_type
        if label is not None:
            bundle[f"accelerator_type:{label}"] = 0.001
    return [dict(bundle) for _ in range(nodes)]


def impossible(deployment: Deployment, nodes: Sequence[dict[str, float]]) -> str | None:
    """Why no node of the cluster could ever hold one of the deployment's bundles; None when one could."""
    (bundle, *_) = bundles(deployment)
    fitting = [node for node in nodes if all(node.get(key, 0.0) >= value for key, value in bundle.items())]
    if len(fitting) >= deployment.nodes:
        return None
    asked = ", ".join(
        f"{value:g} {key}" for key, value in bundle.items() if not key.startswith("accelerator")
    )
    has = "; ".join(
        ", ".join(f"{node.get(key, 0.0):g} {key}" for key in ("CPU", "GPU") if key in node) for node in nodes
    )
    label = deployment.hardware.ray_accelerator_type
    kind = f" of type {label}" if label else ""
    return f"needs {deployment.nodes} node(s) with {asked}{kind}; the cluster has: {has}"


def admit(waiting: Sequence[Deployment], free: Resources) -> list[Deployment]:
    """Those of ``waiting``, in order, that fit into what is free together; a smaller one behind one that does
    not fit is let past it."""
    admitted = []
    for deployment in waiting:
        if free.holds(needs(deployment)):
            free = free - needs(deployment)
            admitted.append(deployment)
    return admitted
