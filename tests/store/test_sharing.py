from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StorageError
from orchestrator.search.source import GridSource
from orchestrator.store.claims import Claims, stands
from orchestrator.store.read import read_status
from orchestrator.store.sharing import SharedStudy, driver_name
from orchestrator.store.write import commit
from tests.cluster.plans import deployment

CELLS = deployment(1, cells=["a", "b"]).cells
A, B = CELLS


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[tuple[Claims, Claims]]:
    with Claims(tmp_path, "one") as one, Claims(tmp_path, "two") as two:
        yield one, two


def stored(folder: Path, cell_id: str, status: str = "done", attempts: int = 1) -> None:
    row = {"status": status, "attempts": attempts, "duration_s": float(attempts)}
    commit(folder, cell_id, row, (), (), ())


def test_a_cell_is_measured_by_one_driver(tmp_path: Path, claims: tuple[Claims, Claims]) -> None:
    one, two = (SharedStudy(tmp_path, each, {}) for each in claims)
    assert one.take(A) == "ours"
    assert one.take(A) == "ours", "and is still, when looked at again"
    assert two.take(A) == "elsewhere"
    assert two.look(CELLS) == {A.cell_id: "elsewhere", B.cell_id: "ours"}
    assert two.take(B) == "ours"


def test_what_another_has_stored_since_the_plan_is_not_measured_again(
    tmp_path: Path, claims: tuple[Claims, Claims]
) -> None:
    one, two = (SharedStudy(tmp_path, each, {A.cell_id: None}) for each in claims)
    one.take(A)
    stored(tmp_path, A.cell_id)
    assert two.look(CELLS)[A.cell_id] == "elsewhere", "until it is given back"
    one.leave(A)
    assert two.look(CELLS)[A.cell_id] == "settled"
    assert two.take(A) == "settled"
    assert one.take(A) == "settled", "its own too: the plan was made before"


def test_what_the_plan_has_seen_may_be_measured_again(tmp_path: Path, claims: tuple[Claims, Claims]) -> None:
    stored(tmp_path, A.cell_id, "invalid")
    planned = {A.cell_id: read_status(tmp_path, A.cell_id)}
    one, two = (SharedStudy(tmp_path, each, planned) for each in claims)
    assert one.look(CELLS)[A.cell_id] == "ours"
    assert one.take(A) == "ours"
    stored(tmp_path, A.cell_id, "done", attempts=2)
    one.leave(A)
    assert two.look(CELLS)[A.cell_id] == "settled"


def test_a_workers_claim_stands_until_its_driver_gives_it_up(
    tmp_path: Path, claims: tuple[Claims, Claims]
) -> None:
    one, two = (SharedStudy(tmp_path, each, {}) for each in claims)
    one.take(A)
    claim = one.claim(A)
    assert claim is not None
    assert stands(tmp_path, A.cell_id, claim)
    one.leave(A)
    assert not stands(tmp_path, A.cell_id, claim)
    two.take(A)
    assert not stands(tmp_path, A.cell_id, claim)
    assert one.claim(A) is None


def test_a_driver_of_a_batch_system_is_named_by_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert driver_name().endswith("-job-4711")


def test_a_cell_that_was_lost_is_the_others_and_may_come_back(
    tmp_path: Path, claims: tuple[Claims, Claims]
) -> None:
    one, two = (SharedStudy(tmp_path, each, {}) for each in claims)
    source = GridSource(CELLS, one)
    cell = source.next()
    assert cell is A
    (tmp_path / "claims" / A.cell_id).unlink()
    assert two.take(A) == "ours", "as one that finds the other driver gone"
    source.lost(A)
    source.look_again()
    assert (list(source.elsewhere), list(source.waiting)) == ([A], [B])
    stored(tmp_path, A.cell_id)
    two.leave(A)
    source.look_again()
    assert source.settled() == [A]


def test_rows_that_cannot_be_listed_are_a_storage_error(
    tmp_path: Path, claims: tuple[Claims, Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = (SharedStudy(tmp_path, each, {}) for each in claims)
    scandir = os.scandir

    def refused(folder: Path) -> Any:
        if Path(folder).name == "cells":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(StorageError, match=r"results_dir=.*Permission denied"):
        one.look(CELLS)


def test_a_row_that_cannot_be_asked_for_is_a_storage_error(
    tmp_path: Path, claims: tuple[Claims, Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = (SharedStudy(tmp_path, each, {}) for each in claims)

    def stale(study_dir: Path, cell_id: str) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("orchestrator.store.sharing.read_status", stale)
    with pytest.raises(StorageError, match="Stale file handle"):
        one.take(A)
