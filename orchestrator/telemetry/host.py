"""Where a measurement was made."""

from __future__ import annotations

import platform
import socket
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from orchestrator.telemetry.gpu import open_gpus

PACKAGES = ("reasoning-orchestrator", "ray", "hydra-core", "numpy", "pyarrow", "nvidia-ml-py")


def host_provenance(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Host, processor, memory, kernel, GPUs and driver, Python and package versions, ready for JSON.

    The GPUs are those this process may use; packages that are not installed here are None.
    """
    gpus = open_gpus()
    return {
        "hostname": socket.gethostname(),
        "cpu": _cpu_model(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "cpu_threads": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        **(gpus.provenance() if gpus else {"driver": None, "cuda": None, "gpus": []}),
    }


def _cpu_model() -> str | None:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
