"""What several runs of one cell say together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from orchestrator.metrics.runs import null_band, over_runs


def test_the_mean_over_runs_has_students_interval() -> None:
    values = [10.0, 11.0, 15.0]
    found = over_runs(values)
    assert found is not None
    low, high = t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / 3**0.5)
    assert (found.mean, found.low, found.high, found.runs) == pytest.approx((12.0, low, high, 3))
    assert found.half == pytest.approx(high - 12.0)


def test_two_runs_have_the_widest_interval() -> None:
    """Student's quantile for one degree of freedom is 12.7062, and the standard error of 1 and 3 is 1."""
    found = over_runs([1.0, 3.0])
    assert found is not None
    assert (found.mean, found.half, found.runs) == pytest.approx((2.0, 12.7062, 2), rel=1e-5)


def test_one_run_has_a_mean_and_no_interval_and_none_has_neither() -> None:
    found = over_runs([4.0])
    assert found is not None
    assert (found.mean, found.low, found.high, found.half, found.runs) == (4.0, None, None, None, 1)
    assert over_runs([]) is None


@pytest.mark.parametrize("each", [1, 3])
def test_the_null_band_holds_95_percent_of_what_mere_repetition_does(each: int) -> None:
    random = np.random.default_rng(each)
    trials, held = 4000, 0
    for _ in range(trials):
        band = null_band(list(random.normal(100, 5, 4)), each)
        assert band is not None
        a, b = random.normal(100, 5, each).mean(), random.normal(100, 5, each).mean()
        held += band.holds(a - b)
    assert 0.935 <= held / trials <= 0.965


def test_the_null_band_needs_two_runs() -> None:
    assert null_band([1.0]) is None
    found = null_band([1.0, 3.0])
    assert found is not None
    assert (found.runs, found.mean, found.sd) == pytest.approx((2, 2.0, 2**0.5))
    assert found.half_width == pytest.approx(t.ppf(0.975, 1) * 2)
    with pytest.raises(ValueError, match="each=0"):
        null_band([1.0, 2.0], 0)
