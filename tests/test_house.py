"""The house as it is drawn in CONTRIBUTING.md: rooms in an order, and no arrow that runs back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "orchestrator"

# A room imports only from rooms named before it.
ORDER = (
    "records",
    "errors",
    "paths",
    "interruption",
    "secrets",
    "tabular",
    "config",
    "cell",
    "memory",
    "worked",
    "datasets",
    "grading",
    "telemetry",
    "load",
    "metrics",
    "engines",
    "search",
    "store",
    "plan",
    "measure",
    "track",
    "report",
    "progress",
    "cluster",
    "study",
    "launcher",
    "sweep",
    "show",
)
LONGEST = 360  # lines of a file that is read in one sitting


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """The modules that a file imports, wherever in it."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return tuple(found)


def room_of(module: str) -> str:
    return module.split(".")[1]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def arrows() -> Iterator[tuple[str, str]]:
    """Every import of one room from another: the module that imports, and what."""
    for path in modules():
        for target in imported(path):
            if target.startswith("orchestrator.") and name_of(path) != "orchestrator":
                yield name_of(path), target


def test_every_room_has_its_place() -> None:
    rooms = {room_of(name_of(path)) for path in modules() if name_of(path) != "orchestrator"}
    assert rooms == set(ORDER)


def test_no_arrow_runs_back() -> None:
    back = [
        f"{module} imports {target}"
        for module, target in arrows()
        if room_of(module) != room_of(target) and ORDER.index(room_of(target)) > ORDER.index(room_of(module))
    ]
    assert not back


@pytest.mark.parametrize(("library", "homes"), [("ray", ("cluster", "track")), ("hydra", ("config",))])
def test_a_framework_stays_in_its_room(library: str, homes: tuple[str, ...]) -> None:
    """Ray where things run and are shown on its dashboard, Hydra where jobs are composed; the commands use
    both."""
    users = {
        room_of(name_of(path))
        for path in modules()
        if any(one.split(".")[0] == library for one in imported(path))
    }
    assert users <= {*homes, "study", "launcher", "sweep"}


def test_files_are_read_in_one_sitting() -> None:
    files = [*modules()]
    files += [file for room in ("tests", "benchmarks", "training") for file in (ROOT / room).rglob("*.py")]
    lines = {name_of(path): len(path.read_text().splitlines()) for path in files}
    long = {name: count for name, count in lines.items() if count > LONGEST}
    assert not long


def test_the_table_of_rooms_names_every_room() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text()
    missing = [room for room in ORDER if f"`{room}/`" not in table and f"`{room}.py`" not in table]
    assert not missing
