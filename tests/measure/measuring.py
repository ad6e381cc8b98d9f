"""Whole measurements on a live server of somebody else. Its times are made up and no matter here."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.cell import make_cell, sampling
from orchestrator.datasets import fingerprint
from orchestrator.engines.server import Server
from orchestrator.errors import EngineError
from orchestrator.measure.context import Attempt, MeasurementContext
from orchestrator.measure.measure import measure
from orchestrator.records import Endpoint
from orchestrator.store.read import read_cell, read_requests
from tests.cluster.plans import FACTS
from tests.support.compose import config_of

ATTEMPT = Attempt(1, "first")


@dataclass(frozen=True)
class Theirs:
    """A live server that somebody else started. ``resets``: whether its cache can be emptied."""

    live: Server
    resets: bool

    @property
    def endpoint(self) -> Endpoint:
        return self.live.endpoint

    def reset_cache(self) -> bool | None:
        return self.live.reset_cache() if self.resets else None

    def failure(self) -> EngineError | None:
        return None


def measured(
    site: MeasurementContext, server: Theirs, *overrides: str, attempt: Attempt = ATTEMPT
) -> dict[str, Any]:
    """The row of a cell of 12 long questions, with its requests in the order of sending."""
    file = site.study_dir.parent / "items.jsonl"
    words = "A farmer carries {0} sacks of grain along the river to the mill and {0} more on the way home. "
    rows = [
        {"question": words.format(n) * 4 + "How many?", "answer": f"#### {2 * n}"} for n in range(101, 121)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = config_of(
        *("engine=external", "engine.base_url=http://127.0.0.1:9", "hardware=cpu", "model=r1-7b"),
        *("dataset=gsm8k", f"dataset.path={file}", "limit=12", "load=closed", "load.concurrency=4"),
        *("max_tokens=16", *overrides),
    )
    cell = make_cell(
        config,
        replace(FACTS, sampling=sampling(config), dataset_revision=fingerprint(config.dataset)),
        overrides,
    )
    site.study_dir.mkdir(exist_ok=True)
    measure(cell, replace(site, server=server), attempt)
    row = read_cell(site.study_dir, cell.cell_id)
    assert row is not None
    requests = read_requests(site.study_dir, [cell.cell_id]).to_pylist()
    return {**row, "requests": sorted(requests, key=lambda one: one["sent_s"])}
