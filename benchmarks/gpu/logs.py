"""What engines said of their memory and of their starts, from their logs beside the cells that they measured:

    python -m benchmarks.gpu.logs RESULTS

The seconds are those of vLLM's log, which has whole ones. What the plan said of the same KV cache: the
sweep's command with ``dry_run=true hardware=TYPE``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator.store.read import read_cells

Row = Mapping[str, Any]

_AT = re.compile(r"(?:INFO|WARNING) (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) ")
# The last line of each phase of a start, in their order.
PHASES = {
    "all processes up": "Loading model from scratch",
    "weights": "Model loading took",
    "torch.compile": "torch.compile took",
    "memory": "Available KV cache memory",
    "CUDA graphs": "Graph capturing finished",
    "warming up": "init engine",
}
_VLLM_KV = re.compile(r"Available KV cache memory: ([\d.]+) GiB")  # of one GPU
# Of one GPU too; "GB" are GiB.
_SGLANG_KV = re.compile(r"KV Cache is allocated.*K size: ([\d.]+) GB, V size: ([\d.]+) GB")


@dataclass(frozen=True)
class Start:
    """``kv_gib`` over all GPUs; None where the log does not say. ``phases_s`` are the seconds of `PHASES`,
    and of the rest until the engine was ready, as far as they are in the log."""

    row: Row
    kv_gib: float | None
    phases_s: Sequence[float | None]


def starts(study_dir: Path) -> list[Start]:
    """Of each deployment whose log is there: its first cell's engine."""
    found: dict[str, Start] = {}
    for row in sorted(read_cells(study_dir).to_pylist(), key=_order):
        log = study_dir / "logs" / row["deployment_id"] / "engine.log"
        if row["deployment_start_s"] is not None and row["deployment_id"] not in found and log.exists():
            lines = log.read_text(errors="replace").splitlines()
            found[row["deployment_id"]] = Start(row, _kv_gib(lines, row["gpus"]), _phases_s(lines, row))
    return list(found.values())


def _order(row: Row) -> tuple[Any, ...]:
    return row["engine"], row["model"], "+".join(row["opt"]), row["gpus"], row["started_at"]


def _kv_gib(lines: Iterable[str], gpus: int) -> float | None:
    for line in lines:
        if of_one := _VLLM_KV.search(line) or _SGLANG_KV.search(line):
            return gpus * sum(map(float, of_one.groups()))
    return None


def _phases_s(lines: Sequence[str], row: Row) -> list[float | None]:
    ready = datetime.fromisoformat(json.loads(row["provenance"])["engine_ready_at"])
    ends = [_last_at(lines, words, ready) for words in PHASES.values()]
    bounds = [ready - timedelta(seconds=row["deployment_start_s"]), *ends, ready]
    return [
        None if begun is None or ended is None else (ended - begun).total_seconds()
        for begun, ended in pairwise(bounds)
    ]


def _last_at(lines: Iterable[str], words: str, near: datetime) -> datetime | None:
    """The log has neither year nor zone: those of ``near``."""
    found = [at for line in lines if words in line and (at := _AT.search(line))]
    if not found:
        return None
    month, day, hour, minute, second = map(int, found[-1].groups())
    year = near.year - (month > near.month)  # a start over the turn of a year
    return datetime(year, month, day, hour, minute, second, tzinfo=near.tzinfo)


def markdown(results: Path) -> str:
    """One row for each deployment of every study under ``results`` whose log is there."""
    names = ("engine", "model", "opt", "GPUs", "prepared", "KV cache, GiB", *PHASES, "rest", "ready after, s")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for study in sorted(results.glob("*/cells")):
        for one in starts(study.parent):
            row = one.row
            prepared = "yes" if json.loads(row["provenance"]).get("prepared") else "no"
            kv = "" if one.kv_gib is None else f"{one.kv_gib:.2f}"
            seconds = ["" if phase is None else f"{phase:.0f}" for phase in one.phases_s]
            cells = (row["engine"], row["model"], "+".join(row["opt"]), row["gpus"], prepared, kv, *seconds)
            lines.append(f"| {' | '.join(map(str, cells))} | {row['deployment_start_s']:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown(Path(sys.argv[1])))
