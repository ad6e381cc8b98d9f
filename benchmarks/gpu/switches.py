"""How long GPUs idled between two deployments of one sweep, from what it stored:

python -m benchmarks.gpu.switches RESULTS
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator.store.ledger import reservations
from orchestrator.store.read import read_cells, read_requests

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Switch:
    """From the last token of one deployment's last cell to the next one's engine being ready, and to the
    first request sent to it (of its warm-up), seconds; ``prepared``: it was started from a standby."""

    study: str
    before: str
    after: str
    prepared: bool
    ready_s: float
    request_s: float


def switches(study_dir: Path) -> Iterator[Switch]:
    """Those of deployments that one reservation served in turn with one engine each, in order. Where several
    engines shared a deployment, or a cell needed another, nobody can say which followed which: left out."""
    held = reservations(study_dir)
    cells = [row for row in read_cells(study_dir).to_pylist() if row["started_at"] is not None]
    for one in held:
        for before, after in pairwise(one.deployments):
            shared = any(sum(key in other.deployments for other in held) > 1 for key in (before, after))
            first, second = _of(cells, before), _of(cells, after)
            if shared or not first or not second or any(row["attempts"] > 1 for row in (*first, *second)):
                continue
            ended = max(last_token(study_dir, row) for row in first)
            opened = min(second, key=lambda row: row["started_at"])
            about = json.loads(opened["provenance"])
            ready = datetime.fromisoformat(about["engine_ready_at"])
            sent = opened["started_at"] + timedelta(seconds=(about["warmup_window_s"] or [0.0])[0])
            yield Switch(
                study=opened["study"],
                before=_label(first[0]),
                after=_label(opened),
                prepared=about["prepared"],
                ready_s=(ready - ended).total_seconds(),
                request_s=(sent - ended).total_seconds(),
            )


def _of(cells: Sequence[Row], deployment_id: str) -> Sequence[Row]:
    return [row for row in cells if row["deployment_id"] == deployment_id]


def _label(row: Row) -> str:
    return f"{row['model']} {row['engine']} {'+'.join(row['opt'])}"


def last_token(study_dir: Path, row: Row) -> datetime:
    """On the wall clock; when the cell began, where no request of it had a token."""
    tokens = read_requests(study_dir, [row["cell_id"]])["last_token_s"].to_pylist()
    last_s = max((one for one in tokens if one is not None), default=0.0)
    began: datetime = row["started_at"]
    return began + timedelta(seconds=last_s)


def markdown(results: Path) -> str:
    """A line a switch of every study under ``results``; empty where there was none."""
    found = [one for study in sorted(results.glob("*/cells")) for one in switches(study.parent)]
    if not found:
        return ""
    head = "| study | from | to | prepared | last token → ready, s | → first request, s |\n"
    head += "|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {one.study} | {one.before} | {one.after} | {'yes' if one.prepared else 'no'} "
        f"| {one.ready_s:.1f} | {one.request_s:.1f} |\n"
        for one in found
    )


if __name__ == "__main__":
    sys.stdout.write(markdown(Path(sys.argv[1])))
