"""The figure of differences, of more comparisons than are drawn."""

from __future__ import annotations

from orchestrator.report.build import find
from orchestrator.report.figures import differences
from orchestrator.report.options import Options
from orchestrator.report.theme import MOST_ROWS, Figure, specification
from tests.report.studies import Planted, runs_of

BASE = Planted(runs=1, items=3)


def drawn(*planted: Planted) -> tuple[Figure, set[str]]:
    """The figure, and whose differences it draws."""
    found = find(runs_of(planted), Options())
    figure = differences(found.lines, found.names)
    assert figure is not None
    whole = specification(figure)
    return figure, {row["label"] for row in whole["datasets"][whole["data"]["name"]]}


def test_of_many_comparisons_those_with_a_significant_difference_are_drawn_and_the_rest_is_said() -> None:
    many = [
        BASE.but(concurrency=at, opt=opt)
        for at in range(1, MOST_ROWS + 2)
        for opt in (("none",), ("kv-fp8",))
    ]
    sure = BASE.but(runs=8, noise=0.001, dataset="zebra")  # last by its name
    figure, labels = drawn(*many, sure, sure.but(opt=("kv-fp8",), tpot_s=0.005))
    assert len(labels) == MOST_ROWS
    assert any("zebra" in label for label in labels)
    assert (
        f"Of {MOST_ROWS + 2} comparisons {MOST_ROWS}, those with a significant difference" in figure.caption
    )
    assert len({row["label"] for row in figure.rows}) == MOST_ROWS + 2
    few, labels = drawn(*many[:4])
    assert len(labels) == 2
    assert "comparisons" not in few.caption
