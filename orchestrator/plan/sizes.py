"""One tensor-parallel size per comparison: ``auto`` takes the largest that a job of the command needs, for
each model, engine, optimizations and hardware. So a sweep over the load compares loads and not machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.cell import Cell, opt_names
from orchestrator.config.schema import HardwareConfig, SweepConfig
from orchestrator.plan.compatibility import skip_reason
from orchestrator.plan.fit import Fit, fit, sizes_of
from orchestrator.plan.known import Known
from orchestrator.plan.once import Once
from orchestrator.plan.resolve_job import resolve_job
from orchestrator.store.read import read_status

Sized = tuple[SweepConfig, HardwareConfig]


def study_fits(jobs: Sequence[Sized], once: Once) -> list[Fit]:
    """One for each job, in order. Forced sizes stay, and raise no other's; nor does a job that cannot run."""
    alone = [fit(config, hardware) for config, hardware in jobs]
    largest: dict[str, int] = {}
    for job, own in zip(jobs, alone, strict=True):
        if _counts(job, own, once):
            largest[_group(job)] = max(largest.get(_group(job), 1), own.tensor_parallel_size)
    return [
        _raised(job, own, largest.get(_group(job), own.tensor_parallel_size))
        for job, own in zip(jobs, alone, strict=True)
    ]


def raised_notes(jobs: Sequence[Sized], fits: Sequence[Fit], once: Once) -> list[str]:
    """A line for each comparison in which ``auto`` would have taken several sizes, job by job."""
    chosen: dict[str, int] = {}
    alone: dict[str, Counter[int]] = {}
    for job, own in zip(jobs, fits, strict=True):
        if _counts(job, own, once):
            chosen[_group(job)] = own.tensor_parallel_size
            alone.setdefault(_group(job), Counter())[own.own_size or own.tensor_parallel_size] += 1
    return [
        f"tensor_parallel_size={size} for all {alone[group].total()} cells of {group}, the largest need of "
        f"the study; alone, {_counted(alone[group])} (tensor_parallel_size=N forces one)"
        for group, size in chosen.items()
        if len(alone[group]) > 1
    ]


def done_notes(
    study_dir: Path, to_run: Iterable[tuple[Cell, HardwareConfig, Fit]], known: Known, once: Once
) -> list[str]:
    """Lines about cells that an earlier sweep of this study measured with another size, which ``auto`` chose
    for what the study then was."""
    if not (study_dir / "cells").is_dir():
        return []
    found: Counter[tuple[int, int]] = Counter()
    for cell, hardware, chosen in to_run:
        if before := _done_with(cell, hardware, chosen, study_dir, known, once):
            found[before, chosen.tensor_parallel_size] += 1
    return [
        f"{count} {'cell is' if count == 1 else 'cells are'} done with tensor_parallel_size={before} from an "
        f"earlier sweep of this study; with {now} {'it is' if count == 1 else 'they are'} measured anew"
        for (before, now), count in found.items()
    ]


def _done_with(
    cell: Cell, hardware: HardwareConfig, chosen: Fit, study_dir: Path, known: Known, once: Once
) -> int | None:
    """The size with which this very job is done; None where it is not, or was never ``auto``'s to choose."""
    if not _shares((cell.config, hardware), chosen):
        return None
    for size in sizes_of(cell.config, hardware):
        other = fit(cell.config, hardware, size)
        if size == chosen.tensor_parallel_size or other.reason is not None:
            continue
        same = resolve_job(cell.config, cell.overrides, hardware, known, other, cell.run, once).cell
        before = read_status(study_dir, same.cell_id)
        if before is not None and before.status == "done":
            return size
    return None


def _raised(job: Sized, own: Fit, size: int) -> Fit:
    if not _shares(job, own) or own.tensor_parallel_size == size:
        return own
    return replace(fit(*job, size), own_size=own.tensor_parallel_size)


def _shares(job: Sized, own: Fit) -> bool:
    """Whether its size is ``auto``'s choice, and there is one."""
    config, hardware = job
    if config.tensor_parallel_size != "auto" or hardware.kind != "gpu" or config.engine.name == "external":
        return False
    return own.reason is None and own.kv_gib is not None


def _counts(job: Sized, own: Fit, once: Once) -> bool:
    return _shares(job, own) and once(skip_reason, *job) is None


def _group(job: Sized) -> str:
    """A comparison's name."""
    config, hardware = job
    return f"{config.model.name}/{config.engine.name}/{'+'.join(opt_names(config))} on {hardware.name}"


def _counted(alone: Counter[int]) -> str:
    return ", ".join(f"{count} would take {size}" for size, count in sorted(alone.items()))
