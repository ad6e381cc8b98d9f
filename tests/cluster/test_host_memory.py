"""Whether weights go into host memory (`orchestrator.cluster.host_memory`), on files like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cluster.host_memory import available, lacks_room

GIB = 1 << 30


@pytest.mark.parametrize(
    ("weights_gib", "free_gib", "says"),
    [
        (10.0, 24.0, None),  # twice the weights, and 4 GiB for everybody else
        (10.0, 23.9, "10.0 GiB of weights may take 24.0 GiB of host memory, and 23.9 are free"),
        (None, 500.0, "model.parameters_b"),
        (10.0, None, "is not known"),
    ],
)
def test_weights_need_room_for_their_pinned_copy(
    weights_gib: float | None, free_gib: float | None, says: str | None
) -> None:
    found = lacks_room(weights_gib, None if free_gib is None else int(free_gib * GIB))
    assert found is None if says is None else found is not None and says in found


def machine(folder: Path, cgroup: str, available_gib: int = 100) -> Path:
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {available_gib << 20} kB\n")
    (folder / "self" / "cgroup").write_text(cgroup)
    return folder


def group(folder: Path, names: tuple[str, str, str], most: str, used_gib: int, cache_gib: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limit, usage, cache = names
    (folder / limit).write_text(f"{most}\n")
    (folder / usage).write_text(f"{used_gib * GIB}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{cache} {cache_gib * GIB}\n")


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_without_a_limit_it_is_what_the_machine_has(tmp_path: Path) -> None:
    proc = machine(tmp_path / "proc", "0::/slot\n")
    group(tmp_path / "groups" / "slot", V2, "max", 3)
    assert available(proc, tmp_path / "groups") == 100 * GIB
    assert available(tmp_path / "nothing", tmp_path / "groups") is None


def test_the_tightest_limit_above_counts_and_unused_page_cache_is_free(tmp_path: Path) -> None:
    proc = machine(tmp_path / "proc", "0::/pod/slot\n")
    group(tmp_path / "groups" / "pod" / "slot", V2, "max", 3)
    group(tmp_path / "groups" / "pod", V2, str(40 * GIB), 30, cache_gib=8)
    assert available(proc, tmp_path / "groups") == 18 * GIB


def test_a_container_that_is_its_own_root_has_its_limit_there(tmp_path: Path) -> None:
    proc = machine(tmp_path / "proc", "0::/\n")
    group(tmp_path / "groups", V2, str(40 * GIB), 30)
    assert available(proc, tmp_path / "groups") == 10 * GIB


def test_control_groups_of_version_1_have_other_names(tmp_path: Path) -> None:
    proc = machine(tmp_path / "proc", "5:cpu,cpuacct:/a\n4:memory:/slot\n")
    group(tmp_path / "groups" / "memory" / "slot", V1, str(40 * GIB), 30, cache_gib=1)
    group(tmp_path / "groups" / "memory", V1, "9223372036854771712", 50)
    assert available(proc, tmp_path / "groups") == 11 * GIB
