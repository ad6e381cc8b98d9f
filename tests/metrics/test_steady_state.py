"""The steady state of loads on simulated servers whose true rates are known: right on average, for every load
that a server keeps up with and for one that it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.steady_state import short, steady_state, truncation
from orchestrator.metrics.validity import NOTES, status, too_short
from orchestrator.records import Closed, Open, Record
from tests.support.queues import GAP_S, batches, closed, cut, infinite, lengths, poisson, servers
from tests.support.timelines import record

SEEDS = 80
MEAN = 80.0  # tokens an answer: 4 s

Load = Callable[[np.random.Generator], list[Record]]


def bias(load: Load, server: float | None = None) -> tuple[float, float]:
    """How far the mean over all seeds lies from the truth, as a share of it, for tokens and for requests.

    The truth is what was asked for: all tokens and requests up to the last sending over the time until then;
    or so many tokens a second as the ``server`` can give, and as many requests.
    """
    got, true = [], []
    for seed in range(SEEDS):
        records = load(np.random.default_rng([seed, 5]))
        steady = steady_state(Measurement(records))
        token, request = steady["steady_output_token_per_s"], steady["steady_request_per_s"]
        if token is None or request is None:
            continue
        asked_s = max(one.sent_s or 0.0 for one in records)
        asked = [one.output_tokens or 0 for one in records if (one.sent_s or 0.0) < asked_s]
        tokens = sum(asked)
        got.append((token, request))
        if server is None:
            true.append((tokens / asked_s, len(asked) / asked_s))
        else:
            true.append((server, server * len(asked) / tokens))
    assert len(got) > 0.9 * SEEDS
    token, request = np.mean(got, axis=0) / np.mean(true, axis=0) - 1
    return float(token), float(request)


@pytest.mark.slow
@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rate", [2.0, 4.0, 8.0])
def test_poisson_arrivals_on_a_server_without_a_limit(rate: float, cv: float) -> None:
    def load(random: np.random.Generator) -> list[Record]:
        n = round(200 * rate)
        return infinite(poisson(random, rate, n), lengths(random, n, MEAN, cv))

    token, request = bias(load)
    assert abs(token) < 0.02
    assert abs(request) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("used", [0.5, 0.8, 1.4])
def test_poisson_arrivals_on_sixteen_servers(used: float) -> None:
    """At 1.4 of what they can do they give what they can."""
    rate = used * 16 / (MEAN * GAP_S)

    def load(random: np.random.Generator) -> list[Record]:
        return servers(16, poisson(random, rate, 400), lengths(random, 400, MEAN, 0.8))

    token, request = bias(load, 16 / GAP_S if used > 1 else None)
    assert abs(token) < 0.02
    assert abs(request) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [8, 32])
def test_a_closed_load(concurrency: int) -> None:
    def load(random: np.random.Generator) -> list[Record]:
        return closed(concurrency, lengths(random, 20 * concurrency, MEAN, 0.8))

    token, request = bias(load, concurrency / GAP_S)
    assert abs(token) < 0.02
    assert abs(request) < 0.03


@pytest.mark.slow
def test_batches_have_the_rate_of_whole_batches() -> None:
    def load(random: np.random.Generator) -> list[Record]:
        return batches(16, lengths(random, 320, MEAN, 0.5))

    token, request = bias(load)
    assert abs(token) < 0.03
    assert abs(request) < 0.03


def test_a_window_that_cuts_requests_has_no_tail() -> None:
    random = np.random.default_rng(0)
    records = cut(closed(16, lengths(random, 600, MEAN, 0.8)), 60.0)
    got = steady_state(Measurement(records, (), RunConditions(ends_s=60.0)))
    start, length = got["steady_start_s"], got["steady_window_s"]
    assert start is not None
    assert length is not None
    assert start + length == pytest.approx(60.0)
    assert got["steady_output_token_per_s"] == pytest.approx(16 / GAP_S, rel=0.01)


def test_a_load_that_sends_all_at_once_is_rid_of_its_tail() -> None:
    """Sixty-four at once: most answers have 300 tokens, four of them 400."""
    got = steady_state(Measurement(closed(64, np.array([300] * 60 + [400] * 4))))
    window_s = got["steady_window_s"]
    assert window_s is not None
    assert 300 * GAP_S / 2 < window_s < 1.02 * 300 * GAP_S  # of 20 s
    assert got["steady_output_token_per_s"] == pytest.approx(64 / GAP_S, rel=0.01)


def test_the_ramp_of_a_slow_start_is_left_out() -> None:
    """Nothing for 10 s, then a hundred tokens a second."""
    random = np.random.default_rng(0)
    assert truncation(np.concatenate((np.zeros(10), random.normal(100, 5, 90)))) == 10
    assert truncation(np.linspace(0.0, 1.0, 100)) == 50


def one_a_second(count: int, answering_s: float) -> dict[str, float | None]:
    """Each has one token after half a second and another one at its end."""
    records = [record(float(i), [(i + 0.5, 1, 0), (i + 0.5 + answering_s, 1, 0)]) for i in range(count)]
    return steady_state(Measurement(records))


def test_a_ramp_lasts_as_long_as_an_answer() -> None:
    """Sent from 0 to 100 s, answered for 10 s: each second from the tenth on brings two tokens, one end."""
    assert one_a_second(101, 10.0) == {
        "steady_start_s": 10.0,
        "steady_window_s": 90.0,
        "steady_output_token_per_s": 2.0,
        "steady_request_per_s": 1.0,
    }
    assert one_a_second(101, 33.0)["steady_start_s"] == 33.0
    assert one_a_second(101, 33.5)["steady_start_s"] is None, "over a third of the time"
    assert one_a_second(20, 0.25)["steady_window_s"] is not None
    assert one_a_second(19, 0.25)["steady_window_s"] is None


def test_the_ramp_is_one_of_tokens_and_the_window_has_its_end_and_not_its_start() -> None:
    """A chunk a second, of one token until 20 s and of five from then on; sent until 100 s."""
    records = [record(float(i), [(i + 1.0, 1 if i < 20 else 5, 0)]) for i in range(101)]
    assert steady_state(Measurement(records)) == {
        "steady_start_s": 21.0,
        "steady_window_s": 79.0,
        "steady_output_token_per_s": 5.0,
        "steady_request_per_s": 1.0,
    }


@pytest.mark.parametrize(("sent_until", "starts"), [(40, 40.0), (48, 48.0), (60, None)])
def test_a_load_that_sends_in_its_first_half_has_its_level_behind_it(
    sent_until: int, starts: float | None
) -> None:
    """One more begins every other second, and all give a token a second until 100 s."""
    records = [
        record(float(sent), [(t + 0.5, 1, 0) for t in range(sent, 100)], end_s=100.0)
        for sent in range(0, sent_until + 1, 2)
    ]
    found = steady_state(Measurement(records))
    assert found["steady_start_s"] == (None if starts is None else pytest.approx(starts, abs=2.0))
    if starts is not None:
        assert found["steady_window_s"] == pytest.approx(100.0 - starts, abs=2.0)
        assert found["steady_output_token_per_s"] == pytest.approx(len(records), rel=0.03)


def test_answers_that_are_long_beside_the_run_leave_no_steady_state() -> None:
    """A ramp of 8 s in 15."""
    records = infinite(
        poisson(np.random.default_rng(0), 12.0, 180), lengths(np.random.default_rng(0), 180, 2 * MEAN, 0.0)
    )
    assert set(steady_state(Measurement(records)).values()) == {None}


def test_too_few_requests_have_no_steady_state() -> None:
    few = closed(4, np.full(19, 80))
    assert set(steady_state(Measurement(few)).values()) == {None}
    assert set(steady_state(Measurement([record(None, outcome="error")])).values()) == {None}


@pytest.mark.parametrize(
    ("slots", "n", "said"),
    [(1, 19, True), (1, 20, False), (8, 31, True), (8, 40, False), (30, 30, True), (30, 90, True)],
)
def test_a_closed_load_of_few_requests_or_few_for_each_slot_is_short(slots: int, n: int, said: bool) -> None:
    lasting = np.full(n, 80)
    given = RunConditions(schedule=Closed(slots))
    assert short(Measurement(closed(slots, lasting), (), given)) == said


@pytest.mark.parametrize(("rate", "said"), [(6.0, False), (7.0, True), (100.0, True)])
def test_a_load_is_short_where_an_answer_takes_over_a_third_of_it(rate: float, said: bool) -> None:
    """80 arrivals, answers of 4 s: at 6 a second they are 13.2 s, at 7 only 11.3; and all at once."""
    records = infinite([i / rate for i in range(80)], np.full(80, 81))
    assert short(Measurement(records, (), RunConditions(schedule=Open(np.empty(0))))) == said


def test_a_window_that_cuts_is_short_by_its_own_length() -> None:
    for ends_s, said in ((11.0, True), (13.0, False)):
        records = cut(closed(8, np.full(80, 81)), ends_s)
        assert short(Measurement(records, (), RunConditions(schedule=Closed(2), ends_s=ends_s))) == said


def test_what_had_no_answer_is_not_called_short() -> None:
    assert not short(Measurement([]))
    assert not short(Measurement([record(0.0, [(1.0, 1, 0)], outcome="error")]))


def test_what_a_longer_load_would_tell_is_told_beside_the_flags() -> None:
    few = Measurement([record(0.0, [(1.0, 1, 0)])] * 5, (), RunConditions(schedule=Open(np.empty(0))))
    assert too_short(few) == ("behind_unknown", "short")
    assert {*too_short(few)} <= {*NOTES}
    enough = infinite([i / 2 for i in range(400)], np.full(400, 40))
    assert too_short(Measurement(enough, (), few.conditions)) == ()
    assert status(too_short(few), few.records) == ("done", None)


def test_without_counts_per_chunk_the_requests_in_flight_tell() -> None:
    random = np.random.default_rng(1)
    records = infinite(poisson(random, 4.0, 400), lengths(random, 400, MEAN, 0.5))
    final = [replace(one, chunk_tokens=None, chunk_reasoning=None) for one in records]
    got = steady_state(Measurement(final))
    assert got["steady_output_token_per_s"] is None
    assert got["steady_request_per_s"] == pytest.approx(4.0, rel=0.2)
