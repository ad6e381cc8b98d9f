"""What planning is told of the world outside its files: plain data, asked of nodes, servers and the hub
before a run (`orchestrator.cluster.ask`), or as stored cells of the study have it before a dry run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.config.schema import EngineConfig, SweepConfig
from orchestrator.engines.external import trimmed
from orchestrator.engines.revisions import unpinned
from orchestrator.store.read import read_cells

Served = Mapping[str, Any]
"""What an external server says it serves: see `orchestrator.engines.external.served`."""


@dataclass(frozen=True)
class Known:
    """``versions``: `engine_key` -> the engine's version on the nodes. ``served``: `server_key` -> what it
    serves. ``revisions``: a hub id, or ``ID@BRANCH`` -> its commit. ``notes`` are lines for the plan."""

    versions: Mapping[str, str] = field(default_factory=dict)
    served: Mapping[str, Served] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


NOTHING = Known()


def engine_key(engine: EngineConfig) -> str:
    """Engines with one key are the same interpreter's on a node."""
    return json.dumps([engine.name, engine.python, engine.env.get("PYTHONPATH")])


def server_key(engine: EngineConfig) -> str:
    """Servers with one key are asked for the same model at the same address."""
    return json.dumps([engine.base_url and trimmed(engine.base_url), engine.served_model])


def as_stored(configs: Sequence[SweepConfig], study_dir: Path) -> Known:
    """What the study's rows were planned with, the newest before all others: a dry run, which asks nobody,
    names its cells by that. Nothing is read where ``configs`` do not depend on it."""
    if not any(c.engine.name == "external" or c.ray.address is not None or unpinned(c) for c in configs):
        return NOTHING
    rows = read_cells(study_dir).select(["started_at", "provenance"]).to_pylist()
    rows.sort(key=lambda row: row["started_at"].timestamp() if row["started_at"] else 0.0)
    known = of_rows(row["provenance"] for row in rows)
    servers = {
        server_key(one.engine): one.engine.base_url for one in configs if one.engine.name == "external"
    }
    return replace(known, notes=tuple(_not_asked(url, known.served.get(key)) for key, url in servers.items()))


def _not_asked(url: str | None, served: Served | None) -> str:
    last = (
        "no model is known of it" if served is None else f"taken to serve {served.get('id')} as it did last"
    )
    return f"engine.base_url={url}: a dry run asks no server: {last}"


def of_rows(provenances: Iterable[str | None]) -> Known:
    """From the JSON column ``provenance``, the oldest first."""
    versions: dict[str, str] = {}
    served: dict[str, Served] = {}
    revisions: dict[str, str] = {}
    for text in provenances:
        try:
            planned = json.loads(text or "{}").get("planned") or {}
        except ValueError:
            continue
        if planned.get("engine_key") and planned.get("engine_version"):
            versions[planned["engine_key"]] = planned["engine_version"]
        if planned.get("server_key") and planned.get("served"):
            served[planned["server_key"]] = planned["served"]
        revisions |= planned.get("revisions") or {}
    return Known(versions, served, revisions)
