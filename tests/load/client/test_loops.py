"""The inner loops in C are compiled once, and where they cannot be Python does the same."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.load.client import loops


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRATOR_NATIVE", raising=False)


def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    assert loops.choose().compiled
    (made,) = (tmp_path / "native").iterdir()
    monkeypatch.setenv("CC", "false")
    assert loops.choose().compiled
    assert [made] == list((tmp_path / "native").iterdir())


def test_a_library_that_cannot_be_loaded_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "first"))
    loops.choose()
    (made,) = (tmp_path / "first" / "native").iterdir()
    cut = tmp_path / "second" / "native" / made.name
    cut.parent.mkdir(parents=True)
    cut.write_bytes(b"cut short")
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "second"))
    assert loops.choose().compiled
    assert [cut] == list(cut.parent.iterdir())
    assert cut.stat().st_size == made.stat().st_size


def test_no_two_compile_into_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of two machines with one home may have the same number."""
    scratch: list[str] = []

    def noted(command: list[str], **_: Any) -> None:
        scratch.append(command[command.index("-o") + 1])
        raise subprocess.SubprocessError

    monkeypatch.setattr(subprocess, "run", noted)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    for _ in range(2):
        assert loops.choose() is loops.IN_PYTHON
    assert len(set(scratch)) == 2


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_compiler_there_is_no_library(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    assert loops.choose() is loops.IN_PYTHON
    assert not list((tmp_path / "native").iterdir())


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "file" / "home"))
    assert loops.choose() is loops.IN_PYTHON


def test_the_library_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_NATIVE", "0")
    assert loops.choose() is loops.IN_PYTHON
