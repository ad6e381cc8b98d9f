"""File operations that are exclusive on file systems as they are (`orchestrator.store.files`)."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.claims import Claims
from orchestrator.store.files import LocalFiles, make_folder
from tests.store.drivers import everything


def test_nfs_may_say_of_a_link_that_it_made_that_it_is_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_then_lose_the_answer(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link_then_lose_the_answer)
    folder = LocalFiles(tmp_path)
    assert folder.create_exclusively("a", b"1")
    monkeypatch.setattr(os, "link", link)
    assert not folder.create_exclusively("a", b"2")
    assert folder.read("a") == b"1"
    assert everything(tmp_path) == ["a"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Claims(tmp_path, "one") as one, Claims(tmp_path, "other") as other:
        assert one.take("c1")
        assert not other.take("c1")
        assert json.loads((tmp_path / "claims" / "c1").read_text())["owner"] == one.driver
    assert everything(tmp_path) == []


def test_a_folder_whose_empty_parent_somebody_removes_meanwhile_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, left = Path.mkdir, ["once"]

    def mkdir_after_a_clean_up(folder: Path, *args: Any, **kwargs: Any) -> None:
        if folder.name == "attempt" and left:
            left.pop()
            folder.parent.rmdir()
        mkdir(folder, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir_after_a_clean_up)
    make_folder(tmp_path / "attempts" / "cell" / "attempt")
    assert (tmp_path / "attempts" / "cell" / "attempt").is_dir()
