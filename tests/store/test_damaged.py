"""Files that are damaged on the disk: they count as not there, and stop nobody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store import attempts
from orchestrator.store.read import read_attempts, read_cell, read_cells, read_requests, statuses
from orchestrator.store.write import clean_partial
from tests.store.commits import store


def damaged(path: Path, every: int) -> Iterator[int]:
    """The file with one byte after another turned round; whole again at the end."""
    whole = path.read_bytes()
    for at in range(0, len(whole), every):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        yield at
    path.write_bytes(whole)


@pytest.mark.slow
def test_a_damaged_row_at_any_byte_gives_a_status_and_a_new_attempt_takes_its_place(tmp_path: Path) -> None:
    path = store(tmp_path, status="invalid", attempt_id="old")
    refused = 0
    for _ in damaged(path, every=19):
        old = attempts.standing(tmp_path, "c1")
        assert old is not None
        refused += old.status is None
        assert statuses(tmp_path)["c1"].status in ("invalid", "corrupt")
        assert read_cells(tmp_path).num_rows <= 1
        read_cell(tmp_path, "c1")
        read_requests(tmp_path)
    assert refused > 100


def not_thrift(path: Path) -> None:
    """A footer of a length that is right, and of bytes that are none: pyarrow raises an OSError without a
    number."""
    whole = bytearray(path.read_bytes())
    whole[-40:-8] = b"\xff" * 32
    path.write_bytes(bytes(whole))


def test_a_row_with_a_damaged_footer_is_stored_again(tmp_path: Path) -> None:
    not_thrift(store(tmp_path, attempt_id="old"))
    store(tmp_path, status="failed", requests=0, attempt_id="new")
    assert statuses(tmp_path)["c1"].attempt_id == "new"


@pytest.mark.parametrize("folder", ["requests", "telemetry"])
def test_damaged_requests_or_samples_do_not_stop_a_new_attempt(tmp_path: Path, folder: str) -> None:
    store(tmp_path, status="invalid", attempt_id="old")
    not_thrift(tmp_path / folder / "c1.parquet")
    store(tmp_path, attempt_id="new")
    assert [one.attempt_id for one in read_attempts(tmp_path, "c1")] == ["old"]
    assert read_requests(tmp_path).num_rows == 3


def test_what_a_killed_commit_left_damaged_is_replaced_by_what_was_kept(tmp_path: Path) -> None:
    store(tmp_path, status="invalid", requests=2, attempt_id="old")
    old = attempts.standing(tmp_path, "c1")
    assert old is not None
    attempts.keep(tmp_path, "c1", old)
    own = tmp_path / "requests" / "c1.parquet"
    copy = own.with_suffix(".copy")
    shutil.copy(own, copy)  # else its second name would be damaged too
    copy.replace(own)
    not_thrift(own)
    clean_partial(tmp_path)
    assert read_requests(tmp_path).num_rows == 2
    assert not (tmp_path / "attempts").exists()


def test_a_kept_attempt_is_counted_without_its_requests_being_read(tmp_path: Path) -> None:
    store(tmp_path, status="invalid", requests=2, attempt_id="old")
    store(tmp_path, attempt_id="new")
    kept = tmp_path / "attempts" / "c1" / "old" / "requests.parquet"
    whole = kept.read_bytes()
    kept.write_bytes(b"\0" * 4 + whole[4:])
    assert [one.requests for one in read_attempts(tmp_path, "c1")] == [2]
    kept.write_bytes(b"")
    assert statuses(tmp_path)["c1"].status == "done"
