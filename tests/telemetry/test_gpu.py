"""Against a stand-in for NVML with two GPUs; what NVML itself answers needs a GPU."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from orchestrator.telemetry.gpu import GpuUse, is_shared, once_idle, open_gpus, without

IDLE = GpuUse(frozenset(), (500 << 20,), (500 << 20,))


class NVMLError(Exception):
    pass


def unsupported(*_: Any) -> Any:
    raise NVMLError("not supported")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Handles are the indices; GPU i uses (i + 1) times 10 %, 1 GiB, 100 W and 1000 J."""
    stand_in = ModuleType("pynvml")
    module: Any = stand_in
    by_uuid = {"GPU-aaaa": 0, "GPU-bbbb": 1}
    module.NVMLError = NVMLError
    module.NVML_CLOCK_SM, module.NVML_CLOCK_MEM = 1, 2
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetCount = lambda: 2
    module.nvmlDeviceGetHandleByIndex = lambda i: i if i < 2 else unsupported()
    module.nvmlDeviceGetHandleByUUID = lambda uuid: by_uuid[uuid] if uuid in by_uuid else unsupported()
    module.nvmlDeviceGetUtilizationRates = lambda gpu: SimpleNamespace(gpu=10 * (gpu + 1))
    module.nvmlDeviceGetMemoryInfo = lambda gpu: SimpleNamespace(used=(gpu + 1) << 30, total=80 << 30)
    module.nvmlDeviceGetPowerUsage = lambda gpu: 100_000 * (gpu + 1)
    module.nvmlDeviceGetTotalEnergyConsumption = lambda gpu: 1_000_000 * (gpu + 1)
    module.nvmlDeviceGetComputeRunningProcesses = lambda gpu: [
        SimpleNamespace(pid=10 + gpu, usedGpuMemory=((gpu + 1) << 30) - (20 << 20))
    ]
    module.nvmlSystemGetDriverVersion = lambda: b"580.1"
    module.nvmlSystemGetCudaDriverVersion_v2 = lambda: 13000
    module.nvmlDeviceGetName = lambda gpu: "NVIDIA H200"
    module.nvmlDeviceGetUUID = lambda gpu: ["GPU-aaaa", "GPU-bbbb"][gpu]
    module.nvmlDeviceGetEnforcedPowerLimit = lambda gpu: 700_000
    module.nvmlDeviceGetMaxClockInfo = lambda gpu, kind: 1980
    module.nvmlDeviceGetClockInfo = lambda gpu, kind: 1500 * kind
    module.nvmlDeviceGetEccMode = unsupported
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return stand_in


def test_units_are_those_of_the_sample(nvml: ModuleType) -> None:
    gpus = open_gpus()
    assert gpus is not None
    assert gpus.read() == {
        "gpu_util": (0.1, 0.2),
        "gpu_memory_bytes": (1 << 30, 2 << 30),
        "gpu_power_w": (100.0, 200.0),
        "gpu_energy_j": (1000.0, 2000.0),
    }


@pytest.mark.parametrize(
    ("visible", "handles"),
    [(None, (0, 1)), ("1", (1,)), ("1,0", (1, 0)), ("GPU-bbbb", (1,)), (" 0 , 1", (0, 1))],
)
def test_gpus_are_those_of_cuda_visible_devices(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch, visible: str | None, handles: tuple[int, ...]
) -> None:
    for gpus in (open_gpus(visible), _from_environment(monkeypatch, visible)):
        assert gpus is not None
        assert gpus.handles == handles


@pytest.mark.parametrize("visible", ["", "-1", "7", "GPU-none"])
def test_no_gpu_is_none(nvml: ModuleType, visible: str) -> None:
    assert open_gpus(visible) is None


def test_no_driver_is_none(nvml: Any) -> None:
    nvml.nvmlInit = unsupported
    assert open_gpus() is None


def test_no_nvml_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_gpus() is None


def test_a_counter_that_one_gpu_lacks_is_absent(nvml: Any) -> None:
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda gpu: unsupported() if gpu else 1
    gpus = open_gpus()
    assert gpus is not None
    assert gpus.read()["gpu_energy_j"] is None
    assert gpus.read()["gpu_power_w"] == (100.0, 200.0)


def test_provenance_names_the_gpu_and_leaves_out_what_nvml_cannot_tell(nvml: ModuleType) -> None:
    gpus = open_gpus("1")
    assert gpus is not None
    assert gpus.provenance() == {
        "driver": "580.1",
        "cuda": "13.0",
        "gpus": [
            {
                "name": "NVIDIA H200",
                "uuid": "GPU-bbbb",
                "memory_bytes": 80 << 30,
                "power_limit_w": 700.0,
                "sm_clock_max_mhz": 1980,
                "sm_clock_mhz": 1500,
                "memory_clock_mhz": 3000,
                "ecc": None,
            }
        ],
    }


def test_the_engines_own_processes_do_not_share_the_gpu(nvml: ModuleType) -> None:
    gpus = open_gpus()
    assert gpus is not None
    ready = gpus.use()
    assert ready == GpuUse(frozenset({10, 11}), (1 << 30, 2 << 30), (20 << 20, 20 << 20))
    assert is_shared(IDLE, ready, [gpus.use()]) is False


def on(*pids: int, unseen: int | None = 0) -> GpuUse:
    return GpuUse(frozenset(pids), (60 << 30,), None if unseen is None else (unseen,))


REFUSED = GpuUse(None, None)


@pytest.mark.parametrize(
    ("before", "during"),
    [
        (GpuUse(frozenset({5}), (0,), (0,)), [on(10)]),
        (GpuUse(frozenset(), (2 << 30,), (2 << 30,)), [on(10)]),
        (GpuUse(None, (2 << 30,)), [on(10)]),
        (IDLE, [on(10, 12)]),
        (IDLE, [on(10), on(10, 12), on(10)]),  # it came and went
        (IDLE, [REFUSED, on(12)]),
    ],
)
def test_a_busy_gpu_or_a_new_process_is_sharing(before: GpuUse, during: list[GpuUse]) -> None:
    assert is_shared(before, on(10), during) is True


@pytest.mark.parametrize(
    ("before", "ready", "during"),
    [
        (REFUSED, on(10), [on(10)]),
        (GpuUse(None, (0,)), on(10), [on(10)]),
        (IDLE, REFUSED, [on(10)]),
        (IDLE, on(10), [on(10), REFUSED, on(10)]),
        (IDLE, on(10), [on(10), on(10, unseen=3 << 30)]),  # memory of a process that is not seen
        (IDLE, on(unseen=60 << 30), [on(unseen=60 << 30)]),  # no process is seen, the engine's neither
        (IDLE, on(10, unseen=None), [on(10, unseen=None)]),
        (IDLE, on(10), []),
    ],
)
def test_what_nvml_does_not_tell_is_unknown(before: GpuUse, ready: GpuUse, during: list[GpuUse]) -> None:
    assert is_shared(before, ready, during) is None


@pytest.mark.parametrize(("unseen", "shared"), [(1 << 30, False), ((1 << 30) + 1, None)])
def test_the_driver_itself_may_have_a_gigabyte(unseen: int, shared: bool | None) -> None:
    assert is_shared(IDLE, on(10), [on(10, unseen=unseen)]) is shared


def test_nvml_refusing_is_told_from_nobody(nvml: Any) -> None:
    gpus = open_gpus()
    assert gpus is not None
    nvml.nvmlDeviceGetComputeRunningProcesses = lambda gpu: unsupported() if gpu else []
    assert gpus.use() == GpuUse(None, (1 << 30, 2 << 30))
    nvml.nvmlDeviceGetComputeRunningProcesses = lambda gpu: [SimpleNamespace(pid=1, usedGpuMemory=None)]
    assert gpus.use() == GpuUse(frozenset({1}), (1 << 30, 2 << 30))
    nvml.nvmlDeviceGetMemoryInfo = unsupported
    assert gpus.use() == GpuUse(frozenset({1}), None)


def _from_environment(monkeypatch: pytest.MonkeyPatch, visible: str | None) -> Any:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return open_gpus()


def test_a_gpu_is_waited_for_until_the_last_ones_engine_is_gone(nvml: Any) -> None:
    process = SimpleNamespace(pid=7, usedGpuMemory=60 << 30)
    left = [[process], [process], [], []]
    held = [60 << 30, 60 << 30, 60 << 30, 1 << 20]
    nvml.nvmlDeviceGetComputeRunningProcesses = lambda gpu: left.pop(0)
    nvml.nvmlDeviceGetMemoryInfo = lambda gpu: SimpleNamespace(used=held.pop(0))
    gpus = open_gpus("0")
    assert gpus is not None
    assert once_idle(gpus, patience_s=5.0) == GpuUse(frozenset(), (1 << 20,), (1 << 20,))
    assert not left
    assert not held


def test_a_gpu_that_others_keep_is_not_waited_for_longer_than_told(nvml: ModuleType) -> None:
    gpus = open_gpus("0")
    assert gpus is not None
    assert once_idle(gpus, patience_s=0.15).busy
    assert once_idle(gpus, patience_s=60.0, cancelled=lambda: True).busy


GIB = 1 << 30
SLEEPING = frozenset({7, 8})


@pytest.mark.parametrize(
    ("use", "busy"),
    [
        # Two of ours sleep and hold 5 GiB, which NVML says.
        (GpuUse(SLEEPING, (5 * GIB + (400 << 20),), (400 << 20,)), False),
        (GpuUse(SLEEPING, (9 * GIB,), (4 * GIB,)), True),  # memory of nobody that is named
        (GpuUse(SLEEPING | {9}, (6 * GIB,), (0,)), True),
        # It does not say whose memory it is, or who is there: what sleepers are known to keep counts.
        (GpuUse(SLEEPING, (int(4.2 * GIB),), None), False),
        (GpuUse(SLEEPING, (6 * GIB,), None), True),
        (GpuUse(frozenset(), (int(4.2 * GIB),), (int(4.2 * GIB),)), False),
        (GpuUse(None, (int(4.2 * GIB),)), False),
        (GpuUse(None, (6 * GIB,)), True),
        (GpuUse(frozenset(), (6 * GIB,), (6 * GIB,)), True),
    ],
)
def test_our_own_sleepers_are_nobody_else(use: GpuUse, busy: bool) -> None:
    assert use.busy
    assert without(use, SLEEPING, int(3.8 * GIB)).busy == busy


def test_a_gpu_with_none_but_our_sleepers_is_idle_at_once(nvml: ModuleType) -> None:
    gpus = open_gpus()
    assert gpus is not None
    ours = frozenset({10, 11})
    use = once_idle(gpus, 0.0, seen=lambda use: without(use, ours, 0))
    assert use == GpuUse(frozenset(), (20 << 20, 20 << 20), (20 << 20, 20 << 20))
    assert is_shared(use, gpus.use(), [gpus.use()]) is False
