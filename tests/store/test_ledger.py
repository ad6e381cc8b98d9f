from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

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


def test_a_study_without_one_has_none(tmp_path: Path) -> None:
    assert reservations(tmp_path) == []
