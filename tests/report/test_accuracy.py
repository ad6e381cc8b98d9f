"""Accuracies that cannot be what they seem are flagged."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.report.accuracy import AccuracyRow, accuracy_rows, remark
from orchestrator.report.requests import Requests
from orchestrator.report.variants import sort_out
from tests.report.studies import Planted, runs_of


def row(planted: Planted) -> AccuracyRow:
    (found,) = accuracy_rows(sort_out(runs_of([planted]))[0])
    return found


@pytest.mark.parametrize(
    ("dataset", "accuracy", "flags"),
    [
        ("gpqa-diamond", 0.15, ("below_chance", "far_from_reference")),  # what the paper reports
        ("gpqa-diamond", 0.33, ("far_from_reference",)),
        ("gpqa-diamond", 0.49, ()),
        ("math500", 0.64, ("far_from_reference",)),
        ("math500", 0.92, ()),
        ("gsm8k", 0.01, ()),  # no options, and nothing published
    ],
)
def test_flags(dataset: str, accuracy: float, flags: tuple[str, ...]) -> None:
    planted = Planted(dataset=dataset, runs=1, items=400, changes=(("accuracy", accuracy),))
    assert row(planted).flags == flags


def test_the_remark_names_chance_card_and_cut_off_answers() -> None:
    changes = (("accuracy", 0.15), ("truncated_rate", 0.6))
    said = remark(row(Planted(dataset="gpqa-diamond", runs=1, changes=changes)))
    assert "below the 25 % of guessing" in said
    assert "34 points under the card's 49.1 %" in said
    assert "60 % of the answers were cut off" in said


def test_repetition_has_its_band_from_two_runs_on() -> None:
    assert row(Planted(runs=1)).band is None
    band = row(Planted(runs=5)).band
    assert band is not None
    assert band.half_width > 0


def test_a_cut_off_answer_is_wrong_and_an_unread_one_is_counted() -> None:
    columns: dict[str, list[Any]] = {
        "item_id": ["a", "b", "c", "d"],
        "outcome": ["ok"] * 4,
        "finish_reason": ["stop", "length", "stop", "stop"],
        "predicted": ["1", "1", None, "2"],
        "correct": [True, True, False, None],
    }
    requests = Requests(columns)
    assert requests.graded() == (["a", "b", "c"], [True, False, False])
    assert requests.ungradable_share() == pytest.approx(1 / 3)
