"""A large report's processes: they change nothing of it, and none is left."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from orchestrator.errors import ConfigError
from orchestrator.report import workers as module
from orchestrator.report.build import make_report
from orchestrator.report.options import Options
from orchestrator.report.workers import workers
from tests.report.studies import Planted, store

pytestmark = pytest.mark.slow


def spawned() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


def files_of(results: Path, out: Path) -> dict[str, bytes]:
    """Without the numbers that a process gives its clip paths one after the other."""
    make_report(Options(results, ("planted",), out=out), "command")
    return {
        path.name: re.sub(rb"clip\d+", b"clip", path.read_bytes())
        for path in sorted((out / "files").iterdir())
    }


def test_a_report_by_several_processes_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Planted(items=12, runs=3)
    results = store(tmp_path / "results", [base, base.but(opt=("fp8",), tpot_s=0.015)])
    alone = files_of(results, tmp_path / "alone")
    monkeypatch.setattr(module, "WORTH", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert files_of(results, tmp_path / "several") == alone
    assert len(alone) > 10
    assert not spawned()


def test_a_process_that_is_killed_is_one_line_and_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORTH", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(ConfigError, match="ended from outside"), workers(1) as mapped:
        list(mapped(_killed, [None]))
    assert not spawned()


def _killed(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_small_report_starts_none() -> None:
    with workers(module.WORTH - 1) as mapped:
        assert list(mapped(_pid, [None])) == [os.getpid()]


def _pid(_: object) -> int:
    return os.getpid()
