"""The compiled inner loops are made once, and nothing needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.load.receive import native


def test_it_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    assert native.library() is not None
    (made,) = (tmp_path / "native").iterdir()
    monkeypatch.setenv("CC", "false")
    assert native.library() is not None
    assert [made] == list((tmp_path / "native").iterdir())


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_compiler_there_is_none(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    assert native.library() is None
    assert not list((tmp_path / "native").iterdir())


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "file" / "home"))
    assert native.library() is None


def test_it_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_NATIVE", "0")
    assert native.library() is None
