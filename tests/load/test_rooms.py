"""The arrows between the rooms of `orchestrator.load` point one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import orchestrator.load

ROOT = Path(orchestrator.load.__file__).parent
PACKAGE = "orchestrator.load"
MAY_IMPORT = {
    "receive": {"receive"},
    "stream": {"receive", "stream"},
    "client": {"receive", "stream", "client", "native", "arrivals"},
}


def imports(path: Path) -> set[str]:
    """The rooms, or modules beside them, that a file imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[2] for name in names if name.startswith(f"{PACKAGE}.")}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_import_runs_back(room: str) -> None:
    files = sorted((ROOT / room).glob("*.py"))
    assert len(files) > 3
    assert {str(path): imports(path) - MAY_IMPORT[room] for path in files} == {
        str(path): set() for path in files
    }
