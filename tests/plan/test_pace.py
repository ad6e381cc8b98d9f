from __future__ import annotations

from orchestrator.plan.pace import Pace

OWN, MODEL, ENGINE = "deployment", ("model", "engine"), "engine"
GROUPS = (OWN, MODEL, ENGINE)


def test_before_anything_has_finished_an_estimate_stands_and_none_stays_none() -> None:
    assert Pace().expect_s(GROUPS, 10.0) == 10.0
    assert Pace().expect_s(GROUPS, None) is None


def test_an_estimate_is_corrected_by_the_ratio_of_what_finished() -> None:
    pace = Pace()
    for estimated_s in (10.0, 20.0, 40.0):
        pace.observe(GROUPS, estimated_s, 0.5 * estimated_s)
    assert pace.expect_s(GROUPS, 100.0) == 50.0


def test_one_stalled_cell_moves_nothing() -> None:
    pace = Pace()
    for took_s in (10.0, 11.0, 3600.0):
        pace.observe(GROUPS, 10.0, took_s)
    assert pace.expect_s(GROUPS, 10.0) == 11.0


def test_the_finest_group_that_has_seen_enough_speaks() -> None:
    pace = Pace()
    for _ in range(3):
        pace.observe(("other", MODEL, ENGINE), 10.0, 20.0)
    pace.observe(GROUPS, 10.0, 5.0)
    assert pace.expect_s(GROUPS, 10.0) == 20.0, "one cell of its own says less than the model's four"
    for _ in range(2):
        pace.observe(GROUPS, 10.0, 5.0)
    assert pace.expect_s(GROUPS, 10.0) == 5.0
    assert pace.expect_s(("new", ("another model", "engine"), ENGINE), 10.0) == 12.5


def test_where_little_was_seen_anywhere_it_is_better_than_nothing() -> None:
    pace = Pace()
    pace.observe(GROUPS, 10.0, 30.0)
    assert pace.expect_s(("new", MODEL, ENGINE), 1.0) == 3.0


def test_without_an_estimate_what_such_cells_took_is_expected() -> None:
    pace = Pace()
    for took_s in (8.0, 9.0, 30.0):
        pace.observe(GROUPS, None, took_s)
    assert pace.expect_s(GROUPS, None) == 9.0
    assert pace.expect_s(GROUPS, 100.0) == 100.0, "there is no ratio to learn from"


def test_a_total_is_the_sum_of_what_is_expected_of_each() -> None:
    pace = Pace()
    assert pace.total_s(GROUPS, []) == 0.0
    assert pace.total_s(GROUPS, [1.0, None]) is None
    for _ in range(3):
        pace.observe(GROUPS, 10.0, 20.0)
    assert pace.total_s(GROUPS, [1.0, 4.0]) == 10.0
    assert pace.total_s(GROUPS, [1.0, None, None]) == 42.0
