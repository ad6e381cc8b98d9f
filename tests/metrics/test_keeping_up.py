"""Open loads that a server keeps up with, and others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from orchestrator.load.arrivals import gamma_gaps, ramp_times
from orchestrator.metrics import keeping_up
from orchestrator.metrics.keeping_up import behind, kept_up
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.validity import NOTES, flags
from orchestrator.records import Closed, Open, Record
from tests.support.queues import GAP_S, cut, infinite, lengths, poisson, servers, shared
from tests.support.timelines import record

SEEDS = 220


def opened(records: list[Record], ends_s: float | None = None) -> Measurement:
    return Measurement(records, (), RunConditions(schedule=Open(np.empty(0)), ends_s=ends_s))


def shares(drawn: Callable[[np.random.Generator], Measurement], times: int) -> tuple[float, float]:
    """Of so many measurements, each drawn with another seed: behind, and nobody can tell."""
    found = [behind(drawn(np.random.default_rng([seed, 1]))) for seed in range(times)]
    return found.count(True) / times, found.count(None) / times


def share_behind(drawn: Callable[[np.random.Generator], Measurement], times: int = SEEDS) -> float:
    """Of so many measurements, each drawn with another seed."""
    return shares(drawn, times)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "n", "mean"), [(2.0, 60, 40.0), (4.0, 200, 100.0), (12.0, 300, 400.0)])
def test_a_server_without_a_limit_is_never_behind(rate: float, n: int, mean: float) -> None:
    """The last has answers of 20 s, of which most outlast the arrivals: all of the run is a ramp."""

    def drawn(random: np.random.Generator) -> Measurement:
        return opened(infinite(poisson(random, rate, n), lengths(random, n, mean, 0.8)))

    assert share_behind(drawn) < 0.01


@pytest.mark.slow
def test_nor_is_one_whose_window_cuts_the_requests() -> None:
    def drawn(random: np.random.Generator) -> Measurement:
        records = infinite(poisson(random, 4.0, 300), lengths(random, 300, 100.0, 0.8))
        return opened(cut(records, 40.0), 40.0)

    assert share_behind(drawn) < 0.01


@pytest.mark.slow
def test_nor_is_one_that_is_asked_ever_faster() -> None:
    """A rate that rises from 0 to 8 a second."""

    def drawn(random: np.random.Generator) -> Measurement:
        sent = np.sort(50 * np.sqrt(random.random(200))).tolist()
        return opened(infinite(sent, lengths(random, 200, 100.0, 0.8)))

    assert share_behind(drawn) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 600])
@pytest.mark.parametrize("window", [False, True])
def test_eight_point_seven_served_of_twelve_offered_is_behind(n: int, window: bool) -> None:
    """Twenty at a time, 2.3 s each on average."""
    mean, ends_s = 20 / 8.7 / GAP_S, 0.9 * n / 12.0

    def drawn(random: np.random.Generator) -> Measurement:
        records = servers(20, poisson(random, 12.0, n), lengths(random, n, mean, 0.5))
        return opened(cut(records, ends_s), ends_s) if window else opened(records)

    assert share_behind(drawn, 50) > 0.95


def arrivals(kind: str, random: np.random.Generator, n: int) -> list[float]:
    """12 a second, or from 1 to 14."""
    drawn = {
        "constant": lambda: np.arange(n) / 12,
        "poisson": lambda: np.cumsum(gamma_gaps(n, 12.0, 1.0, random)),
        "gamma": lambda: np.cumsum(gamma_gaps(n, 12.0, 0.5, random)),
        "ramp": lambda: ramp_times(n, 1.0, 14.0, random),
    }[kind]()
    times: list[float] = drawn.tolist()
    return times


@pytest.mark.parametrize("n", [120, 300])
@pytest.mark.parametrize(("capacity", "at_most"), [(50.0, 0.0), (28.0, 0.05)])
def test_a_ramp_that_slows_the_server_is_no_backlog(n: int, capacity: float, at_most: float) -> None:
    """Up to 14 a second: at the end an answer takes 1.4 times or twice as long as alone."""

    def drawn(random: np.random.Generator) -> Measurement:
        return opened(shared(arrivals("ramp", random, n), lengths(random, n, 40.0, 0.5), capacity))

    assert share_behind(drawn, 30) <= at_most


@pytest.mark.parametrize("n", [120, 300])
def test_nor_is_one_that_fills_its_places(n: int) -> None:
    """Up to 14 a second of 15, twenty at a time."""

    def drawn(random: np.random.Generator) -> Measurement:
        return opened(servers(20, arrivals("ramp", random, n), lengths(random, n, 20 / 15 / GAP_S, 0.5)))

    assert share_behind(drawn, 30) == 0


@pytest.mark.parametrize("kind", ["constant", "poisson", "gamma", "ramp"])
@pytest.mark.parametrize("sharing", [False, True])
def test_an_overload_is_seen_whatever_the_arrivals(kind: str, sharing: bool) -> None:
    """300 requests, 6 or (each slowing the others) 8 a second served."""

    def drawn(random: np.random.Generator) -> Measurement:
        sent = arrivals(kind, random, 300)
        if sharing:
            return opened(shared(sent, lengths(random, 300, 40.0, 0.5), 8.0))
        return opened(servers(20, sent, lengths(random, 300, 20 / 6 / GAP_S, 0.5)))

    assert share_behind(drawn, 5) == 1


def test_offered_and_served_stand_side_by_side_and_the_drain_apart() -> None:
    """One a second for ten seconds; each takes twice as long as the gap, one after another."""
    records = [record(float(i), [(2.0 * i + 2.0, 1, 0)]) for i in range(11)]
    assert kept_up(opened(records)) == {
        "offered_request_per_s": 1.0,
        "served_request_per_s": 0.5,
        "drain_s": 12.0,
    }
    closed = Measurement(records, (), RunConditions(schedule=Closed(4)))
    assert set(kept_up(closed).values()) == {None}
    assert set(kept_up(opened([])).values()) == {None}


def lasting(*durations_s: float) -> Measurement:
    """One a second."""
    return opened([record(float(i), [(i + lasted, 1, 0)]) for i, lasted in enumerate(durations_s)])


def test_a_queue_is_seen_from_twenty_requests_on() -> None:
    """Each takes twice as long as the gap, one after another."""
    assert behind(lasting(*(i + 2.0 for i in range(20))))
    assert not behind(lasting(*(i + 2.0 for i in range(19))))
    assert not behind(Measurement(lasting(*(i + 2.0 for i in range(20))).records)), "a closed load waits"


def test_two_long_answers_are_no_queue() -> None:
    assert not behind(lasting(*([0.5] * 38), 25.0, 25.0))
    assert not behind(lasting(*(float(20 - i) for i in range(20)))), "nor are ones that fall"


def queue(ratio: float, n: int, cv: float, slots: int = 20) -> Callable[[np.random.Generator], Measurement]:
    """A server of so many slots that is offered ``ratio`` of the 20 requests a second that it can do."""
    mean = slots / 20 / GAP_S

    def drawn(random: np.random.Generator) -> Measurement:
        return opened(servers(slots, poisson(random, 20 * ratio, n), lengths(random, n, mean, cv)))

    return drawn


@pytest.mark.slow
@pytest.mark.parametrize(("n", "times"), [(60, 100), (300, 60), (2000, 10)])
@pytest.mark.parametrize("cv", [0.0, 1.0])
def test_up_to_nine_tenths_of_its_capacity_a_server_keeps_up(cv: float, n: int, times: int) -> None:
    assert share_behind(queue(0.9, n, cv), times) <= 0.02
    assert share_behind(queue(0.8, n, cv), times // 2) == 0


@pytest.mark.parametrize(("ratio", "n", "at_least"), [(1.1, 1000, 0.6), (1.2, 300, 0.6)])
def test_a_little_above_its_capacity_it_is_seen_to_fall_behind(ratio: float, n: int, at_least: float) -> None:
    """As docs/metrics.md has it."""
    assert share_behind(queue(ratio, n, 0.5), 6000 // n) >= at_least


@pytest.mark.parametrize("ratio", [1.02, 1.1])
@pytest.mark.parametrize("n", [60, 300])
def test_what_is_not_seen_is_told_to_be_unknown(ratio: float, n: int) -> None:
    told, unknown = shares(queue(ratio, n, 0.5), 25)
    assert told + unknown >= 0.75


def test_a_server_with_much_to_spare_is_known_to_keep_up() -> None:
    assert shares(queue(0.5, 300, 0.5), 20) == (0, 0)


@pytest.mark.parametrize(("variance", "n", "grew"), [(1.25, 200, 15.0), (0.5, 60, 4.0), (2.0, 2000, 30.0)])
def test_the_chance_of_a_backlog_is_that_of_simulated_queues(variance: float, n: int, grew: float) -> None:
    """A reflected walk ends as far up as a free one ever came (Lindley)."""
    random = np.random.default_rng(7)
    steps = random.normal(-keeping_up.SPARE, np.sqrt(variance), (4000, n))
    simulated = float((np.cumsum(steps, axis=1).max(axis=1) > grew).mean())
    chance = keeping_up._chance(keeping_up._Backlog(n, grew, grew, variance, variance, 9.0))
    assert 0.9 * simulated < chance < 1.6 * simulated
    assert 0.02 < simulated < 0.5


def test_being_behind_is_told() -> None:
    """One a second; each takes twice as long as the gap, one after another."""
    records = [record(float(i), [(2.0 * i + 2.0, 1, 0)]) for i in range(40)]
    assert behind(opened(records))
    assert "behind" in flags(opened(records))
    assert "behind" in NOTES
    assert not behind(Measurement(records, (), RunConditions(schedule=Closed(4))))
    assert not behind(opened(records[:19]))
