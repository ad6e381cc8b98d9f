"""From composed jobs to a plan: cells, what is already done, deployments, order. Pure given its inputs'
files: no GPU, no Ray, no network."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from orchestrator.cell import Cell, by_key, secret_values
from orchestrator.config.schema import DeploymentConfig, HardwareConfig, SweepConfig
from orchestrator.plan import cost
from orchestrator.plan.agreement import check_command, check_deployment
from orchestrator.plan.as_json import deployment_json
from orchestrator.plan.budget import within_contexts
from orchestrator.plan.durations import Durations
from orchestrator.plan.fit import Fit, nodes_of
from orchestrator.plan.hardware import resolve
from orchestrator.plan.known import NOTHING, Known
from orchestrator.plan.notes import notes
from orchestrator.plan.once import Once
from orchestrator.plan.order import cheapest_first
from orchestrator.plan.overrides import own_overrides
from orchestrator.plan.resolve_job import Identified, resolve_job
from orchestrator.plan.rotation import turn_notes
from orchestrator.plan.rules import check_values
from orchestrator.plan.settle import settled
from orchestrator.plan.sizes import done_notes, raised_notes, study_fits
from orchestrator.plan.sleep import with_sleep
from orchestrator.plan.sources import with_sources
from orchestrator.secrets import hidden_in
from orchestrator.store.read import CellStatus, read_statuses

PlanStatus = Literal["planned", "done", "skipped"]


_SAME = "the same measurement as"


@dataclass(frozen=True)
class Job:
    """One composed job: the user's overrides and what Hydra made of them."""

    overrides: tuple[str, ...]
    config: SweepConfig


@dataclass(frozen=True)
class PlannedCell:
    """``stored`` is what there is of it from before, ``job`` the place of its job among the command's."""

    cell: Cell
    status: PlanStatus
    reason: str | None = None
    estimated_s: float | None = None  # by the catalogue
    estimated_start_s: float | None = None  # of its engine
    stored: CellStatus | None = None
    job: int = 0


@dataclass(frozen=True)
class Deployment:
    """One engine process group and the cells that will share it, in the order they run. ``label_suffix`` is
    what sets it apart from others of the same model, engine and optimizations, in the user's own words."""

    deployment_id: str
    cells: tuple[Cell, ...]
    fit: Fit
    hardware: HardwareConfig
    command: tuple[str, ...]
    estimated_s: float | None = None
    label_suffix: str = ""

    @cached_property
    def config(self) -> DeploymentConfig:
        """What its cells share."""
        return self.cells[0].config.deployment

    @property
    def gpus(self) -> int:
        return self.fit.tensor_parallel_size if self.needs_gpu else 0

    @property
    def nodes(self) -> int:
        return nodes_of(self.fit.tensor_parallel_size, self.hardware) if self.needs_gpu else 1

    @property
    def needs_gpu(self) -> bool:
        return self.hardware.kind == "gpu" and not self.theirs

    @property
    def theirs(self) -> bool:
        """Whether it is a server that somebody else runs: nothing of this machine is its."""
        return self.config.engine.name == "external"

    @property
    def estimated_gpu_hours(self) -> float | None:
        """On the hardware's own clock, however fast a simulated engine's runs."""
        if self.estimated_s is None or not self.gpus:
            return None
        return self.gpus * self.estimated_s * cost.speed(self.config) / 3600

    @property
    def label(self) -> str:
        engine = "SIMULATED" if self.simulated else self.config.engine.name
        return (
            f"{self.config.model.name}/{engine}/{'+'.join(self.cells[0].opts)} {self.label_suffix}".rstrip()
        )

    @property
    def simulated(self) -> bool:
        return self.config.engine.simulated


@dataclass(frozen=True)
class Plan:
    """``cells`` follow the user's order, one per job and run; ``deployments`` the order in which they are
    admitted, with only the cells that will run. ``notes`` are lines on what could not be told for certain
    or may not be expected."""

    study: str
    study_dir: Path
    cells: tuple[PlannedCell, ...]
    deployments: tuple[Deployment, ...]
    notes: tuple[str, ...] = ()

    def with_status(self, status: PlanStatus) -> list[PlannedCell]:
        return [planned for planned in self.cells if planned.status == status]

    def by_job(self) -> list[list[PlannedCell]]:
        """The runs of each job, in the user's order."""
        found: dict[int, list[PlannedCell]] = {}
        for planned in self.cells:
            found.setdefault(planned.job, []).append(planned)
        return list(found.values())

    def varied(self) -> list[str]:
        """The override keys whose values differ between cells, in the user's order."""
        return list(self._varied)

    @cached_property
    def _varied(self) -> tuple[str, ...]:
        values: dict[str, set[str]] = {}
        for planned in self.cells:
            for key, value in overrides_of(planned.cell).items():
                values.setdefault(key, set()).add(value)
        return tuple(key for key, seen in values.items() if len(seen) > 1)

    def label(self, cell: Cell) -> str:
        """What sets a cell apart from the others, in the user's own words; the model where nothing does."""
        own = overrides_of(cell)
        label = " ".join(f"{key}={own[key]}" for key in self._varied if key in own)
        label = label or cell.config.model.name
        run = f" run={cell.run}" if max(cell.run, cell.config.runs) > 1 else ""
        return f"SIMULATED {label}{run}" if cell.simulated else f"{label}{run}"

    def to_json(self) -> dict[str, Any]:
        """The object that ``dry_run=json`` prints, without secrets. ``gpu_hours`` are those of real
        engines alone."""
        secrets = {value for one in self.deployments for value in secret_values(one.config)}
        shown: dict[str, Any] = hidden_in(self._json(), sorted(secrets, key=len, reverse=True))
        return shown

    def _json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "cells": [
                {
                    "cell_id": planned.cell.cell_id,
                    "deployment_id": planned.cell.deployment_id,
                    "overrides": list(planned.cell.overrides),
                    "run": planned.cell.run,
                    "status": planned.status,
                    "reason": planned.reason,
                    "simulated": planned.cell.simulated,
                }
                for planned in self.cells
            ],
            "deployments": [deployment_json(deployment) for deployment in self.deployments],
            "notes": list(self.notes),
            "totals": {
                "cells": len(self.cells),
                "deployments": len(self.deployments),
                "gpu_hours": self.gpu_hours(simulated=False),
                "simulated_gpu_hours": self.gpu_hours(simulated=True),
            },
        }

    def gpu_hours(self, *, simulated: bool) -> float | None:
        """The estimate for all real or all simulated deployments; None when one of them has none."""
        hours = [one.estimated_gpu_hours for one in self.deployments if one.simulated == simulated]
        known = [value for value in hours if value is not None]
        return sum(known) if known and len(known) == len(hours) else None


def overrides_of(cell: Cell) -> dict[str, str]:
    """A cell's overrides by key."""
    return by_key(cell.overrides)


def make_plan(jobs: Sequence[Job], known: Known | Callable[[Sequence[SweepConfig]], Known] = NOTHING) -> Plan:
    """Checks every job, names it by content, marks what is done or cannot work, and groups the rest.
    ``known`` is what was found out about nodes, servers and the hub, or finds it out for the jobs once they
    are checked.

    Raises ConfigError for the first job whose configuration is wrong.
    """
    first = jobs[0].config
    study_dir = Path(first.results_dir) / first.study_name
    hardware: dict[str, HardwareConfig] = {}
    once = Once()
    jobs, sources = with_sources(jobs)
    for job in jobs:
        check_values(job.config, once)
        asked = once(repr, job.config.hardware)
        if asked not in hardware:
            hardware[asked] = resolve(job.config.hardware, job.config.ray.address)
    check_command([job.config for job in jobs])
    jobs, budgets = within_contexts(jobs)
    if callable(known):
        known = known([job.config for job in jobs])
    planned: list[PlannedCell] = []
    found: dict[str, _Found] = {}
    jobs = [replace(job, config=settled(job.config, known, os.environ, once)) for job in jobs]
    alone = [(job.config, hardware[once(repr, job.config.hardware)]) for job in jobs]
    sized, sleep = with_sleep(alone, known, once)
    fits = study_fits(sized, once)
    identified = [
        (number, resolved, one)
        for number, (job, (config, resolved), fitted) in enumerate(zip(jobs, sized, fits, strict=True))
        for one in _runs(replace(job, config=config), resolved, known, fitted, once)
    ]
    stored = read_statuses(study_dir, [one.cell.cell_id for _, _, one in identified])
    for number, resolved, one in identified:
        cell = one.cell
        if cell.cell_id in found:
            check_deployment([found[cell.cell_id].planned.cell.config, cell.config])
            planned.append(PlannedCell(cell, "skipped", _SAME, job=number))
            continue
        planned.append(_planned(one, resolved, stored.get(cell.cell_id), number))
        found[cell.cell_id] = _Found(planned[-1], one.fit, resolved, one.command)
    deployments = _deployments(list(found.values()))
    to_run = [one for one in found.values() if one.planned.status == "planned" and one.planned.stored is None]
    done_before = done_notes(
        study_dir, ((one.planned.cell, one.hardware, one.fit) for one in to_run), known, once
    )
    told = (
        *known.notes,
        *notes(planned, os.environ, once),
        *sources,
        *budgets,
        *sleep,
        *turn_notes(deployments),
        *raised_notes(sized, fits, once),
        *done_before,
    )
    plan = Plan(first.study_name, study_dir, tuple(planned), deployments, told)
    return replace(plan, cells=tuple(_naming_the_same(one, plan, found) for one in planned))


def _naming_the_same(one: PlannedCell, plan: Plan, found: Mapping[str, _Found]) -> PlannedCell:
    if one.reason != _SAME:
        return one
    return replace(one, reason=f"{_SAME} {plan.label(found[one.cell.cell_id].planned.cell)}")


@dataclass(frozen=True)
class _Found:
    planned: PlannedCell
    fit: Fit
    hardware: HardwareConfig
    command: tuple[str, ...]


def _runs(job: Job, hardware: HardwareConfig, known: Known, fitted: Fit, once: Once) -> Iterator[Identified]:
    """A cell for each of the job's runs; only the first of one that cannot work."""
    typed = own_overrides(job.overrides, job.config, once)
    for run in range(1, job.config.runs + 1):
        yield (one := resolve_job(job.config, typed, hardware, known, fitted, run, once))
        if one.reason is not None:
            return


def _planned(
    identified: Identified, hardware: HardwareConfig, before: CellStatus | None, number: int
) -> PlannedCell:
    cell, fit, config = identified.cell, identified.fit, identified.cell.config
    status: PlanStatus = "planned"
    reason = identified.reason
    if reason is not None:  # its arguments may be no numbers
        return PlannedCell(cell, "skipped", reason, stored=before, job=number)
    if before is not None and config.rerun != "all":
        if before.status == "done":
            status = "done"
        elif config.rerun == "none":
            status = "skipped"
            reason = f"{before.status} before and rerun=none: {before.reason or 'no reason stored'}"
    estimated_s, start_s = cost.cell_s(config, fit, hardware), cost.start_s(config, fit)
    return PlannedCell(cell, status, reason, estimated_s, start_s, before, number)


def _deployments(found: Sequence[_Found]) -> tuple[Deployment, ...]:
    """Cells that can share a live engine, and deployments longest first, so that none of them is left to run
    alone at the end. Estimates are corrected by what stored cells of the study took."""
    durations = Durations.learnt_from(one.planned for one in found)
    groups: dict[str, list[_Found]] = {}
    for one in found:
        if one.planned.status == "planned":
            groups.setdefault(one.planned.cell.deployment_id, []).append(one)
    deployments = []
    for deployment_id, members in groups.items():
        check_deployment([replace(one.planned.cell.config, hardware=one.hardware) for one in members])
        first = members[0]
        made = Deployment(
            deployment_id=deployment_id,
            cells=cheapest_first([one.planned for one in members]),
            fit=first.fit,
            hardware=first.hardware,
            command=first.command,
        )
        start_s, cells_s = durations.start_s(made), durations.cells_s(made.cells)
        deployments.append(replace(made, estimated_s=None if cells_s is None else start_s + cells_s))
    deployments.sort(key=lambda one: (-math.inf if one.estimated_s is None else -one.estimated_s, -one.gpus))
    return _with_label_suffixes(deployments)


def _with_label_suffixes(deployments: Sequence[Deployment]) -> tuple[Deployment, ...]:
    """Where several have one label, each says the overrides that all its cells share and not all of them."""
    alike: dict[str, list[dict[str, str]]] = {}
    shared = {one.deployment_id: _shared_overrides(one) for one in deployments}
    for one in deployments:
        alike.setdefault(one.label, []).append(shared[one.deployment_id])

    def suffix(one: Deployment) -> str:
        own, others = shared[one.deployment_id], alike[one.label]
        return " ".join(f"{key}={own[key]}" for key in own if any(o.get(key) != own[key] for o in others))

    return tuple(replace(one, label_suffix=suffix(one)) for one in deployments)


def _shared_overrides(deployment: Deployment) -> dict[str, str]:
    first, *others = (overrides_of(cell) for cell in deployment.cells)
    return {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}
