"""What ``hardware=auto`` is on this machine. Reads NVML, which touches no GPU's state."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import psutil
from omegaconf import OmegaConf

from orchestrator.config.schema import HardwareConfig
from orchestrator.errors import ConfigError
from orchestrator.paths import conf_dir

GIB = 2.0**30


def resolve(hardware: HardwareConfig, ray_address: str | None) -> HardwareConfig:
    """The hardware with ``auto`` replaced by what this machine has: its GPUs' kind, or its CPU.

    Raises ConfigError for ``auto`` with a remote cluster, whose nodes cannot be seen from here.
    """
    if hardware.kind != "auto":
        return hardware if hardware.memory_gib else replace(hardware, memory_gib=_memory_gib())
    if ray_address is not None:
        raise ConfigError(
            f"hardware=auto: with ray.address={ray_address} name the nodes' hardware, "
            f"one of {', '.join(_known())}"
        )
    gpu = _first_gpu()
    if gpu is None:
        return replace(hardware, name="cpu", kind="cpu", memory_gib=_memory_gib())
    name, memory_gib, count = gpu
    known = next((key for key in _known() if key.split("-")[0] in _slug(name).split("-")), None)
    if known is None:
        return replace(hardware, name=_slug(name), kind="gpu", memory_gib=memory_gib, gpus_per_node=count)
    listed = OmegaConf.to_container(OmegaConf.load(conf_dir() / "hardware" / f"{known}.yaml"))
    if not isinstance(listed, dict):
        raise ConfigError(f"hardware/{known}.yaml: must be a mapping")
    names = {field.name for field in fields(HardwareConfig)}
    values = {str(key): value for key, value in listed.items() if key in names}
    # This machine is the node, whatever its label in a cluster would be.
    values |= {"memory_gib": memory_gib, "gpus_per_node": count, "ray_accelerator_type": None}
    return replace(hardware, **values)


def _known() -> list[str]:
    return sorted(path.stem for path in (conf_dir() / "hardware").glob("*.yaml") if path.stem != "auto")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _memory_gib() -> float:
    return round(psutil.virtual_memory().total / GIB, 1)


def _first_gpu() -> tuple[str, float, int] | None:
    """Name, memory in GiB and number of this machine's GPUs; None without any."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        count = pynvml.nvmlDeviceGetCount()
        if count == 0:
            return None
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        name = pynvml.nvmlDeviceGetName(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIB
        return (name.decode() if isinstance(name, bytes) else str(name), round(memory, 1), count)
    finally:
        pynvml.nvmlShutdown()
