"""Writers of one cell at one moment, and locks whose writers are gone (`orchestrator.store.write.commit`)."""

from __future__ import annotations

import os
import re
import signal
import time
from itertools import count
from pathlib import Path

import pytest

from orchestrator.records import Sample
from orchestrator.store import lease, write
from orchestrator.store.read import read_attempts, read_cell, read_requests, read_telemetry, statuses
from orchestrator.store.write import clean_partial, commit
from tests.store.drivers import ELSEWHERE, FORK
from tests.support.timelines import record
from tests.support.waiting import until


def store(study: Path, attempt: str, requests: int, status: str = "done") -> Path:
    """Row, requests and telemetry say of themselves how many requests this attempt has."""
    return commit(
        study,
        "c1",
        {"status": status, "requests_total": requests, "gpus": 0},
        [record(0.0, [(1.0, 1, 0)], request_id=f"{attempt}-{number}") for number in range(requests)],
        None,
        [Sample(float(number)) for number in range(requests)],
        attempt_id=attempt,
    )


def is_whole(study: Path, attempt: str | None = None) -> bool:
    row = read_cell(study, "c1", attempt)
    assert row is not None
    attempt = row["attempt_id"]  # what stands may be another one by now
    requests = read_requests(study, ["c1"], attempt)
    samples = read_telemetry(study, "c1", attempt)
    return (
        requests.num_rows == samples.num_rows == row["requests_total"]
        and set(requests["attempt_id"].to_pylist()) == {row["attempt_id"]}
        and set(samples["attempt_id"].to_pylist()) == {row["attempt_id"]}
    )


def attempts(study: Path) -> set[str]:
    """Every one that is stored, the one that stands among them."""
    stands = statuses(study)["c1"].attempt_id
    assert stands is not None
    return {one.attempt_id for one in read_attempts(study, "c1")} | {stands}


@pytest.mark.slow
def test_sixty_races_and_never_the_row_of_one_beside_the_requests_of_the_other(tmp_path: Path) -> None:
    """Two processes store the same cell, a third one reads all the while."""
    races, barrier = 60, FORK.Barrier(2)

    def write_all(name: str, requests: int) -> None:
        for race in range(races):
            barrier.wait(60)
            store(tmp_path / str(race), name, requests)

    writers = [FORK.Process(target=write_all, args=args) for args in (("aa", 2), ("bb", 5))]
    for one in writers:
        one.start()
    looks = 0
    while any(one.is_alive() for one in writers):
        stored = sorted(tmp_path.glob("*/cells/c1.parquet"), key=lambda path: int(path.parts[-3]))
        for path in stored[-2:]:
            assert is_whole(path.parents[1])
            looks += 1
    assert [one.exitcode for one in writers] == [0, 0]
    for race in range(races):
        study = tmp_path / str(race)
        stands = statuses(study)["c1"].attempt_id
        (other,) = read_attempts(study, "c1")
        assert {stands, other.attempt_id} == {"aa", "bb"}
        assert is_whole(study, "aa")
        assert is_whole(study, "bb")
        assert [path for path in study.rglob(".*") if path.is_file()] == []
    assert looks > 0


@pytest.mark.slow
def test_writers_that_are_killed_among_others_lose_nothing_that_was_stored(tmp_path: Path) -> None:
    """Eight writers of one cell, of which every second one has no end and is killed at some moment."""
    store(tmp_path, "first", 3)

    def write_many(number: int) -> None:
        for turn in range(6) if number % 2 else count():
            store(tmp_path, f"w{number}-{turn}", 1 + (number + turn) % 4, ("done", "invalid")[turn % 2])

    writers = [FORK.Process(target=write_many, args=(number,), daemon=True) for number in range(8)]
    for one in writers:
        one.start()
    doomed = writers[::2]
    until(lambda: any(re.match(r"w[0246]-", one) for one in attempts(tmp_path)), within_s=60)
    for delay, one in enumerate(doomed):
        time.sleep(0.03 * (1 + delay % 3))
        one.kill()
        assert is_whole(tmp_path)
    for one in writers:
        one.join(60)
    assert [one.exitcode for one in writers] == [-signal.SIGKILL, 0] * 4
    clean_partial(tmp_path)
    assert is_whole(tmp_path)
    assert statuses(tmp_path)["c1"].status == "done"
    kept = attempts(tmp_path)
    survivors = {f"w{number}-{turn}" for number in (1, 3, 5, 7) for turn in range(6)}
    assert survivors | {"first"} <= kept
    assert all(is_whole(tmp_path, one) for one in kept)
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []


def test_the_lock_of_a_writer_that_was_killed_keeps_nobody_waiting(tmp_path: Path) -> None:
    def hold_for_ever() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("orchestrator.store.attempts.standing", lambda *_: time.sleep(60))
            store(tmp_path, "killed", 2)

    child = FORK.Process(target=hold_for_ever, daemon=True)
    child.start()
    try:
        until((tmp_path / "cells" / ".c1.lock").exists, within_s=30)
    finally:
        child.kill()
        child.join()
    assert child.exitcode == -signal.SIGKILL
    began = time.monotonic()
    store(tmp_path, "next", 3)
    assert time.monotonic() - began < write.LOCK_STALE_S / 4
    assert is_whole(tmp_path)
    assert not (tmp_path / "cells" / ".c1.lock").exists()


def test_the_lock_of_a_writer_elsewhere_is_waited_for_until_it_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "LOCK_STALE_S", 0.3)
    (tmp_path / "cells").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "this_process", lambda: ELSEWHERE)
        (tmp_path / "cells" / ".c1.lock").write_bytes(lease.draw("commit").encode())
    began = time.monotonic()
    store(tmp_path, "next", 3)
    assert time.monotonic() - began > 0.3
    assert is_whole(tmp_path)


def test_a_writer_that_lost_its_lock_while_it_was_stopped_keeps_its_attempt_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had renamed one of its files, or two, when another one took the lock and stored its own."""
    rename = Path.replace
    for last in (1, 2):
        study = tmp_path / str(last)
        store(study, "old", 1)
        renamed: list[Path] = []

        def rename_then_lose(
            path: Path, target: Path, study: Path = study, last: int = last, renamed: list[Path] = renamed
        ) -> Path:
            done = rename(path, target)
            if target.suffix == ".parquet" and target.parent.parent == study:
                renamed.append(target)
                if len(renamed) == last:
                    (study / "cells" / ".c1.lock").unlink()
                    store(study, "other", 4)
            return done

        monkeypatch.setattr(Path, "replace", rename_then_lose)
        with pytest.raises(TimeoutError, match="was stopped while it stored"):
            store(study, "stopped", 2)
        monkeypatch.setattr(Path, "replace", rename)
        assert statuses(study)["c1"].attempt_id == "other"
        assert {one.attempt_id for one in read_attempts(study, "c1")} == {"old", "stopped"}
        assert all(is_whole(study, attempt) for attempt in ("old", "stopped", "other"))


def test_a_lock_that_is_held_all_the_time_is_an_error_and_the_attempt_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, "old", 1)
    monkeypatch.setattr(write, "LOCK_WAIT_S", 0.2)
    (tmp_path / "cells" / ".c1.lock").write_bytes(lease.draw("commit").encode())
    with pytest.raises(TimeoutError, match=f"process {os.getpid()}-.* kept the lock"):
        store(tmp_path, "new", 2)
    assert statuses(tmp_path)["c1"].attempt_id == "old"
    assert [one.attempt_id for one in read_attempts(tmp_path, "c1")] == ["new"]
    assert is_whole(tmp_path, "new")
