"""Which engines were on which GPUs, from what `watch.py` wrote, and whether those were given to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Engine:
    """Seen on ``gpus`` from one look to another, in seconds since the epoch. ``killed_s``: when its worker
    was."""

    pid: int
    label: str
    gpus: tuple[int, ...]
    first_s: float
    last_s: float
    killed_s: float | None


def engines(watch: Path) -> tuple[list[Engine], float]:
    """Those that were on a GPU, and when the watch ended. One is gone at the first look that misses it."""
    lines = [json.loads(line) for line in watch.read_text().splitlines()]
    end_s = lines[-1]["at"]
    kills = [(line["at"], line["killed_worker_of"]) for line in lines if "killed_worker_of" in line]
    looks = [line for line in lines if "on" in line] + [{"at": end_s, "on": {}}]
    found: dict[int, Engine] = {}
    for look, following in pairwise(looks):
        for gpu, (pid, label, _) in ((int(gpu), one) for gpu, listed in look["on"].items() for one in listed):
            first_s = found[pid].first_s if pid in found else look["at"]
            gpus = {gpu, *(found[pid].gpus if pid in found else ())}
            last_s = following["at"]
            killed_s = next((at for at, whom in kills if whom == label and first_s <= at <= last_s), None)
            found[pid] = Engine(pid, label, tuple(sorted(gpus)), first_s, last_s, killed_s)
    return list(found.values()), end_s


def on_their_own(cells: Sequence[Mapping[str, Any]], found: Sequence[Engine]) -> int:
    """How many of the cells had, when they began, an engine of their model on exactly the GPUs that it was
    given (by the cell's provenance), and no other on any of them."""
    count = 0
    for row in cells:
        told = json.loads(row["provenance"])["environment"]["CUDA_VISIBLE_DEVICES"]
        given = {int(gpu) for gpu in told.split(",")}
        at_s = row["started_at"].timestamp()
        there = [one for one in found if one.first_s <= at_s <= one.last_s and given & set(one.gpus)]
        alone = len(there) == 1 and set(there[0].gpus) == given
        count += alone and there[0].label.split()[0] == row["model"]
    return count
