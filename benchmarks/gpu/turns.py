"""What runs that alternate cost, from what a sweep with ``engine.sleep=on`` stored:

    python -m benchmarks.gpu.turns RESULTS

A switch is from the last token of one deployment's measurement to the first request (of the warm-up) of the
next one's, on one slot. The time reserved stands beside that of the windows and of one start each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.switches import last_token
from orchestrator.store.ledger import reservations
from orchestrator.store.read import read_cells, read_requests

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Turns:
    """Seconds. ``switches_s`` in order; ``windows_s`` of all measurements; ``starts_s`` of each engine once;
    ``reserved_s`` that slots were held for the study."""

    study: str
    cells: int
    blocks: int
    switches_s: Sequence[float]
    windows_s: float
    starts_s: float
    reserved_s: float


def turns(study_dir: Path) -> Turns | None:
    """None where no runs were in blocks. Of several slots at a time nobody can say which cell followed which
    but inside a block: between blocks no switch is told then."""
    rows = [row for row in read_cells(study_dir).to_pylist() if row["block"] is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: row["started_at"])
    one_slot = all(
        before["block"] == after["block"] or after["block_position"] == 1 for before, after in pairwise(rows)
    )
    switches_s = [
        (_sent(after) - last_token(study_dir, before)).total_seconds()
        for before, after in pairwise(rows)
        if before["deployment_id"] != after["deployment_id"]
        and (one_slot or before["block"] == after["block"])
        and after["attempts"] == before["attempts"] == 1
    ]
    starts_s = {row["deployment_id"]: row["deployment_start_s"] for row in rows}
    return Turns(
        study=rows[0]["study"],
        cells=len(rows),
        blocks=len({row["block"] for row in rows}),
        switches_s=switches_s,
        windows_s=sum(_window_s(study_dir, row) for row in rows),
        starts_s=sum(starts_s.values()),
        reserved_s=sum(one.duration_s for one in reservations(study_dir)),
    )


def markdown(results: Path) -> str:
    """A line a study; empty where there is none."""
    found = [turns(study.parent) for study in sorted(results.glob("*/cells"))]
    told = [one for one in found if one is not None and one.switches_s]
    if not told:
        return ""
    head = (
        "| study | measurements | blocks | switches | median s | longest s | windows s | starts s | held s "
    )
    head += "| held / (windows + starts) | windows / held |\n" + "|---" * 11 + "|\n"
    return head + "".join(
        f"| {one.study} | {one.cells} | {one.blocks} | {len(one.switches_s)} | {median(one.switches_s):.2f} "
        f"| {max(one.switches_s):.2f} | {one.windows_s:.1f} | {one.starts_s:.1f} | {one.reserved_s:.1f} "
        f"| {one.reserved_s / (one.windows_s + one.starts_s):.2f} | {one.windows_s / one.reserved_s:.2f} |\n"
        for one in told
    )


def _sent(row: Row) -> datetime:
    """The first request, on the wall clock."""
    warmed = json.loads(row["provenance"])["warmup_window_s"] or [0.0]
    began: datetime = row["started_at"]
    return began + timedelta(seconds=warmed[0])


def _window_s(study_dir: Path, row: Row) -> float:
    asked = read_requests(study_dir, [row["cell_id"]])
    sent = [one for one in asked["sent_s"].to_pylist() if one is not None]
    return max(asked["end_s"].to_pylist()) - min(sent) if sent else 0.0


if __name__ == "__main__":
    sys.stdout.write(markdown(Path(sys.argv[1])))
