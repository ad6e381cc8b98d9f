"""Who else holds GPUs of the cluster, and since when, as far as Ray tells."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import ray
from ray.util.placement_group import placement_group_table

from orchestrator.cluster import ray_private

ANSWERS_S = 5
SHOWN = 3


@dataclass(frozen=True)
class Holder:
    """``key`` is what Ray knows it by. ``since`` is None where it was there before we looked."""

    key: str
    name: str
    gpus: float
    since: datetime | None = None


class Others:
    """Remembers when it first saw whom."""

    def __init__(self) -> None:
        self._first_seen: dict[str, datetime | None] = {}
        self._looked = False

    def look(self, ours: Collection[str]) -> list[Holder]:
        """Those that hold GPUs now, the largest first. ``ours`` are the ids of this sweep's placement groups.
        Asks the cluster, so it blocks for some seconds at the most; never raises."""
        found = [*_groups(ours), *_actors()]
        now = datetime.now()
        for one in found:
            self._first_seen.setdefault(one.key, now if self._looked else None)
        self._looked = True
        dated = [one if one.since else replace(one, since=self._first_seen[one.key]) for one in found]
        return sorted(dated, key=lambda one: -one.gpus)


def told(holders: Iterable[Holder], others: float, total: float) -> str:
    """One line: of ``total`` GPUs others hold so many; who is known, and the rest as others."""
    known = list(holders)
    parts = [_one(holder) for holder in known[:SHOWN]]
    if (rest := others - sum(holder.gpus for holder in known[:SHOWN])) > 0.01 and parts:
        parts.append(f"others {rest:g}")
    said = f"others hold {others:g} of {total:g} GPUs"
    return f"{said}: {', '.join(parts)}" if parts else said


def _one(holder: Holder) -> str:
    since = f"since {holder.since:%H:%M}" if holder.since else "since before this sweep looked"
    return f"{holder.name} {holder.gpus:g} ({since})"


def _groups(ours: Collection[str]) -> list[Holder]:
    """Placement groups with GPUs."""
    found = []
    with suppress(Exception):
        table: Mapping[str, Mapping[str, Any]] = placement_group_table()
        for key, group in table.items():
            gpus = sum(bundle.get("GPU", 0.0) for bundle in group["bundles"].values())
            if group["state"] == "CREATED" and gpus and key not in ours:
                name = str(group["name"]) or "a placement group without a name"
                found.append(Holder(key, name, gpus))
    return found


def _actors() -> list[Holder]:
    """Actors that hold GPUs by themselves, of other jobs. Ray's dashboard tells; without one, nobody."""
    from ray.util.state import list_actors

    found = []
    with suppress(Exception):
        context = ray.get_runtime_context()
        began = ray_private.actors_began()
        for one in list_actors(
            address=context.gcs_address,  # else every Ray of this machine is looked for
            filters=[("state", "=", "ALIVE")],
            detail=True,
            timeout=ANSWERS_S,
            raise_on_missing_output=False,
        ):
            gpus = float((one.required_resources or {}).get("GPU", 0.0))
            if not gpus or one.job_id == context.get_job_id() or one.placement_group_id:
                continue
            name = f"{one.name or one.class_name} of job {one.job_id} in namespace {one.ray_namespace}"
            found.append(Holder(one.actor_id, name, gpus, began.get(one.actor_id)))
    return found
