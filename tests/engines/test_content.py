"""Files known by their content, read once (`orchestrator.engines.content`)."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engines import content
from tests.support.waiting import until

HOUR_S = 3600


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    content._of.cache_clear()
    return tmp_path / "home"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, one by one."""
    files: list[Path] = []
    plain = content._read

    def noted(file: Path) -> str:
        files.append(file)
        return plain(file)

    monkeypatch.setattr(content, "_read", noted)
    return files


def settled(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ``file`` had been written long ago."""
    now_s = time.time() + HOUR_S
    monkeypatch.setattr("orchestrator.engines.content.time.time", lambda: now_s)


def test_a_file_is_read_once_for_all_processes(
    tmp_path: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"0123")
    settled(file, monkeypatch)
    first = content.of_file(file)
    content._of.cache_clear()  # another process
    assert content.of_file(file) == first
    assert len(read) == 1


def test_a_rewrite_in_place_at_the_same_size_and_time_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"0123")
    settled(file, monkeypatch)
    first, stat = content.of_file(file), file.stat()

    def rewritten() -> bool:
        with file.open("r+b") as opened:
            opened.write(b"4567")
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return file.stat().st_ctime_ns != stat.st_ctime_ns

    until(rewritten, every_s=0.001)  # the kernel's clock of files ticks every few milliseconds
    after = file.stat()
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (stat.st_size, stat.st_ino, stat.st_mtime_ns)
    assert content.of_file(file) != first


def test_what_has_just_been_written_is_not_remembered(tmp_path: Path, read: list[Path]) -> None:
    """A second write within one tick of the kernel's clock would leave the same times."""
    file = tmp_path / "weights"
    file.write_bytes(b"0123")
    content.of_file(file)
    content.of_file(file)
    assert len(read) == 2


def test_a_home_that_cannot_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", "/dev/null/none")
    file = tmp_path / "weights"
    file.write_bytes(b"0123")
    settled(file, monkeypatch)
    assert len(content.of_file(file)) == 64


def test_files_that_arguments_name_are_known_by_content(tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("a")
    args = {"chat-template": str(template), "speculative-config": {"model": "org/draft"}, "x": ["/nowhere"]}
    first = content.of_named(args)
    assert list(first) == [str(template)]
    template.write_text("b")
    assert content.of_named(args) != first


def test_a_folder_below_counts_too(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "below").mkdir(parents=True)
    (model / "below" / "part").write_text("1")
    first = content.of_folder(model)
    (model / "below" / "part").write_text("2")
    assert content.of_folder(model) != first


def test_a_folder_that_cannot_be_listed_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads everything: the refusal is made."""
    (tmp_path / "m" / "below").mkdir(parents=True)
    (tmp_path / "m" / "below" / "weights").write_bytes(b"0123")
    scandir = os.scandir

    def refused(folder: str) -> Any:
        if Path(folder).name == "below":
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError):
        content.of_folder(tmp_path / "m")


def test_hidden_files_and_folders_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "m" / "b").mkdir(parents=True)
    (tmp_path / "m" / "b" / "weights").write_bytes(b"0123")
    (tmp_path / "m" / "a").write_bytes(b"4")
    before = content.of_folder(tmp_path / "m")
    (tmp_path / "m" / ".cache").mkdir()
    (tmp_path / "m" / ".cache" / "x").write_bytes(b"5")
    (tmp_path / "m" / "b" / ".y").write_bytes(b"6")
    assert content.of_folder(tmp_path / "m") == before
