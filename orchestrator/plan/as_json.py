"""The parts of the object that ``dry_run=json`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.plan.plan import Deployment


def deployment_json(deployment: Deployment) -> dict[str, Any]:
    return {
        "deployment_id": deployment.deployment_id,
        "model": deployment.config.model.name,
        "engine": deployment.config.engine.name,
        "opt": list(deployment.cells[0].opts),
        "tensor_parallel_size": deployment.fit.tensor_parallel_size,
        "gpus": deployment.gpus,
        "nodes": deployment.nodes,
        "cells": len(deployment.cells),
        "command": list(deployment.command),
        "estimated_gpu_hours": deployment.estimated_gpu_hours,
        "simulated": deployment.simulated,
        "weights_gib": deployment.fit.weights_gib,
        "kv_gib": deployment.fit.kv_gib,
    }
