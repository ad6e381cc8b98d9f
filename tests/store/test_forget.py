"""`store.write.forget`, killed at every step: the cell is in the study or out of it, whole in either case."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from orchestrator.store.read import read_attempts, read_requests, statuses
from orchestrator.store.write import clean_partial, forget
from tests.store.commits import killed_at, store


@pytest.mark.slow
def test_a_forgotten_cell_is_whole_at_one_place_or_the_other(tmp_path: Path) -> None:
    places = set()
    for step in range(1, 40):
        study = tmp_path / str(step)
        store(study, attempt_id="one")
        ended = killed_at(step, partial(forget, study, "c1"))
        clean_partial(study)
        inside = "c1" in statuses(study)
        assert read_requests(study, ["c1"]).num_rows == (3 if inside else 0)
        assert [one.requests for one in read_attempts(study, "c1")] == ([] if inside else [3])
        store(study, attempt_id="two")
        assert read_requests(study, ["c1"])["attempt_id"].unique().to_pylist() == ["two"]
        assert [(one.attempt_id, one.requests) for one in read_attempts(study, "c1")] == [("one", 3)]
        places.add(inside)
        if ended == 0:
            break
    assert ended == 0, "it was never left to its end"
    assert places == {True, False}


def test_a_cell_that_is_not_there_cannot_be_forgotten(tmp_path: Path) -> None:
    store(tmp_path, "other")
    with pytest.raises(FileNotFoundError, match="the cell has no row"):
        forget(tmp_path, "c1")
    assert not (tmp_path / "attempts").exists()


def test_what_a_damaged_row_had_is_kept_with_it(tmp_path: Path) -> None:
    path = store(tmp_path, attempt_id="one")
    path.write_bytes(path.read_bytes()[:-100])
    damaged, requests = path.read_bytes(), (tmp_path / "requests" / "c1.parquet").read_bytes()
    kept = forget(tmp_path, "c1")
    store(tmp_path, attempt_id="two")
    clean_partial(tmp_path)
    assert (kept / "cells.parquet").read_bytes() == damaged
    assert (kept / "requests.parquet").read_bytes() == requests
    assert statuses(tmp_path)["c1"].attempt_id == "two"
