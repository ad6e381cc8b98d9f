"""Hand-written answers of each kind that is easily graded wrongly: a wrong accept is worse than a refusal."""

from __future__ import annotations

import pytest

from benchmarks.grading.cases import CASES, count, graded, read

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CASES)
def test_no_wrong_answer_is_accepted_and_no_right_one_refused(name: str) -> None:
    results = graded(read(CASES[name]))
    counts = count(results)
    misses = [(c.kind, c.response[-80:], g) for c, g in results if bool(g.correct) != c.expected]
    assert counts.wrong >= 200
    assert counts.right >= 180
    assert not misses


def test_at_least_half_of_them_are_wrong() -> None:
    cases = [case for path in CASES.values() for case in read(path)]
    assert len(cases) >= 1_400
    assert 2 * sum(not case.expected for case in cases) >= len(cases)
