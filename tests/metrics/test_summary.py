"""One small cell, every column worked out by hand.

Four requests on a server that keeps at most two running:

    A  sent 0, tokens at 1 (1 reasoning), 2 (1 reasoning), 3 (2 visible), ends 3
    B  sent 0, tokens at 2 (1 visible), 4 (1 visible), ends 4, cut off by the budget
    C  sent 3, tokens at 4 (1 reasoning), 10 (3 reasoning), ends 10, cut off before it showed anything
    D  sent 4, one token at 5, stream breaks at 6

so in flight: 2 from 0 to 3, 2 to 4, 2 to 6, 1 to 10.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.schema import SloConfig
from orchestrator.metrics import summary
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.records import Grade, Outcome, Record, Sample
from tests.support.timelines import record


def summarize(
    records: Sequence[Record],
    grades: Sequence[Grade] | None,
    samples: Sequence[Sample],
    slo: SloConfig,
    gpus: int,
    gpu_shared: bool | None = None,
) -> dict[str, float | int | None]:
    conditions = RunConditions(gpus=gpus, gpu_shared=gpu_shared)
    return summary.summarize(Measurement(records, samples, conditions), grades, slo)


A = record(0.0, [(1.0, 1, 1), (2.0, 1, 1), (3.0, 2, 0)], item_id="a", scheduled_s=-0.004, cached_tokens=5)
B = record(0.0, [(2.0, 1, 0), (4.0, 1, 0)], item_id="b", finish_reason="length")
C = record(3.0, [(4.0, 1, 1), (10.0, 3, 3)], item_id="c", finish_reason="length")
D = record(4.0, [(5.0, 1, 0)], item_id="d", end_s=6.0, outcome="error")
CELL = [A, B, C, D]
GRADES = [Grade("1", True), Grade("2", True), Grade(None, False), Grade(None, None)]
SLO = SloConfig(ttft_s=1.5, ttfvt_s=5.0, tpot_s=1.0)

BEFORE = Sample(
    -1.0,
    kv_usage=0.0,
    running=0.0,
    waiting=0.0,
    preemptions_total=1.0,
    prefix_queries_tokens_total=100.0,
    prefix_hits_tokens_total=50.0,
    spec_drafts_total=10.0,
    spec_drafted_total=30.0,
    spec_accepted_total=5.0,
    queue_s_total=4.0,
    queue_requests_total=8.0,
    prefill_s_total=1.0,
    gpu_energy_j=(1000.0, 500.0),
)
DURING = Sample(
    5.0,
    kv_usage=0.6,
    running=2.0,
    waiting=0.0,
    engine_cpus=1.5,
    engine_cpu_busiest=0.9,
    engine_cpu_wait=0.25,
    others_cpus=0.6,
    steal_cpus=0.1,
    cpu_pressure=0.4,
    gpu_util=(0.5, 0.7),
    gpu_energy_j=(1600.0, 800.0),
)
AFTER = Sample(
    11.0,
    kv_usage=0.0,
    running=0.0,
    waiting=0.0,
    preemptions_total=3.0,
    prefix_queries_tokens_total=140.0,
    prefix_hits_tokens_total=60.0,
    spec_drafts_total=14.0,
    spec_drafted_total=42.0,
    spec_accepted_total=11.0,
    queue_s_total=5.5,
    queue_requests_total=11.0,
    prefill_s_total=1.75,
    gpu_energy_j=(2200.0, 1100.0),
)
SAMPLES = [BEFORE, DURING, AFTER]


def of(name: str, *values: float) -> dict[str, float | None]:
    """What is told of so few values: a tail would need sixty-four."""
    found = {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values),
        "min": min(values),
        "max": max(values),
        "p50": statistics.median(values),
        **dict.fromkeys(("p90", "p95", "p99", "p999")),
    }
    return {f"{name}_{statistic}": value for statistic, value in found.items()}


def with_failures(name: str, p50: float) -> dict[str, float | None]:
    return {f"{name}_p50_all": p50} | {f"{name}_{p}_all": None for p in ("p90", "p95", "p99", "p999")}


EXPECTED: dict[str, float | int | None] = {
    # of A, B, C; with D infinitely late the median lies between the second and the third of four
    **of("ttft_s", 1, 2, 1), **with_failures("ttft_s", 1.5),
    **of("ttfvt_s", 3, 2, 7), **with_failures("ttfvt_s", 5.0),  # C's is censored
    **of("tpot_s", 2 / 3, 2, 6 / 3), **with_failures("tpot_s", 2.0),
    **of("e2e_s", 3, 4, 7), **with_failures("e2e_s", 5.5),
    **of("thinking_s", 2, 0, 6),
    # reasoning: A (2 − 1) / 1, C (10 − 4) / 3; visible: A has both in one chunk, B (4 − 2) / 1
    **of("tpot_thinking_s", 1, 2), **of("tpot_visible_s", 0, 2),
    **of("itl_s", 1, 0.5, 0.5, 2, 2, 2, 2),  # a token of A, of B, of C
    **of("chunk_gap_s", 1, 1, 2, 6),
    **of("prompt_length", 10, 10, 10), **of("output_length", 4, 2, 4),
    "token_per_s_per_user_mean": (4 / 3 + 2 / 4 + 4 / 7) / 3, "token_per_s_per_user_p50": 4 / 7,
    "ttfvt_censored_share": 1 / 3,
    # lags 0.004, 0, 0, 0: the 99th percentile is 97 % of the way from the third to the fourth
    "send_lag_s_p99": 0.00388,
    "receive_lag_s_p99": None, "receive_lag_s_max": None,  # nobody measured
    "unasked_connections": None,
    # A right, B right but cut off, C wrong: 1 of 3; Wilson's interval with z = 1.959964
    "accuracy": 1 / 3, "accuracy_low": 0.061492, "accuracy_high": 0.792340,
    "pass_at_k": None, "maj_at_k": None,  # one answer each
    "requests_total": 4, "requests_ok": 3, "requests_failed": 1, "requests_cut": 0, "requests_cancelled": 0,
    "error_rate": 0.25, "cancelled_rate": 0.0, "truncated_rate": 2 / 3,
    "truncated_thinking_rate": 1 / 3,  # C never showed anything
    "retries": 0,
    "prompt_tokens": 30, "output_tokens": 10, "thinking_token_share": 0.6, "cached_token_share": 5 / 30,
    "window_s": 10.0, "request_per_s": 0.3, "output_token_per_s": 1.0, "total_token_per_s": 4.0,
    "output_token_per_s_per_gpu": 0.5, "visible_token_per_s": 0.4,
    "peak_output_token_per_s": 3.0,  # C's last chunk
    "in_flight_mean": 1.6,
    "offered_request_per_s": None, "served_request_per_s": None, "drain_s": None,  # of open loads
    # A alone: B's TTFT is 2, C never showed anything
    "goodput_per_s": 0.1, "slo_attainment": 0.25, "slo_undecided": 0,
    # below twenty requests there is neither
    "steady_start_s": None, "steady_window_s": None, "steady_output_token_per_s": None,
    "steady_request_per_s": None,
    "straggler_time_s": None, "straggler_share": None, "straggler_gpu_idle_share": None,
    # linear between samples: 0.1 at 0, 0.6 at 5, 0.1 at 10
    "kv_usage_mean": 0.35, "kv_usage_max": 0.6,
    # 1/3 at 0, 2 at 5, 1/3 at 10
    "running_mean": 7 / 6, "waiting_mean": 0.0,
    "engine_cpus_mean": 1.5, "engine_cpu_busiest_mean": 0.9, "gpu_util_mean": 0.6,
    "engine_cpu_wait_mean": 0.25, "others_cpus_mean": 0.6, "steal_cpus_mean": 0.1, "cpu_pressure_mean": 0.4,
    "queue_s_mean": 0.5, "prefill_s_mean": 0.25,  # of the three that are ok
    "host_taken_share": 0.25 / 1.75, "cache_warm_share": None,
    "gpu_starved_share": 0.0,  # one sample tells, and its GPUs were at work
    "preemptions": 2, "prefix_hit_rate": 0.25, "spec_acceptance_rate": 0.5, "spec_tokens_per_step": 2.5,
    # 100 J/s and 50 J/s throughout, for 10 s
    "energy_j": 1500.0, "joule_per_output_token": 150.0,
    # three requests bound no percentile, and the window is not three answers long
    **{
        f"{name}_{end}": None
        for name in (*("request_per_s", "output_token_per_s", "goodput_per_s"),
                     *(f"{of}_s_{p}" for of in ("ttft", "ttfvt", "tpot", "e2e") for p in ("p50", "p99")))
        for end in ("low", "high")
    },
}  # fmt: skip


def test_every_column_is_what_it_is_by_hand() -> None:
    got = summarize(CELL, GRADES, SAMPLES, SLO, gpus=2)
    assert got.keys() == EXPECTED.keys()
    assert got == {name: pytest.approx(value, abs=1e-6) for name, value in EXPECTED.items()}


def test_counts_are_integers() -> None:
    got = summarize(CELL, GRADES, SAMPLES, SLO, gpus=2)
    whole = {name for name, value in got.items() if isinstance(value, int)}
    assert whole == {
        *("requests_total", "requests_ok", "requests_failed", "requests_cut", "requests_cancelled"),
        *("retries", "slo_undecided", "prompt_tokens", "output_tokens", "preemptions"),
    }


def test_nothing_measured_gives_every_column_and_no_number() -> None:
    got = summarize([], None, [], SLO, gpus=1)
    assert got.keys() == EXPECTED.keys()
    assert {name: value for name, value in got.items() if value is not None} == {
        "requests_total": 0,
        "requests_ok": 0,
        "requests_failed": 0,
        "requests_cut": 0,
        "requests_cancelled": 0,
        "retries": 0,
    }


def test_failures_alone_have_no_rate() -> None:
    got = summarize([D, D], None, SAMPLES, SLO, gpus=1)
    assert got["error_rate"] == 1.0
    assert got["slo_attainment"] == 0.0
    rates = [name for name in got if name.endswith(("_per_s", "_per_gpu"))]
    assert len(rates) == 11
    assert {got[name] for name in [*rates, "ttft_s_mean", "ttft_s_p50_all", "joule_per_output_token"]} == {
        None
    }


def test_a_missing_count_makes_the_rate_unknown_not_smaller() -> None:
    got = summarize([A, replace(B, output_tokens=None)], None, [], SloConfig(), gpus=1)
    assert got["output_token_per_s"] is None
    assert got["thinking_token_share"] is None
    assert got["request_per_s"] == 0.5


def test_missing_chunk_counts_make_the_inter_token_latency_unknown() -> None:
    got = summarize([A, replace(B, chunk_tokens=None, chunk_reasoning=None)], None, [], SloConfig(), gpus=1)
    assert got["itl_s_p50"] is None
    assert got["steady_output_token_per_s"] is None
    assert got["chunk_gap_s_p50"] == 1.0


def test_what_the_client_cancelled_is_no_error_of_the_server() -> None:
    got = summarize([A, replace(D, outcome="cancelled")], None, [], SloConfig(), gpus=1)
    assert got["error_rate"] == 0.0
    assert got["cancelled_rate"] == 0.5
    assert got["e2e_s_p50_all"] is None


def test_a_cpu_has_no_throughput_per_gpu() -> None:
    assert summarize(CELL, None, [], SLO, gpus=0)["output_token_per_s_per_gpu"] is None


def test_without_grades_there_is_no_accuracy() -> None:
    got = summarize(CELL, None, [], SLO, gpus=0)
    assert (got["accuracy"], got["accuracy_low"], got["accuracy_high"]) == (None, None, None)


def test_repeats_give_the_share_of_items_ever_right_and_right_by_majority() -> None:
    # Item a: right, right, wrong (5); item b: wrong (7), wrong (7), right. Both are right once in three, and
    # only a has a right majority.
    answers = [("a", "1", True), ("a", "1", True), ("a", "5", False)]
    answers += [("b", "7", False), ("b", "7", False), ("b", "2", True)]
    records = [
        record(0.0, [(1.0, 1, 0)], item_id=item, repeat=index % 3)
        for index, (item, _, _) in enumerate(answers)
    ]
    got = summarize(records, [Grade(given, right) for _, given, right in answers], [], SLO, gpus=0)
    assert (got["accuracy"], got["pass_at_k"], got["maj_at_k"]) == (0.5, 1.0, 0.5)
    two = [Grade("1", True), Grade("5", False)]
    got = summarize(records[:2], two, [], SLO, gpus=0)
    assert (got["accuracy"], got["pass_at_k"], got["maj_at_k"]) == (0.5, 1.0, 0.5), "a tie counts by share"


def test_the_grader_says_which_wrong_answers_are_one_vote() -> None:
    given = [("5", True, "5"), ("5", True, "5")] + [(text, False, "a") for text in ("a", "b", "c")]
    records = [record(0.0, [(1.0, 1, 0)], item_id="q", repeat=index) for index in range(5)]
    grades = [Grade(text, right, vote) for text, right, vote in given]
    assert summarize(records, grades, [], SLO, gpus=0)["maj_at_k"] == 0.0
    alone = [Grade(text, right, text) for text, right, _ in given]
    assert summarize(records, alone, [], SLO, gpus=0)["maj_at_k"] == 1.0
    apart = [Grade("5", True, "5")] * 2 + [Grade(text, False, text) for text in ("1/2", "0.5", "2/4")]
    assert summarize(records, apart, [], SLO, gpus=0)["maj_at_k"] == 1.0, "the grader told them apart"


def test_a_shared_gpu_has_no_energy() -> None:
    assert summarize(CELL, None, SAMPLES, SLO, gpus=2, gpu_shared=True)["energy_j"] is None


OUTCOMES: list[Outcome] = ["ok", "ok", "ok", "error", "timeout", "cancelled"]
gaps = st.floats(0.001, 5.0)


@st.composite
def any_record(draw: st.DrawFn) -> Record:
    sent = draw(st.floats(0.0, 20.0))
    chunks, time = [], sent
    for gap in draw(st.lists(gaps, max_size=6)):
        time += gap
        tokens = draw(st.integers(1, 4))
        chunks.append((time, tokens, draw(st.integers(0, tokens))))
    outcome: Outcome = draw(st.sampled_from(OUTCOMES)) if chunks else "error"
    cut = outcome == "cancelled" and draw(st.booleans())
    return record(sent, chunks, end_s=time + draw(gaps), outcome=outcome, cut_by_window=cut)


cells = st.lists(any_record(), min_size=1, max_size=12).map(
    lambda records: [replace(one, request_id=f"r{index}") for index, one in enumerate(records)]
)


@given(cells, st.randoms())
def test_the_order_of_requests_changes_nothing(records: list[Record], shuffle: random.Random) -> None:
    shuffled = list(records)
    shuffle.shuffle(shuffled)
    got = summarize(shuffled, None, SAMPLES, SLO, gpus=1)
    assert got == {
        name: pytest.approx(value) for name, value in summarize(records, None, SAMPLES, SLO, gpus=1).items()
    }


@given(cells)
def test_percentiles_ascend_and_counting_failures_only_raises_them(records: list[Record]) -> None:
    got = summarize(records, None, [], SLO, gpus=1)
    for name in ("ttft_s", "ttfvt_s", "tpot_s", "e2e_s", "itl_s", "chunk_gap_s"):
        ascending = [value for q in (50, 90, 95, 99) if (value := got[f"{name}_p{q}"]) is not None]
        assert ascending == sorted(ascending)
        for q in (50, 90, 95, 99):
            ok, late = got[f"{name}_p{q}"], got.get(f"{name}_p{q}_all")
            assert ok is None or late is None or late >= ok - 1e-9


@given(cells)
def test_a_failure_more_never_raises_a_rate(records: list[Record]) -> None:
    failure = record(0.0, [(25.0, 100, 0)], outcome="error")
    before = summarize(records, None, [], SLO, gpus=1)
    after = summarize([*records, failure], None, [], SLO, gpus=1)
    for name in (
        "request_per_s",
        "output_token_per_s",
        "visible_token_per_s",
        "goodput_per_s",
        "slo_attainment",
    ):
        was, now = before[name], after[name]
        assert (was is None and now in (None, 0.0)) or (was is not None and now is not None and now <= was)


@given(cells)
def test_shares_are_shares(records: list[Record]) -> None:
    got = summarize(records, None, [], SLO, gpus=1)
    for name, value in got.items():
        if value is not None and name.endswith(("_share", "_rate", "_attainment")):
            assert -1e-9 <= value <= 1 + 1e-9 or name == "straggler_gpu_idle_share"


@given(cells)
def test_the_steady_state_lies_in_the_window(records: list[Record]) -> None:
    got = summarize(records, None, [], SLO, gpus=1)
    start, length = got["steady_start_s"], got["steady_window_s"]
    if start is not None and length is not None:
        sent = [one.sent_s for one in records if one.sent_s is not None]
        assert start >= min(sent)
        assert start + length <= max(one.end_s for one in records) + 1e-9
