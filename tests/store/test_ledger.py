from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.store.ledger import FILE, Reservation, record, reservations

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_what_was_recorded_is_read_back_in_order(tmp_path: Path) -> None:
    first = Reservation(NOON, 15.25, 2, 4.0, ("a",), ("d1", "d2"), False)
    second = Reservation(NOON, 18.0, 0, 2.0, ("a", "b"), ("d3",), True)
    record(tmp_path, first)
    record(tmp_path, second)
    assert reservations(tmp_path) == [first, second]


def test_gpu_seconds_are_those_of_every_gpu_on_every_node() -> None:
    assert Reservation(NOON, 10.0, 4, 8.0, ("a", "b"), (), False).gpu_s == 80
    assert Reservation(NOON, 10.0, 0, 8.0, ("a",), (), False).gpu_s == 0


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    record(tmp_path, Reservation(NOON, 1.0, 1, 1.0, ("a",), ("d",), False))
    whole = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(whole + whole[: len(whole) // 2])
    assert len(reservations(tmp_path)) == 1


GOOD = {
    "started_at": NOON.isoformat(),
    "duration_s": 1.0,
    "gpus": 1,
    "cpus": 1.0,
    "nodes": ["a"],
    "deployments": ["d"],
    "simulated": False,
}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"7",
        b'"text"',
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 5000,
        *(
            json.dumps(GOOD | change).encode()
            for change in (
                {"started_at": None},
                {"started_at": "yesterday"},
                {"started_at": "2026-01-01T12:00:00"},
                {"duration_s": "1"},
                {"duration_s": math.nan},
                {"gpus": -1},
                {"gpus": True},
                {"nodes": "a"},
                {"nodes": [1]},
                {"deployments": None},
                {"simulated": 0},
            )
        ),
        *(json.dumps({key: GOOD[key] for key in GOOD.keys() - {name}}).encode() for name in GOOD),
    ],
)
def test_a_foreign_line_is_a_warning_and_the_others_count(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    whole = json.dumps(GOOD).encode()
    (tmp_path / FILE).write_bytes(b"\n".join([whole, line, whole, b""]))
    assert len(reservations(tmp_path)) == 2
    assert f"{tmp_path / FILE}, line 2" in caplog.text


def test_what_a_later_version_adds_to_a_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(GOOD | {"owner": "me"}) + "\n")
    assert [one.nodes for one in reservations(tmp_path)] == [("a",)]


def test_a_study_without_one_has_none(tmp_path: Path) -> None:
    assert reservations(tmp_path) == []
