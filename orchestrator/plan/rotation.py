"""Which deployments take turns on a slot, so that their runs alternate. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.plan.plan import Deployment


def rotations(
    deployments: Sequence[Deployment], alike: Callable[[Deployment], Hashable]
) -> list[list[Deployment]]:
    """The deployments in groups, in the order of their first members. Those of one model whose engines sleep
    and that need ``alike`` of a slot are together, as many as may sleep there beside the one that is awake.
    Any other is by itself."""
    groups: list[list[Deployment]] = []
    last: dict[Hashable, list[Deployment]] = {}
    for one in deployments:
        key = (one.config.model.name, alike(one))
        group = last.get(key)
        if one.config.engine.sleep == "on" and group is not None and len(group) <= one.config.engine.sleepers:
            group.append(one)
            continue
        groups.append([one])
        if one.config.engine.sleep == "on":
            last[key] = groups[-1]
    return groups


def turn_notes(deployments: Sequence[Deployment]) -> list[str]:
    """A line for each group that takes turns."""
    found = []
    for group in rotations(deployments, alike=lambda one: (one.gpus, one.nodes, one.hardware.name)):
        if len(group) > 1:
            runs = len({cell.run for one in group for cell in one.cells})
            model, blocks = group[0].config.model.name, f"{runs} block{'s' * (runs > 1)}"
            found.append(
                f"engine.sleep=on: the {len(group)} deployments of {model} take turns on one slot, in "
                f"{blocks} of one run each; the others sleep meanwhile"
            )
    return found
