from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.errors import ConfigError
from orchestrator.store import write
from orchestrator.store.process import this_process
from orchestrator.store.read import (
    read_cells,
    read_requests,
    read_telemetry,
    statuses,
)
from orchestrator.store.schema import CELLS, VERSION
from orchestrator.store.write import check_writable, clean_partial, commit
from tests.store.commits import GRADES, RECORDS, SAMPLES, in_a_child, killed_at, leftovers, store


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
        assert metadata[b"schema_version"] == VERSION.encode()


def test_a_row_has_its_columns_types_by_parquets_own_schema(tmp_path: Path) -> None:
    """Arrow's copy of it would be a third of the file, and is read anew for each cell of a plan."""
    path = store(tmp_path)
    said = pq.read_metadata(path).metadata
    assert b"ARROW:schema" not in said
    assert said.keys() == {b"schema_version", b"attempt_id"}
    assert pq.ParquetFile(path).read().schema.equals(CELLS)


def test_a_cell_without_requests_can_be_stored(tmp_path: Path) -> None:
    commit(tmp_path, "c1", {"status": "failed", "reason": "engine died"}, (), (), ())
    assert statuses(tmp_path)["c1"].reason == "engine died"
    assert read_requests(tmp_path).num_rows == 0


@pytest.mark.slow
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
        from tests.store.commits import store
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
