"""What ``hardware=auto`` is on this machine. Reads NVML, which touches no GPU's state."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import cache
from typing import Any

import psutil
from omegaconf import OmegaConf

from orchestrator.config.schema import HardwareConfig
from orchestrator.errors import ConfigError
from orchestrator.memory import GIB
from orchestrator.paths import conf_dir
from orchestrator.telemetry.gpu import gpus_here


def resolve(hardware: HardwareConfig, ray_address: str | None) -> HardwareConfig:
    """The hardware with ``auto`` replaced by what this machine has: its GPUs' kind, or its CPU. How much
    memory the nodes of a remote cluster have cannot be seen from here: that of a CPU stays null there, and
    the cluster tells what does not fit.

    Raises ConfigError for ``auto`` with a remote cluster, whose nodes cannot be seen from here.
    """
    if hardware.kind != "auto":
        here = hardware.kind == "cpu" and ray_address is None and not hardware.memory_gib
        return replace(hardware, memory_gib=_memory_gib()) if here else hardware
    if ray_address is not None:
        raise ConfigError(
            f"hardware=auto: with ray.address={ray_address} name the nodes' hardware, "
            f"one of {', '.join(_known())}"
        )
    gpus = gpus_here()
    if not gpus:
        return replace(hardware, name="cpu", kind="cpu", memory_gib=_memory_gib())
    name, memory_gib, count = gpus[0].name, round(gpus[0].memory_gib, 1), len(gpus)
    known = _known_as(name, memory_gib)
    if known is None:
        return replace(hardware, name=_slug(name), kind="gpu", memory_gib=memory_gib, gpus_per_node=count)
    names = {field.name for field in fields(HardwareConfig)}
    values = {key: value for key, value in _listed(known).items() if key in names}
    # This machine is the node, whatever its label in a cluster would be.
    values |= {"memory_gib": memory_gib, "gpus_per_node": count, "ray_accelerator_type": None}
    return replace(hardware, **values)


@cache
def labels_of_several() -> frozenset[str]:
    """Ray's labels that do not tell one GPU of the catalogue from another: their memory does."""
    found: dict[str, set[float]] = {}
    for name in _known():
        listed = _listed(name)
        if label := listed.get("ray_accelerator_type"):
            found.setdefault(str(label), set()).add(float(listed.get("memory_gib") or 0.0))
    return frozenset(label for label, sizes in found.items() if len(sizes) > 1)


def _known() -> list[str]:
    return sorted(path.stem for path in (conf_dir() / "hardware").glob("*.yaml") if path.stem != "auto")


def _known_as(name: str, memory_gib: float) -> str | None:
    """The catalogue's entry for a GPU of this name; of several the one whose memory is nearest."""
    alike = [key for key in _known() if key.split("-")[0] in _slug(name).split("-")]
    return min(alike, key=lambda key: abs((_listed(key).get("memory_gib") or 0.0) - memory_gib), default=None)


def _listed(name: str) -> dict[str, Any]:
    """The catalogue's values of an entry."""
    listed = OmegaConf.to_container(OmegaConf.load(conf_dir() / "hardware" / f"{name}.yaml"))
    if not isinstance(listed, dict):
        raise ConfigError(f"hardware/{name}.yaml: must be a mapping")
    return {str(key): value for key, value in listed.items()}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _memory_gib() -> float:
    return round(psutil.virtual_memory().total / GIB, 1)
