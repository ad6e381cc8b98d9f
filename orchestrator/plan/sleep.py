"""``engine.sleep`` of each job, resolved to on or off, and the memory that sleepers keep of a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.config.schema import EngineConfig, HardwareConfig, SweepConfig
from orchestrator.engines import ADAPTERS
from orchestrator.engines.version import engine_version
from orchestrator.plan.compatibility import skip_reason, sleep_reason
from orchestrator.plan.fit import fit, nodes_of
from orchestrator.plan.known import Known, engine_key
from orchestrator.plan.once import Once
from orchestrator.plan.sizes import Sized


def with_sleep(jobs: Sequence[Sized], known: Known, once: Once) -> tuple[list[Sized], list[str]]:
    """The jobs with ``engine.sleep`` on or off, and lines for the plan. With on, the memory fraction is what
    it would be alone, less what ``engine.sleepers`` sleepers keep.

    ``auto`` is one answer for all jobs of the command on one kind of GPU, so that none of them has more
    memory than the others: on where each that can run at all can sleep, is measured more than once, and
    needs no more GPUs for it. What cannot sleep and is told to keeps its memory, and is skipped.
    """
    able: dict[str, bool] = {}
    for job in jobs:
        if job[0].engine.sleep == "auto" and _counts(job, once):
            key = repr(job[1])
            able[key] = able.get(key, True) and _able(job, known, once)
    resolved: list[Sized] = []
    notes: dict[str, None] = {}
    for job in jobs:
        config, hardware = job
        asked = config.engine.sleep
        if asked == "off" or (asked == "auto" and not (_counts(job, once) and able[repr(hardware)])):
            resolved.append((_with(config, "off", once), hardware))
        elif sleep_reason(config, hardware) is not None:
            resolved.append(job)
        else:
            lowered, _ = beside = _lowered(job, once)
            resolved.append(beside)
            if sleep_reason(*beside) is None:
                notes[_note(job, lowered)] = None
    return resolved, list(notes)


def kept_share(engine: EngineConfig, hardware: HardwareConfig) -> float:
    """The share of a GPU's memory that ``engine.sleepers`` sleepers keep. Of engines and hardware that
    `sleep_reason` has nothing against."""
    sleeping = ADAPTERS[engine.name].sleep
    assert sleeping is not None
    assert hardware.memory_gib is not None
    return engine.sleepers * sleeping.kept_gib / hardware.memory_gib


def _counts(job: Sized, once: Once) -> bool:
    """Whether it is an engine of ours that can run when it does not sleep."""
    config, hardware = job
    if config.engine.name not in ADAPTERS:
        return False
    awake = _with(config, "off", once)
    return skip_reason(awake, hardware) is None and fit(awake, hardware).reason is None


def _able(job: Sized, known: Known, once: Once) -> bool:
    config, hardware = job
    if config.runs == 1 or sleep_reason(config, hardware) is not None:
        return False
    version = known.versions.get(engine_key(config.engine)) or engine_version(config.engine)
    if version is None or sleep_reason(config, hardware, version) is not None:
        return False
    alone, beside = fit(config, hardware), fit(*_lowered(job, once))
    size = beside.tensor_parallel_size
    return beside.reason is None and size == alone.tensor_parallel_size and nodes_of(size, hardware) == 1


def _lowered(job: Sized, once: Once) -> Sized:
    config, hardware = job
    alone = hardware.gpu_memory_utilization
    beside = max(0.0, round(alone - kept_share(config.engine, hardware), 4))
    own, there = (once(_with_share, one, repr(beside)) for one in (config.hardware, hardware))
    return replace(_with(config, "on", once), hardware=own), there


def _with(config: SweepConfig, sleep: str, once: Once) -> SweepConfig:
    if config.engine.sleep == sleep:
        return config
    return replace(config, engine=once(_asleep, config.engine, sleep))


def _asleep(engine: EngineConfig, sleep: str) -> EngineConfig:
    return replace(engine, sleep=sleep)


def _with_share(hardware: HardwareConfig, share: str) -> HardwareConfig:
    return replace(hardware, gpu_memory_utilization=float(share))


def _note(job: Sized, resolved: SweepConfig) -> str:
    config, hardware = job
    sleeping = ADAPTERS[config.engine.name].sleep
    assert sleeping is not None
    alone, beside = hardware.gpu_memory_utilization, resolved.hardware.gpu_memory_utilization
    return (
        f"engine.sleep=on: {config.engine.name} leaves {sleeping.kept_gib:g} GiB of each {hardware.name} to "
        f"each of engine.sleepers={config.engine.sleepers} that may sleep on it: gpu_memory_utilization "
        f"{beside:g} in place of {alone:g}"
    )
