"""A load with a duration cuts what is running at its end: the numbers are those of the server, not of the
answers that were short enough.

The server gives 800 tokens a second (forty requests at a time, twenty tokens a second each). Its answers
take 10 s on average and one in nine lasts longer than the shorter window of 15 s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.summary import summarize
from orchestrator.metrics.throughput import error_rate
from orchestrator.metrics.validity import status
from orchestrator.records import Record
from tests.support.queues import GAP_S, closed, cut, lengths
from tests.support.timelines import record

pytestmark = pytest.mark.slow

TRUE = 800.0
MEAN, CV, SLOTS = 200.0, 0.8, 40


def measured(seed: int, window_s: float, **slo: float) -> dict[str, float | int | None]:
    random = np.random.default_rng(seed)
    records = cut(closed(SLOTS, lengths(random, 400, MEAN, CV)), window_s)
    return summarize(Measurement(records, (), RunConditions(ends_s=window_s)), None, SloConfig(**slo))


def mean_of(rows: Sequence[dict[str, float | int | None]], column: str) -> float:
    found = [row[column] for row in rows]
    assert None not in found, f"{column} is unknown"
    return float(np.mean([value for value in found if value is not None]))


@pytest.mark.parametrize("window_s", [15.0, 30.0])
def test_throughput_is_the_servers_whatever_the_window(window_s: float) -> None:
    for seed in range(5):
        got = measured(seed, window_s)
        assert got["window_s"] == window_s
        assert got["output_token_per_s"] == pytest.approx(TRUE, rel=0.02)
        assert got["visible_token_per_s"] == pytest.approx(TRUE, rel=0.02)
        assert got["peak_output_token_per_s"] == pytest.approx(TRUE, rel=1.5 * GAP_S)  # a step more or less


@pytest.mark.parametrize("window_s", [15.0, 30.0])
def test_latencies_are_those_of_all_answers(window_s: float) -> None:
    """Means over fifty seeds, of which each has about forty requests at a time."""
    rows = [measured(seed, window_s) for seed in range(30)]
    every = GAP_S * lengths(np.random.default_rng(0), 1_000_000, MEAN, CV)
    assert mean_of(rows, "e2e_s_p50") == pytest.approx(float(np.median(every)), rel=0.04)
    assert mean_of(rows, "e2e_s_p50_all") == pytest.approx(float(np.median(every)), rel=0.04)
    assert mean_of(rows, "output_length_p50") == pytest.approx(float(np.median(every)) / GAP_S, rel=0.04)
    assert mean_of(rows, "ttft_s_mean") == pytest.approx(GAP_S)
    assert mean_of(rows, "tpot_s_mean") == pytest.approx(GAP_S)
    assert mean_of(rows, "token_per_s_per_user_p50") == pytest.approx(1 / GAP_S, rel=0.02)


def test_the_ninetieth_percentile_is_right_or_absent() -> None:
    """It is at 18.8 s, beyond the shorter window."""
    every = GAP_S * lengths(np.random.default_rng(0), 1_000_000, MEAN, CV)
    true = float(np.quantile(every, 0.9))
    assert true > 15.0
    assert {measured(seed, 15.0)["e2e_s_p90"] for seed in range(20)} == {None}
    longer = [measured(seed, 40.0)["e2e_s_p90"] for seed in range(30)]
    known = [value for value in longer if value is not None]
    assert len(known) > 25
    assert float(np.mean(known)) == pytest.approx(true, rel=0.05)


def test_a_limit_is_held_by_as_many_as_without_the_window() -> None:
    """The attainment of a limit that half of the answers hold, each decided at 8 s after it was sent."""
    rows = [measured(seed, 40.0, e2e_s=8.0) for seed in range(30)]
    every = GAP_S * lengths(np.random.default_rng(0), 1_000_000, MEAN, CV)
    assert mean_of(rows, "slo_attainment") == pytest.approx(float(np.mean(every <= 8.0)), abs=0.06)
    for row in rows:
        undecided, running = row["slo_undecided"], row["requests_cut"]
        assert undecided is not None
        assert running is not None
        assert 0 < undecided < running <= SLOTS


CUT = record(
    0.0, [(1.0, 3, 3), (2.5, 2, 0)], end_s=2.004, outcome="cancelled", cut_by_window=True, prompt_tokens=7
)
WHOLE = record(0.0, [(0.5, 4, 1)], prompt_tokens=5)


def summary(*records: Record, ends_s: float = 2.0) -> dict[str, float | int | None]:
    return summarize(Measurement(records, (), RunConditions(ends_s=ends_s)), None, SloConfig())


def test_a_cut_is_no_failure() -> None:
    got = summary(WHOLE, CUT)
    assert (got["requests_ok"], got["requests_cut"], got["requests_failed"], got["requests_cancelled"]) == (
        *(1, 1, 0, 0),
    )
    assert error_rate([WHOLE, CUT]) == 0.0
    assert (got["ttft_s_p50"], got["ttft_s_p50_all"]) == (0.75, 0.75)  # both first tokens came
    assert got["e2e_s_p50_all"] == 0.5  # at least half lasted that long; the other is unknown
    assert got["e2e_s_mean"] is None
    assert got["slo_attainment"] == 1.0


def test_tokens_count_that_came_inside_the_window_and_the_prompts_they_belong_to() -> None:
    """The second chunk of the cut request came between the end of the window and the cut."""
    got = summary(WHOLE, CUT)
    assert (got["output_tokens"], got["prompt_tokens"]) == (7, 12)
    assert got["output_token_per_s"] == 3.5
    assert got["visible_token_per_s"] == 1.5
    waiting = record(1.0, [], end_s=2.0, outcome="cancelled", cut_by_window=True, prompt_tokens=None)
    assert summary(WHOLE, CUT, waiting)["total_token_per_s"] == (7 + 12) / 2


def test_without_counts_per_chunk_the_tokens_of_a_cut_request_are_unknown() -> None:
    assert summary(WHOLE, replace(CUT, chunk_tokens=None, output_tokens=None))["output_token_per_s"] is None


def test_a_window_shorter_than_every_answer_is_a_measurement_all_the_same() -> None:
    assert summary(CUT)["output_token_per_s"] == 1.5
    assert status((), [CUT]) == ("done", None)
    silent = record(0.0, [], end_s=2.0, outcome="cancelled", cut_by_window=True)
    assert status((), [silent])[0] == "failed"


def test_what_the_client_cancelled_otherwise_is_as_late_as_a_failure() -> None:
    stopped = replace(CUT, cut_by_window=False)
    got = summarize(Measurement([WHOLE, stopped]), None, SloConfig())
    assert (got["requests_cut"], got["requests_cancelled"]) == (0, 1)
    assert got["ttft_s_p50_all"] is None
    assert got["output_tokens"] == 4
