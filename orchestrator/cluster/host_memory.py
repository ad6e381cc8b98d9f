"""Whether a node's memory takes the weights of an engine that is to sleep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator.memory import GIB

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# PyTorch rounds every block of pinned memory up to a power of two, so that it takes up to twice the weights.
PINNED = 2.0
LEFT_GIB = 4.0  # for everybody else on the node
UNLIMITED = 1 << 60  # a control group of version 1 without a limit names a number about here


def lacks_room(weights_gib: float | None, available_bytes: int | None) -> str | None:
    """Why the weights do not go into host memory; None when they do. ``available_bytes`` as `available`."""
    if weights_gib is None:
        return "how large its weights are is not known (model.parameters_b)"
    if available_bytes is None:
        return "how much host memory is free is not known"
    needed, free = weights_gib * PINNED + LEFT_GIB, available_bytes / GIB
    if needed <= free:
        return None
    return (
        f"{weights_gib:.1f} GiB of weights may take {needed:.1f} GiB of host memory, and {free:.1f} are free"
    )


def available(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Bytes that this process may still take: what the machine has available, or what is left below the limit
    of a control group that it is in, if that is less. None where the kernel does not tell."""
    found: int | None = None
    with suppress(OSError, ValueError, IndexError):
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found = int(line.split()[1]) << 10
    if found is None:
        return None
    return min([found, *_left_in_groups(proc, cgroups)])


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    groups: list[str] = []
    with suppress(OSError):
        groups = (proc / "self" / "cgroup").read_text().splitlines()
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _left_up(cgroups, path, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _left_up(cgroups / "memory", path, names)


def _left_up(root: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """Of the group and all above it. The page cache that nobody uses counts as free."""
    limit, used, cache = names
    group = root / path.strip("/")
    for folder in (group, *group.parents):
        with suppress(OSError, ValueError):
            most = int((folder / limit).read_text())  # "max" is no number: there is none
            stat = dict(one.split() for one in (folder / "memory.stat").read_text().splitlines())
            if most < UNLIMITED:
                yield most - int((folder / used).read_text()) + int(stat.get(cache, 0))
        if folder == root:
            return
