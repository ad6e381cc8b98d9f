"""Claims of several drivers on the cells of one study (`orchestrator.store.claims`)."""

from __future__ import annotations

import errno
import os
import shutil
import time
from datetime import datetime
from pathlib import Path

import orjson
import pytest

from orchestrator.errors import StorageError
from orchestrator.store.claims import Claims
from tests.store.drivers import (
    everything,
    from_elsewhere,
    killed_driver,
    taken_elsewhere,
)
from tests.support.clock import Clock


def test_a_cell_is_one_drivers(tmp_path: Path) -> None:
    with Claims(tmp_path, "one") as one, Claims(tmp_path, "other") as other:
        assert one.take("c1")
        assert one.take("c1")
        assert not other.take("c1")
        assert (one.ours("c1"), other.ours("c1"), one.ours("c2")) == (True, False, False)
        assert other.take("c2")
        assert one.taken_elsewhere(["c1", "c2", "c3"]) == {"c2"}
        assert other.taken_elsewhere(["c1"]) == {"c1"}
        one.release("c1")
        assert not one.ours("c1")
        assert other.take("c1")


def test_a_claims_file_tells_people_who_has_it_and_since_when(tmp_path: Path) -> None:
    with Claims(tmp_path, "slurm job 7") as claims:
        claims.take("c1")
        told = orjson.loads((tmp_path / "claims" / "c1").read_bytes())
    assert told["owner"].startswith("slurm-job-7-")
    assert (told["process"]["pid"], told["process"]["host"]) == (os.getpid(), os.uname().nodename)
    assert abs(datetime.fromisoformat(told["since"]).timestamp() - time.time()) < 60


def test_a_clean_end_leaves_nothing(tmp_path: Path) -> None:
    with Claims(tmp_path, "one") as one:
        for cell_id in ("c1", "c2", "c3"):
            one.take(cell_id)
        one.release("c2")
        with Claims(tmp_path, "other") as other:
            other.take("c2")
        assert "claims/c1" in everything(tmp_path)
        assert "claims/c2" not in everything(tmp_path)
    assert everything(tmp_path) == []


def test_an_end_by_an_exception_gives_everything_back(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Claims(tmp_path, "one") as one:
            one.take("c1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert everything(tmp_path) == []


def test_a_killed_driver_on_this_host_is_gone_at_once_and_cleaned_up_after(tmp_path: Path) -> None:
    killed_driver(tmp_path, ["c1", "c2"])
    (tmp_path / "claims" / "c3").write_bytes((tmp_path / "claims" / "c1").read_bytes())
    other = Claims(tmp_path, "other")
    assert other.taken_elsewhere(["c1", "c2"]) == set()
    assert other.take("c1")
    with other:
        assert other.ours("c1")
        assert everything(tmp_path) == [
            "claims",
            "claims/c1",
            "claims/drivers",
            f"claims/drivers/{other.driver}",
        ]
    assert everything(tmp_path) == []


def test_a_driver_elsewhere_is_gone_when_its_heartbeat_stood_still_while_watched(tmp_path: Path) -> None:
    clock = Clock()
    far = taken_elsewhere(tmp_path, clock)
    near = Claims(tmp_path, "near", now=clock)
    for second in range(0, 60, 10):
        clock.now_s = float(second)
        assert not near.take("c1"), second
    clock.now_s = 60.0
    assert near.take("c1")
    assert (far.ours("c1"), near.ours("c1")) == (False, True)


def test_a_heartbeat_that_goes_on_keeps_a_claim_however_old_its_clock(tmp_path: Path) -> None:
    clock = Clock()
    with from_elsewhere():
        far = Claims(tmp_path, "far", now=clock)
        far.take("c1")
        heartbeat = tmp_path / "claims" / "drivers" / far.driver
        near = Claims(tmp_path, "near", now=clock)
        for _ in range(20):
            clock.now_s += 30
            far._beat()
            os.utime(heartbeat, (0, 0))
            assert not near.take("c1")
    assert near.taken_elsewhere(["c1"]) == {"c1"}


def test_a_study_that_was_removed_is_an_error_and_not_made_again(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    with Claims(study, "one") as one:
        one.take("c1")
        shutil.rmtree(study)
        with pytest.raises(StorageError, match=r"results_dir=.*No such file"):
            one.take("c2")
        with pytest.raises(StorageError, match="No such file"):
            one.ours("c1")
    assert not study.exists()


def test_a_study_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("in the way")
    with pytest.raises(StorageError, match="Not a directory"), Claims(tmp_path, "one"):
        pass
    with pytest.raises(StorageError, match="Not a directory"):
        Claims(tmp_path, "one").take("c1")


def test_a_driver_that_cannot_write_its_heartbeat_any_more_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    claims = Claims(tmp_path, "one", now=clock)
    claims.take("c1")

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert claims.ours("c1")
    clock.now_s = 31.0
    with pytest.raises(StorageError, match="No space left"):
        claims.ours("c1")


def test_a_claim_that_no_one_can_read_is_nobodys_and_gets_stale(tmp_path: Path) -> None:
    clock = Clock()
    claims = Claims(tmp_path, "one", now=clock)
    claims.take("c0")
    (tmp_path / "claims" / "c1").write_bytes(b"")
    for second in (0, 30, 59):
        clock.now_s = float(second)
        assert not claims.take("c1")
    clock.now_s = 60.0
    assert claims.take("c1")


def test_a_heartbeat_that_is_too_slow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="heartbeat_s=31"):
        Claims(tmp_path, "one", stale_s=60, heartbeat_s=31)
