from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from orchestrator.config.schema import LoadConfig
from orchestrator.errors import ConfigError
from orchestrator.load.arrivals import Batch, Closed, Open, draw, gamma_gaps

RATE, N = 20.0, 20_000


def times(load: LoadConfig, n: int = N, seed: int = 1) -> NDArray[np.float64]:
    schedule = draw(load, n, seed)
    assert isinstance(schedule, Open)
    assert schedule.times_s.shape == (n,)
    assert (np.diff(schedule.times_s) >= 0).all()
    return schedule.times_s


def gaps(load: LoadConfig) -> NDArray[np.float64]:
    return np.diff(times(load), prepend=0.0)


def gamma(burstiness: float, normalize: bool = False) -> LoadConfig:
    return LoadConfig(kind="gamma", rate=RATE, burstiness=burstiness, normalize=normalize)


def test_closed_and_batch_carry_their_size() -> None:
    assert draw(LoadConfig(kind="closed", concurrency=8), 100, 0) == Closed(8)
    assert draw(LoadConfig(kind="batch", batch_size=16), 100, 0) == Batch(16)


def test_constant_gaps_are_all_one_over_the_rate() -> None:
    assert gaps(LoadConfig(kind="constant", rate=RATE)) == pytest.approx(np.full(N, 1 / RATE))


def test_poisson_gaps_are_exponential() -> None:
    drawn = gaps(LoadConfig(kind="poisson", rate=RATE))
    assert stats.kstest(drawn, "expon", args=(0, 1 / RATE)).pvalue > 0.01


def test_poisson_counts_have_an_index_of_dispersion_of_one() -> None:
    arrivals = times(LoadConfig(kind="poisson", rate=RATE))
    counts, _ = np.histogram(arrivals, bins=np.arange(0.0, arrivals[-1], 1.0))
    # The index of n windows of a Poisson process is chi-squared with n - 1 degrees over n - 1.
    statistic = counts.var(ddof=1) / counts.mean() * (len(counts) - 1)
    assert 0.005 < stats.chi2.cdf(statistic, len(counts) - 1) < 0.995


@pytest.mark.parametrize("burstiness", [0.1, 0.5, 1.0, 4.0])
def test_gamma_gaps_have_the_asked_distribution_rate_and_variation(burstiness: float) -> None:
    # Not from the times: their rounding at 1,000 s swallows the shortest of very bursty gaps.
    drawn = gamma_gaps(N, RATE, burstiness, np.random.default_rng(1))
    asked = stats.gamma(burstiness, scale=1 / (RATE * burstiness))
    assert stats.kstest(drawn, asked.cdf).pvalue > 0.01
    standard_error = (burstiness * N) ** -0.5
    assert 1 / drawn.mean() == pytest.approx(RATE, rel=4 * standard_error)
    assert drawn.std() / drawn.mean() == pytest.approx(burstiness**-0.5, rel=0.08)


def test_low_burstiness_bursts_and_high_burstiness_smooths() -> None:
    def dispersion(load: LoadConfig) -> float:
        arrivals = times(load)
        counts, _ = np.histogram(arrivals, bins=np.arange(0.0, arrivals[-1], 1.0))
        return float(counts.var(ddof=1) / counts.mean())

    assert dispersion(gamma(0.25)) > 2
    assert dispersion(gamma(4.0)) < 0.5


@given(burstiness=st.floats(0.05, 20), seed=st.integers(0, 2**32), n=st.integers(1, 500))
def test_normalized_requests_take_exactly_n_over_the_rate(burstiness: float, seed: int, n: int) -> None:
    assert times(gamma(burstiness, normalize=True), n, seed)[-1] == pytest.approx(n / RATE)


def test_a_ramp_has_the_asked_rate_at_every_moment() -> None:
    arrivals = times(LoadConfig(kind="ramp", rate_start=5.0, rate=45.0))
    total_s = 2 * N / 50

    def expected(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return (5 * t + 40 * t**2 / (2 * total_s)) / N

    assert arrivals[-1] <= total_s
    assert stats.kstest(arrivals, expected).pvalue > 0.01


@pytest.mark.parametrize(("start", "end"), [(0.0, 10.0), (10.0, 1e-9), (7.0, 7.0)])
def test_a_ramp_may_start_at_nothing_go_down_or_stay(start: float, end: float) -> None:
    arrivals = times(LoadConfig(kind="ramp", rate_start=start, rate=end), 1000)
    assert np.isfinite(arrivals).all()
    assert arrivals[-1] <= 2000 / (start + end) * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["constant", "poisson", "gamma", "ramp"])
def test_the_seed_alone_decides(kind: str) -> None:
    load = LoadConfig(kind=kind, rate=RATE, burstiness=0.5, rate_start=1.0)
    assert (times(load, 50, 3) == times(load, 50, 3)).all()
    if kind != "constant":
        assert (times(load, 50, 3) != times(load, 50, 4)).any()


@pytest.mark.parametrize(
    ("load", "key"),
    [
        (LoadConfig(kind="closed"), "load.concurrency=None"),
        (LoadConfig(kind="batch", batch_size=0), "load.batch_size=0"),
        (LoadConfig(kind="poisson"), "load.rate=None"),
        (LoadConfig(kind="constant", rate=-1.0), "load.rate=-1.0"),
        (LoadConfig(kind="poisson", rate=float("inf")), "load.rate=inf"),
        (LoadConfig(kind="poisson", rate=float("nan")), "load.rate=nan"),
        (LoadConfig(kind="gamma", rate=1.0), "load.burstiness=None"),
        (LoadConfig(kind="trace"), "load.path=None"),
        (LoadConfig(kind="ramp", rate=1.0, rate_start=-1.0), "load.rate_start=-1.0"),
        (LoadConfig(kind="sawtooth", rate=1.0), "load.kind=sawtooth"),
    ],
)
def test_a_missing_or_senseless_key_is_refused_by_its_name(load: LoadConfig, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        draw(load, 10, 0)
    assert str(caught.value).startswith(key)
