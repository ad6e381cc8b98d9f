from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.errors import ConfigError
from orchestrator.records import Grade, Sample
from orchestrator.store import write
from orchestrator.store.process import this_process
from orchestrator.store.read import (
    read_attempts,
    read_cell,
    read_cells,
    read_requests,
    read_telemetry,
    statuses,
)
from orchestrator.store.write import check_writable, clean_partial, commit
from tests.support.timelines import record

RECORDS = [record(0.0, [(1.0, 1, 0), (2.0, 1, 0)], request_id=f"r{i}") for i in range(3)]
GRADES = [Grade("1", True)] * 3
SAMPLES = [Sample(0.0, running=1.0), Sample(1.0, running=2.0)]


STEPS: tuple[tuple[Any, str], ...] = (
    (pq, "write_table"),
    (os, "fsync"),
    (os, "link"),
    (Path, "write_bytes"),
    (Path, "mkdir"),
    (Path, "replace"),
    (Path, "unlink"),
)


def row(status: str = "done") -> dict[str, Any]:
    return {"status": status, "study": "s", "gpus": 0, "opt": ["none"], "started_at": datetime.now(UTC)}


def store(
    study: Path,
    cell_id: str = "c1",
    status: str = "done",
    requests: int = 3,
    attempt_id: str | None = None,
    samples: int = 2,
) -> Path:
    return commit(
        study,
        cell_id,
        row(status),
        RECORDS[:requests],
        GRADES[:requests],
        SAMPLES[:samples],
        attempt_id=attempt_id,
    )


def leftovers(study: Path) -> list[Path]:
    return sorted(path for path in study.rglob("*.tmp"))


def in_a_child(act: Callable[[], object]) -> int:
    """Runs it in a fork that never cleans up after itself; returns the exit status."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            act()
            status = 0
        except BaseException:
            status = 71
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step: int, act: Callable[[], object]) -> int:
    """Runs it in a child that is killed on entering a step: any call that changes what is on the disk."""

    def act_until_killed() -> None:
        steps = 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def step_then_call(*args: Any, **kwargs: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return step_then_call

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in STEPS:
                patch.setattr(owner, name, counted(getattr(owner, name)))
            act()

    return in_a_child(act_until_killed)


def test_a_committed_cell_reads_back_whole(tmp_path: Path) -> None:
    path = store(tmp_path)
    assert path == tmp_path / "cells" / "c1.parquet"
    assert read_cells(tmp_path).to_pylist()[0]["cell_id"] == "c1"
    assert read_requests(tmp_path)["request_id"].to_pylist() == ["r0", "r1", "r2"]
    assert read_telemetry(tmp_path, "c1")["running"].to_pylist() == [1.0, 2.0]
    assert leftovers(tmp_path) == []


def test_every_file_carries_its_schema_version(tmp_path: Path) -> None:
    store(tmp_path)
    for folder in ("cells", "requests", "telemetry"):
        metadata = pq.read_schema(tmp_path / folder / "c1.parquet").metadata
        assert metadata[b"schema_version"] == b"1"


def test_a_cell_without_requests_can_be_stored(tmp_path: Path) -> None:
    commit(tmp_path, "c1", {"status": "failed", "reason": "engine died"}, (), (), ())
    assert statuses(tmp_path)["c1"].reason == "engine died"
    assert read_requests(tmp_path).num_rows == 0


def test_killed_at_any_step_a_new_cell_is_wholly_there_or_not_at_all(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        study = tmp_path / str(step)
        ended = killed_at(step, partial(store, study))
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        if statuses(study):
            assert read_requests(study).num_rows == 3
            assert read_telemetry(study, "c1").num_rows == 2
        else:
            assert read_cells(study).num_rows == 0
            assert read_requests(study).num_rows == 0
        clean_partial(study)
        assert leftovers(study) == []
        store(study)
        assert statuses(study)["c1"].status == "done"
    assert step > 12


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


def test_every_file_is_on_the_disk_before_it_gets_its_name_and_the_cell_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, named = set(), []
    fsync, rename = os.fsync, Path.replace

    def remember_sync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def remember_name(path: Path, target: Path) -> Path:
        assert path.stat().st_ino in synced
        named.append(target.parent.name)
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", remember_sync)
    monkeypatch.setattr(Path, "replace", remember_name)
    store(tmp_path)
    assert named == ["requests", "telemetry", "cells"]
    assert {(tmp_path / folder).stat().st_ino for folder in named} <= synced


def test_a_full_disk_raises_and_leaves_what_was_there(tmp_path: Path) -> None:
    """The kernel refuses to let any file of the child grow past 1 kB, as a full disk would."""
    store(tmp_path, status="invalid", requests=2)

    def store_on_a_full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        with pytest.raises(OSError, match="File too large"):
            store(tmp_path)

    assert in_a_child(store_on_a_full_disk) == 0
    assert statuses(tmp_path)["c1"].status == "invalid"
    assert read_requests(tmp_path).num_rows == 2
    assert leftovers(tmp_path) == []


def test_a_row_that_does_not_fit_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such column"):
        commit(tmp_path, "c1", {"nonsense": 1}, RECORDS, GRADES, SAMPLES)
    assert list(tmp_path.rglob("*.*")) == []


def test_only_the_temporary_files_of_the_dead_are_cleaned(tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    folder.mkdir()
    host, me = socket.gethostname(), this_process()
    dead = [
        folder / f".c1.999999999@{host}.tmp",
        folder / f".c1.00000000.{replace(me, pid=999999999)}.tmp",
        folder / f".c1.00000000.{replace(me, start=me.start - 1)}.tmp",
    ]
    long_ago = [
        folder / ".c2.1@another.host.tmp",
        folder / f".c2.00000000.{replace(me, machine='0' * 16)}.tmp",
    ]
    alive = [
        folder / f".c1.{os.getpid()}@{host}.tmp",
        folder / f".c1.00000000.{me}.tmp",
    ]
    elsewhere = [
        folder / ".c1.1@another.host.tmp",
        # A container with this host's name: its processes cannot be seen here.
        folder / f".c1.00000000.{replace(me, pid=999999999, machine='0' * 16)}.tmp",
    ]
    for path in dead + long_ago + alive + elsewhere:
        path.touch()
    for path in [*long_ago, alive[1]]:
        os.utime(path, (time.time() - 2 * write.STALE_S,) * 2)
    assert sorted(clean_partial(tmp_path)) == sorted(dead + long_ago)
    assert leftovers(tmp_path) == sorted(alive + elsewhere)


def test_age_is_told_by_the_clock_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requests").mkdir()
    elsewhere = tmp_path / "requests" / ".c1.1@another.host.tmp"
    elsewhere.touch()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert clean_partial(tmp_path) == []


def test_cleaning_a_study_that_does_not_exist_is_nothing(tmp_path: Path) -> None:
    assert clean_partial(tmp_path / "none") == []


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "results")
    assert list((tmp_path / "new" / "results").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_configuration_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"results_dir=.*file.*Not a directory") as raised:
        check_writable(tmp_path / "file" / "results")
    assert "\n" not in str(raised.value)


def test_a_prepared_process_imports_nothing_for_its_first_commit(tmp_path: Path) -> None:
    code = f"""
        import sys
        from pathlib import Path
        from orchestrator.store.write import prepare
        from tests.store.test_write import store
        prepare()
        before = set(sys.modules)
        store(Path({str(tmp_path)!r}))
        new = {{name.split(".")[0] for name in set(sys.modules) - before}}
        print(*new & {{"pandas", "scipy", "datasets"}})
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert (tmp_path / "cells" / "c1.parquet").exists()
