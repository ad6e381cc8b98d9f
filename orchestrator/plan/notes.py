"""What a plan could not tell for certain, and how it read what can be read in several ways; one line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.cell import Cell
from orchestrator.config.schema import SweepConfig
from orchestrator.engines import ADAPTERS, environment
from orchestrator.engines.revisions import unpinned_dataset, unpinned_models
from orchestrator.load.trace import read_trace
from orchestrator.plan.once import Once
from orchestrator.plan.resolve_job import most_requests

if TYPE_CHECKING:
    from orchestrator.plan.plan import PlannedCell


def notes(planned: Sequence[PlannedCell], inherited: Mapping[str, str], once: Once) -> tuple[str, ...]:
    """On the runs, and on the cells that will run by engines other than simulated ones."""
    cells = [one.cell for one in planned if one.status == "planned" and not one.cell.simulated]
    started = [cell for cell in cells if cell.config.engine.name in ADAPTERS]
    kept = [one.cell for one in planned if one.status != "skipped"]
    lines = [*_runs(kept)]
    lines += _distinct(line for cell in kept for line in _trace(cell))
    lines += [
        f"revision of {one} not pinned: name its commit, or the hub may serve another under the same name"
        for one in _distinct(one for cell in cells for one in _unpinned(cell.config, once))
    ]
    lines += [
        f"version of {name} not known here: what a node has is told when its engine starts"
        for name in _distinct(c.config.engine.name for c in started if c.facts.engine_version is None)
    ]
    if started and (names := environment.ignored(inherited)):
        lines.append(
            f"{', '.join(names)}: set here, and no engine gets what could change its work from there; "
            "engine.env.NAME=VALUE makes it part of the cell"
        )
    return tuple(lines)


def _unpinned(config: SweepConfig, once: Once) -> list[str]:
    return once(unpinned_dataset, config.dataset) + once(unpinned_models, once.deployment(config))


def _trace(cell: Cell) -> list[str]:
    """How the cell's trace was read, where it has one."""
    path = cell.config.load.path
    if path is None:
        return []
    return [f"load.path={path}: {read_trace(path, most_requests(cell.config)).told}"]


def _sleeps(cell: Cell) -> bool:
    """Whether others' runs may come between its own."""
    return cell.config.engine.sleep == "on"


def _runs(cells: Iterable[Cell]) -> list[str]:
    """How often cells are measured, where it is more than once, and whether others lie between the runs."""
    firsts = [cell for cell in cells if cell.run == 1]
    beside = Counter(cell.deployment_id for cell in firsts)
    turns = Counter(
        model for _, model in {(c.deployment_id, c.config.model.name) for c in firsts if _sleeps(c)}
    )
    lines = []
    for runs in sorted({cell.config.runs for cell in firsts} - {1}):
        repeated = [cell for cell in firsts if cell.config.runs == runs]
        alone = sum(
            beside[one.deployment_id] == 1 and not (_sleeps(one) and turns[one.config.model.name] > 1)
            for one in repeated
        )
        count = len(repeated)
        if alone == count:
            whose = "its deployment has" if count == 1 else "their deployments have"
            apart = f"one at once after the other: {whose} no other cell to put between them"
        elif alone:
            apart = f"apart in time, but of {alone} one at once after the other, having no other cell beside"
        else:
            apart = "apart in time"
        made = "measurement" if count == 1 else "measurements, each"
        lines.append(f"runs={runs}: {count} {made} made {runs} times, {apart}; a run is a cell of its own")
    return lines


def _distinct(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
