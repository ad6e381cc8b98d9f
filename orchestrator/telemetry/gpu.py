"""What NVML says about the GPUs of a deployment. NVML is optional: without it, or without a GPU, None."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from orchestrator.memory import GIB

T = TypeVar("T")

# A GPU that nobody uses still shows what the driver itself reserves, up to about 0.6 GiB.
IDLE_MEMORY_BYTES = 1 << 30
IDLE_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class GpuKind:
    """A GPU of this machine, as NVML names it."""

    name: str
    memory_gib: float


def gpus_here() -> list[GpuKind]:
    """Every GPU of this machine; none where there is no NVML. Touches none of them."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        count = pynvml.nvmlDeviceGetCount()
        return [_kind(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]
    finally:
        pynvml.nvmlShutdown()


def _kind(nvml: ModuleType, handle: Any) -> GpuKind:
    name = nvml.nvmlDeviceGetName(handle)
    memory_gib = nvml.nvmlDeviceGetMemoryInfo(handle).total / GIB
    return GpuKind(name.decode() if isinstance(name, bytes) else str(name), memory_gib)


@dataclass(frozen=True, slots=True)
class GpuUse:
    """Who was on the GPUs at one moment: process ids as NVML gives them (the host's, in a container), memory
    in bytes per GPU, and how much of it belongs to none of those processes. None where NVML does not tell."""

    pids: frozenset[int] | None
    memory_bytes: tuple[int, ...] | None
    unseen_bytes: tuple[int, ...] | None = None

    @property
    def busy(self) -> bool:
        return bool(self.pids) or any(used > IDLE_MEMORY_BYTES for used in self.memory_bytes or ())

    @property
    def known(self) -> bool:
        """Whether everybody who was there was seen: of the memory, all but what the driver itself may have
        belongs to the processes that NVML names."""
        return (
            self.pids is not None
            and self.unseen_bytes is not None
            and max(self.unseen_bytes, default=0) <= IDLE_MEMORY_BYTES
        )


@dataclass(frozen=True, slots=True)
class Gpus:
    """Open NVML handles, one per GPU."""

    nvml: ModuleType
    handles: tuple[Any, ...]

    def read(self) -> dict[str, tuple[float, ...] | tuple[int, ...] | None]:
        """The GPU fields of a `Sample`; None where one of the GPUs does not have the counter."""
        nvml = self.nvml
        return {
            "gpu_util": self._each(lambda gpu: float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu) / 100),
            "gpu_memory_bytes": self._each(lambda gpu: int(nvml.nvmlDeviceGetMemoryInfo(gpu).used)),
            "gpu_power_w": self._each(lambda gpu: float(nvml.nvmlDeviceGetPowerUsage(gpu)) / 1000),
            "gpu_energy_j": self._each(
                lambda gpu: float(nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) / 1000
            ),
        }

    def use(self) -> GpuUse:
        """Who is on the GPUs now."""
        nvml = self.nvml
        running = self._each(nvml.nvmlDeviceGetComputeRunningProcesses)
        memory = self._each(lambda gpu: int(nvml.nvmlDeviceGetMemoryInfo(gpu).used))
        if running is None:
            return GpuUse(None, memory)
        named = [[process.usedGpuMemory for process in gpu] for gpu in running]
        unseen = None
        if memory is not None and not any(None in gpu for gpu in named):
            unseen = tuple(used - sum(gpu) for used, gpu in zip(memory, named, strict=True))
        return GpuUse(frozenset(process.pid for gpu in running for process in gpu), memory, unseen)

    def provenance(self) -> dict[str, Any]:
        """Driver and CUDA versions; per GPU its type, memory, power limit, clocks and ECC mode."""
        nvml = self.nvml
        cuda = _supported(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
        return {
            "driver": _supported(nvml, lambda: _text(nvml.nvmlSystemGetDriverVersion())),
            "cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "gpus": [self._describe(gpu) for gpu in self.handles],
        }

    def _describe(self, gpu: Any) -> dict[str, Any]:
        nvml = self.nvml
        return {
            name: _supported(nvml, call)
            for name, call in {
                "name": lambda: _text(nvml.nvmlDeviceGetName(gpu)),
                "uuid": lambda: _text(nvml.nvmlDeviceGetUUID(gpu)),
                "memory_bytes": lambda: int(nvml.nvmlDeviceGetMemoryInfo(gpu).total),
                "power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
                "sm_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM),
                "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
                "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
                "ecc": lambda: bool(nvml.nvmlDeviceGetEccMode(gpu)[0]),
            }.items()
        }

    def _each(self, read: Callable[[Any], T]) -> tuple[T, ...] | None:
        return _supported(self.nvml, lambda: tuple(read(gpu) for gpu in self.handles))


def open_gpus(visible: str | None = None) -> Gpus | None:
    """The GPUs of a ``CUDA_VISIBLE_DEVICES`` value (indices or UUIDs; None: this process's own, or all when
    that is not set either). None without NVML or without a GPU.

    Indices are NVML's, which count by PCI bus: start the engine with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        if visible is None:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            visible = ",".join(map(str, range(pynvml.nvmlDeviceGetCount())))
        handles = tuple(_handle(pynvml, name.strip()) for name in visible.split(",") if name.strip())
    except pynvml.NVMLError:
        return None
    return Gpus(pynvml, handles) if handles else None


def once_idle(
    gpus: Gpus,
    patience_s: float,
    cancelled: Callable[[], bool] = lambda: False,
    seen: Callable[[GpuUse], GpuUse] = lambda use: use,
) -> GpuUse:
    """Who is on the GPUs when nobody is any more, or after ``patience_s``: the engine of a worker that was
    killed takes some seconds to end, and the driver to take its memory back. ``seen`` is what of a look
    counts (`without`)."""
    deadline = time.monotonic() + patience_s
    while (use := seen(gpus.use())).busy and time.monotonic() < deadline and not cancelled():
        time.sleep(IDLE_POLL_S)
    return use


def without(use: GpuUse, pids: frozenset[int], kept_bytes: int) -> GpuUse:
    """``use`` less our own engines that sleep there: their processes ``pids``, and their memory. That is what
    belongs to a process where NVML says whose memory it is and nobody else is there, else ``kept_bytes`` of
    each GPU."""
    memory = use.memory_bytes and tuple(max(0, used - kept_bytes) for used in use.memory_bytes)
    if use.pids is None:
        return GpuUse(None, memory, use.unseen_bytes)
    others = use.pids - pids
    if use.pids and not others and use.unseen_bytes is not None:
        memory = use.unseen_bytes
    return GpuUse(others, memory, use.unseen_bytes)


def is_shared(before: GpuUse, ready: GpuUse, during: Sequence[GpuUse]) -> bool | None:
    """Whether somebody else used the GPUs: they were not idle ``before`` the engine started, or at one of the
    looks ``during`` a cell a process was on them that was not when the engine had become ``ready``. None
    where nobody was seen to, but NVML did not tell at each look who everybody was, or was not asked.

    Compares NVML with itself, since in a container its process ids are not those seen inside.
    """
    own = ready.pids or frozenset()
    if before.busy or (ready.pids is not None and any((use.pids or own) - own for use in during)):
        return True
    told = before.pids is not None and before.memory_bytes is not None
    return False if told and during and all(use.known for use in (ready, *during)) else None


def _handle(nvml: ModuleType, name: str) -> Any:
    return (
        nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
    )


def _supported(nvml: ModuleType, call: Callable[[], T]) -> T | None:
    try:
        return call()
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
