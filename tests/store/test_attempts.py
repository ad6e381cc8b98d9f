"""Several attempts at one cell (`orchestrator.store.attempts`, by `commit` and the readers)."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.store.files import make_folder, temporary_name
from orchestrator.store.read import (
    read_attempts,
    read_cell,
    read_cells,
    read_requests,
    read_telemetry,
    statuses,
)
from orchestrator.store.write import clean_partial, commit
from tests.store.commits import STEPS, killed_at, leftovers, store


@pytest.mark.slow
def test_killed_at_any_step_a_cell_stored_again_is_the_old_or_the_new_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    step = 0
    seen = set()
    while True:
        step += 1
        study = tmp_path / str(step)
        store(study, status="invalid", requests=2, samples=1, attempt_id="old")
        ended = killed_at(step, partial(store, study, attempt_id="new"))
        for cleaned in (False, True):
            if cleaned:
                clean_partial(study)
                assert leftovers(study) == []
                assert list(study.rglob("*.lock")) == list(study.rglob("*.change.*")) == []
            stands = statuses(study)["c1"]
            found = (stands.status, read_requests(study).num_rows, read_telemetry(study, "c1").num_rows)
            assert found in {("invalid", 2, 1), ("done", 3, 2)}, (step, cleaned)
            seen.add(stands.status)
            kept = [(one.attempt_id, one.status, one.requests) for one in read_attempts(study, "c1")]
            assert kept == ([("old", "invalid", 2)] if stands.status == "done" else []), (step, cleaned)
            assert read_requests(study, ["c1"], "old").num_rows == 2
        for folder in ("requests", "telemetry"):  # whoever reads the files without this package
            metadata = pq.read_schema(study / folder / "c1.parquet").metadata
            assert metadata[b"attempt_id"].decode() == stands.attempt_id, step
        store(study, attempt_id="third")
        assert statuses(study)["c1"].attempt_id == "third"
        assert read_requests(study, ["c1"], "old").num_rows == 2
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert seen == {"invalid", "done"}
    assert step > 30


@pytest.mark.slow
def test_killed_at_any_step_of_being_kept_beside_an_attempt_is_whole_or_gone(tmp_path: Path) -> None:
    step, ended, halves = 0, -signal.SIGKILL, 0
    while ended:
        step += 1
        study = tmp_path / str(step)
        store(study, attempt_id="old")
        ended = killed_at(step, partial(store, study, status="invalid", attempt_id="new"))
        halves += bool(list(study.glob("attempts/c1/new/*")) and not read_attempts(study, "c1"))
        clean_partial(study)
        folders = {path.parent for path in study.glob("attempts/*/*/*")}
        assert all((folder / "cells.parquet").exists() for folder in folders), step
        assert [path for path in study.glob("attempts/*") if not list(path.iterdir())] == [], step
        assert statuses(study)["c1"].attempt_id == "old"
    assert [one.attempt_id for one in read_attempts(study, "c1")] == ["new"]
    assert halves > 1


def test_what_a_live_commit_is_moving_beside_the_cell_stays(tmp_path: Path) -> None:
    store(tmp_path, attempt_id="old")
    beside = tmp_path / "attempts" / "c1" / "new" / "requests.parquet"
    make_folder(beside.parent)
    shutil.copy(tmp_path / "requests" / "c1.parquet", beside)
    row = temporary_name(tmp_path / "cells" / "c1.parquet")
    row.write_bytes(b"being written")
    clean_partial(tmp_path)
    assert beside.exists()
    row.unlink()
    clean_partial(tmp_path)
    assert not (tmp_path / "attempts").exists()


@pytest.mark.slow
def test_an_error_at_any_step_leaves_the_old_or_the_new_and_no_litter(tmp_path: Path) -> None:
    step = 0
    failed = 0
    while True:
        step += 1
        study = tmp_path / str(step)
        store(study, status="invalid", requests=2, samples=1, attempt_id="old")
        steps = 0

        def failing(call: Callable[..., Any], step: int = step) -> Callable[..., Any]:
            def step_or_fail(*args: Any, **kwargs: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == step:
                    raise OSError(errno.EIO, "Input/output error")
                return call(*args, **kwargs)

            return step_or_fail

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in STEPS:
                if name != "unlink":  # what cannot be removed stays
                    patch.setattr(owner, name, failing(getattr(owner, name)))
            try:
                store(study, attempt_id="new")
            except OSError:
                failed += 1
        found = (statuses(study)["c1"].attempt_id, read_requests(study).num_rows)
        assert found in {("old", 2), ("new", 3)}, step
        assert read_requests(study, ["c1"], "old").num_rows == 2
        assert leftovers(study) == []
        clean_partial(study)
        assert read_requests(study, ["c1"], "old").num_rows == 2
        if steps < step:
            break
    assert failed > 20


RANKS = {"nothing": ("failed", 0), "failed": ("failed", 2), "invalid": ("invalid", 2), "done": ("done", 3)}
STAYS = {
    ("done", "invalid"),
    ("done", "failed"),
    ("done", "nothing"),
    ("invalid", "nothing"),
    ("failed", "nothing"),
}


@pytest.mark.parametrize("new", RANKS)
@pytest.mark.parametrize("old", RANKS)
def test_which_of_two_attempts_stands_and_that_the_other_is_kept(tmp_path: Path, old: str, new: str) -> None:
    for name, (status, requests) in (("old", RANKS[old]), ("new", RANKS[new])):
        store(tmp_path, status=status, requests=requests, attempt_id=name, samples=max(requests - 1, 0))
    stays = (old, new) in STAYS
    stands, kept = ("old", "new") if stays else ("new", "old")
    (other,) = read_attempts(tmp_path, "c1")
    expected = {"old": RANKS[old], "new": RANKS[new]}
    assert (other.attempt_id, other.status, other.requests) == (kept, *expected[kept])
    cell = statuses(tmp_path)["c1"]
    assert (cell.attempt_id, cell.status) == (stands, expected[stands][0])
    for name, (of, requests) in expected.items():
        found = read_cell(tmp_path, "c1", name)
        assert found is not None
        assert (found["attempt_id"], found["status"]) == (name, of)
        assert read_requests(tmp_path, ["c1"], name)["attempt_id"].to_pylist() == [name] * requests
        assert read_telemetry(tmp_path, "c1", name).num_rows == max(requests - 1, 0)
    assert read_requests(tmp_path).num_rows == expected[stands][1]
    assert read_cells(tmp_path).num_rows == 1
    assert (cell.last_failure is not None) == (stays and RANKS[new][0] == "failed")


def test_a_failure_beside_a_measurement_says_why_and_when(tmp_path: Path) -> None:
    store(tmp_path)
    for reason in ("no such GPU", "the server is down"):
        commit(tmp_path, "c1", {"status": "failed", "reason": reason}, (), (), ())
    status = statuses(tmp_path)["c1"]
    assert (status.status, status.reason) == ("done", None)
    assert status.last_failure is not None
    assert status.last_failure.reason == "the server is down"
    assert status.last_failure.at is not None
    assert abs((datetime.now(UTC) - status.last_failure.at).total_seconds()) < 60
    assert [one.reason for one in read_attempts(tmp_path, "c1")] == ["no such GPU", "the server is down"]
    store(tmp_path)
    assert statuses(tmp_path)["c1"].last_failure is None  # measured since


def older_version(study: Path) -> None:
    """As a version that knew no attempts stored it."""
    store(study, status="done", requests=2, samples=1)
    for folder in ("requests", "telemetry", "cells"):
        path = study / folder / "c1.parquet"
        table = pq.read_table(path)
        drop = [name for name in ("attempt_id", "stored_at") if name in table.column_names]
        pq.write_table(table.drop_columns(drop).replace_schema_metadata({"schema_version": "1"}), path)


def test_a_cell_of_an_older_version_reads_and_is_kept_when_it_is_measured_again(tmp_path: Path) -> None:
    older_version(tmp_path)
    assert statuses(tmp_path)["c1"].status == "done"
    assert (read_requests(tmp_path).num_rows, read_telemetry(tmp_path, "c1").num_rows) == (2, 1)
    store(tmp_path, status="failed", requests=0)
    assert statuses(tmp_path)["c1"].status == "done"
    store(tmp_path)
    (older,) = (one for one in read_attempts(tmp_path, "c1") if one.status == "done")
    assert (older.requests, read_requests(tmp_path).num_rows) == (2, 3)
    assert read_telemetry(tmp_path, "c1", older.attempt_id).num_rows == 1


@pytest.mark.slow
def test_a_cell_of_an_older_version_survives_a_killed_writer_at_any_step(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        study = tmp_path / str(step)
        older_version(study)
        ended = killed_at(step, partial(store, study, attempt_id="new"))
        for _ in range(2):
            found = (read_requests(study).num_rows, read_telemetry(study, "c1").num_rows)
            assert found == ((3, 2) if statuses(study)["c1"].attempt_id == "new" else (2, 1))
            clean_partial(study)
        if ended == 0:
            break


@pytest.mark.parametrize("folder", ["requests", "telemetry"])
def test_files_of_another_attempt_than_the_row_names_are_refused(
    tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    store(tmp_path, attempt_id="one")
    store(tmp_path / "elsewhere", attempt_id="other")
    shutil.copy(tmp_path / "elsewhere" / folder / "c1.parquet", tmp_path / folder / "c1.parquet")
    if folder == "requests":
        assert read_requests(tmp_path).num_rows == 0
    else:
        with pytest.raises(FileNotFoundError):
            read_telemetry(tmp_path, "c1")
    assert "attempt one" in caplog.text
    assert statuses(tmp_path)["c1"].status == "done"


def test_a_file_that_lost_its_metadata_still_names_its_attempt(tmp_path: Path) -> None:
    store(tmp_path, attempt_id="one")
    for folder in ("requests", "telemetry", "cells"):
        path = tmp_path / folder / "c1.parquet"
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert read_requests(tmp_path).num_rows == 3
    assert read_telemetry(tmp_path, "c1").num_rows == 2
    assert statuses(tmp_path)["c1"].attempt_id == "one"


def test_an_attempt_is_stored_again_without_a_second_copy(tmp_path: Path) -> None:
    for _ in range(2):
        store(tmp_path, attempt_id="one")
    assert read_attempts(tmp_path, "c1") == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65])
def test_an_attempt_id_that_could_not_name_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="attempt_id="):
        store(tmp_path, attempt_id=name)
    assert list(tmp_path.iterdir()) == []


def test_no_hard_links_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    store(tmp_path, status="invalid", requests=2, attempt_id="old")
    store(tmp_path, attempt_id="new")
    assert [one.attempt_id for one in read_attempts(tmp_path, "c1")] == ["old"]
    assert read_requests(tmp_path, ["c1"], "old").num_rows == 2
    assert leftovers(tmp_path) == []
