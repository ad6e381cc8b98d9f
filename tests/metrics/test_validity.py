from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from orchestrator.metrics import validity
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.validity import NOTES, status
from orchestrator.records import Closed, Open, Record, Sample
from tests.support.timelines import record


def sent(at: float, scheduled: float | None = None, **changes: Any) -> Record:
    return record(at, [(at + 1.0, 10, 0)], scheduled_s=at if scheduled is None else scheduled, **changes)


def sampled(until_s: float, tokens: float, **values: float) -> list[Sample]:
    """Four a second from just before 0 to just after ``until_s``; the token counter rises in the end."""
    times = np.linspace(-0.1, until_s + 0.1, int(4 * until_s) + 2)
    return [
        Sample(
            float(t),
            kv_usage=0.5,
            running=1.0,
            waiting=values.get("waiting", 0.0),
            generation_tokens_total=100.0 + (tokens if t > until_s else 0.0),
        )
        for t in times
    ]


@dataclass(frozen=True)
class Given(RunConditions):
    """Conditions with the samples that belong to them."""

    telemetry: Sequence[Sample] = ()


def flags(records: Sequence[Record], given: Given) -> tuple[str, ...]:
    return validity.flags(Measurement(records, given.telemetry, given))


RECORDS = [sent(0.0), sent(0.1), sent(0.2), sent(0.3)]
GOOD = Given(schedule=Closed(4), telemetry=sampled(1.3, 40.0), cache_reset=True)
OPEN = replace(GOOD, schedule=Open(np.array([0.0, 0.1, 0.2, 0.3])))


def test_a_sound_measurement_has_no_flag() -> None:
    assert flags(RECORDS, GOOD) == ()
    assert flags(RECORDS, OPEN) == ()
    assert status((), RECORDS) == ("done", None)


@pytest.mark.parametrize(("failed", "raised"), [(10, ()), (11, ("errors",))])
def test_errors_above_one_per_cent_of_the_requests(failed: int, raised: tuple[str, ...]) -> None:
    records = [*[sent(0.0)] * (1000 - failed), *[sent(0.0, outcome="timeout")] * failed]
    assert flags(records, replace(GOOD, telemetry=sampled(1.0, 10000.0))) == raised


def test_what_the_client_cancelled_is_no_error() -> None:
    records = [*RECORDS, sent(0.3, outcome="cancelled")]
    assert flags(records, replace(GOOD, telemetry=sampled(1.3, 55.0))) == ()


@pytest.mark.parametrize(("lag_s", "raised"), [(0.0049, ()), (0.0051, ("client_lag",))])
def test_client_lag_above_five_milliseconds(lag_s: float, raised: tuple[str, ...]) -> None:
    assert flags([sent(r.scheduled_s + lag_s, r.scheduled_s) for r in RECORDS], GOOD) == raised


@pytest.mark.parametrize(("lag_s", "raised"), [(0.0009, ()), (0.0011, ("client_lag",))])
def test_client_lag_above_a_tenth_of_the_gap_of_an_open_load(lag_s: float, raised: tuple[str, ...]) -> None:
    records = [sent(i / 100 + lag_s, i / 100) for i in range(100)]
    assert flags(records, replace(OPEN, telemetry=sampled(2.0, 1000.0))) == raised


@pytest.mark.parametrize(
    ("lag_s", "raised"),
    [
        ((0.0049, 0.09), ()),
        ((0.0051, 0.09), ("client_stalled",)),
        ((0.0001, 0.11), ("client_stalled",)),
    ],
)
def test_a_client_that_read_late_or_stood_still(lag_s: tuple[float, float], raised: tuple[str, ...]) -> None:
    given = replace(GOOD, receive_lag_s_p99=lag_s[0], receive_lag_s_max=lag_s[1])
    assert flags(RECORDS, given) == raised
    assert status(raised, RECORDS)[0] == ("invalid" if raised else "done")
    assert status(raised, RECORDS, simulated=True)[0] == "done"


def test_an_open_load_sent_too_slowly_is_under_rate() -> None:
    records = [sent(i * 0.11, i * 0.1) for i in range(20)]
    telemetry = sampled(records[-1].end_s, 200.0)
    assert flags(records, replace(OPEN, telemetry=telemetry)) == ("client_lag", "under_rate")
    saturated = sampled(records[-1].end_s, 200.0, waiting=3.0)
    assert flags(records, replace(OPEN, telemetry=saturated)) == ("client_lag",)
    assert flags(records, replace(GOOD, telemetry=telemetry)) == ("client_lag",)


@pytest.mark.parametrize(("starved", "raised"), [(1, ()), (2, ("gpu_starved",))])
def test_a_gpu_that_waits_for_the_engine_is_told_and_counts(starved: int, raised: tuple[str, ...]) -> None:
    records = [sent(0.0, end_s=2.4)]
    first, *inside, last = sampled(2.4, 10.0)
    assert len(inside) == 9
    inside = [
        replace(one, engine_cpu_busiest=0.97, gpu_util=(0.0 if number < starved else 1.0,))
        for number, one in enumerate([*inside, inside[-1]])
    ]
    assert flags(records, replace(GOOD, telemetry=[first, *inside, last])) == raised
    assert status(raised, records) == ("done", None)


UNSOUND = ("late", "ahead", "per_chunk", "contradictory")


@pytest.mark.parametrize("mode", [*UNSOUND, "continuous", "final", None])
def test_counts_that_contradict_the_text_are_told_and_count(mode: str | None) -> None:
    raised = flags([*RECORDS[:3], replace(RECORDS[3], usage_mode=mode)], GOOD)
    assert raised == (("counts_unsound",) if mode in UNSOUND else ())
    assert status(raised, RECORDS) == ("done", None)


@pytest.mark.parametrize("mode", ["final", "none"])
def test_an_ok_request_without_a_count_is_told(mode: str) -> None:
    uncounted = replace(RECORDS[3], usage_mode=mode, output_tokens=None, reasoning_tokens=None)
    assert flags([*RECORDS[:3], uncounted], GOOD) == ("counts_absent",)
    assert flags([*RECORDS[:3], replace(uncounted, outcome="cancelled")], GOOD) == ()


def test_an_ok_request_without_a_count_of_its_reasoning_is_told() -> None:
    uncounted = replace(RECORDS[3], reasoning_tokens=None)
    assert flags([*RECORDS[:3], uncounted], GOOD) == ("reasoning_uncounted",)
    assert flags([*RECORDS[:3], replace(uncounted, outcome="cancelled")], GOOD) == ()
    assert status(("reasoning_uncounted",), RECORDS) == ("done", None)


def test_a_reasoning_model_that_shows_none_is_told_and_how_to_name_its_tags() -> None:
    def raised(*found: str | None, **changes: Any) -> tuple[str, ...]:
        records = [replace(one, reasoning_from=each) for one, each in zip(RECORDS, found, strict=True)]
        return flags(records, replace(GOOD, **changes))

    none, older = ("none",) * 4, (None,) * 4
    assert raised(*none, reasons=True) == ("reasoning_absent",)
    assert raised(*none) == ()
    assert raised("tags", *none[1:], reasons=True) == ()
    assert raised(*older, reasons=True) == ()
    assert raised(*none, reasons=True, asked_tokens={}) == ()  # weights that say nothing
    assert "model.think_tags" in NOTES["reasoning_absent"]


def neighboured(others: float, waited: float, **values: float) -> list[Sample]:
    crowd: dict[str, Any] = {"engine_cpus": 1.0, "others_cpus": others, "engine_cpu_wait": waited}
    return [replace(one, **crowd | values) for one in sampled(1.3, 40.0)]


@pytest.mark.parametrize(
    ("others", "waited", "values", "raised"),
    [
        (1.0, 1.5, {}, True),  # two busy loops beside an engine on two cores
        (0.05, 0.05, {}, False),
        (0.06, 0.06, {}, True),
        (0.02, 3.0, {}, False),  # its own threads wait for one another
        (12.0, 0.02, {}, False),  # neighbours on CPUs that it leaves idle
        (0.0, 1.0, {"steal_cpus": 0.5}, True),  # the hypervisor's other guests
        (-0.01, 0.3, {}, False),
    ],
)
def test_others_that_took_the_cpus_that_the_engine_waited_for(
    others: float, waited: float, values: dict[str, float], raised: bool
) -> None:
    given = replace(GOOD, telemetry=neighboured(others, waited, **values))
    assert flags(RECORDS, given) == (("host_busy",) if raised else ())
    assert status(flags(RECORDS, given), RECORDS)[0] == ("invalid" if raised else "done")
    assert status(flags(RECORDS, given), RECORDS, simulated=True)[0] == "done"


@pytest.mark.parametrize("unknown", ["engine_cpus", "others_cpus", "engine_cpu_wait"])
def test_a_host_that_does_not_tell_is_not_called_busy(unknown: str) -> None:
    nothing: dict[str, Any] = {unknown: None}
    telemetry = [replace(one, **nothing) for one in neighboured(1.0, 1.5)]
    assert flags(RECORDS, replace(GOOD, telemetry=telemetry)) == ()


def test_a_forced_length_is_kept_to_the_token() -> None:
    asked = {record.request_id: 10 for record in RECORDS}
    assert flags(RECORDS, replace(GOOD, asked_tokens=asked)) == ()
    assert flags(RECORDS, replace(GOOD, asked_tokens=asked | {RECORDS[-1].request_id: 11})) == (
        "length_missed",
    )
    failed = [*RECORDS[:-1], replace(RECORDS[-1], outcome="timeout", output_tokens=3)]
    assert "length_missed" not in flags(failed, replace(GOOD, asked_tokens=asked))


def test_the_engine_the_cache_and_the_gpu() -> None:
    assert flags(RECORDS, replace(GOOD, engine_restarted=True)) == ("engine_restarted",)
    assert flags(RECORDS, replace(GOOD, cache_reset=False)) == ("cache_warm",)
    assert flags(RECORDS, replace(GOOD, cache_reset=None)) == ("cache_warm",)
    assert flags(RECORDS, replace(GOOD, gpu_shared=True)) == ("gpu_shared",)
    assert flags(RECORDS, replace(GOOD, gpu_shared=None)) == ()
    assert flags(RECORDS, replace(GOOD, gpu_shared=False, gpu_watched=True)) == ()
    unknown = flags(RECORDS, replace(GOOD, gpu_shared=None, gpu_watched=True))
    assert unknown == ("gpu_share_unknown",)
    assert status(unknown, RECORDS) == ("done", None)


@pytest.mark.parametrize(
    ("counted", "raised"),
    [(9990.0, ()), (10010.0, ()), (9980.0, ("token_mismatch",)), (10020.0, ("token_mismatch",))],
)
def test_token_counts_that_differ_by_over_a_thousandth(counted: float, raised: tuple[str, ...]) -> None:
    assert flags([sent(0.0)] * 1000, replace(GOOD, telemetry=sampled(1.0, counted))) == raised


def test_after_a_failure_the_server_may_have_counted_more_than_it_sent_but_not_less() -> None:
    records = [*[sent(0.0)] * 999, sent(0.0, outcome="timeout")]
    assert flags(records, replace(GOOD, telemetry=sampled(1.0, 10500.0))) == ()
    assert flags(records, replace(GOOD, telemetry=sampled(1.0, 9900.0))) == ("token_mismatch",)


def test_telemetry_that_is_missing_or_has_a_hole() -> None:
    long = [sent(0.0), sent(19.0)]
    whole = sampled(20.0, 20.0)
    assert flags(long, replace(GOOD, telemetry=whole)) == ()
    assert flags(long, replace(GOOD, telemetry=())) == ("telemetry_missing",)
    assert flags(long, replace(GOOD, telemetry=whole[:-1])) == ("telemetry_missing",)
    assert flags(long, replace(GOOD, telemetry=whole[:40] + whole[48:])) == ("telemetry_missing",)
    assert flags(long, replace(GOOD, telemetry=whole[:40] + whole[42:])) == ()
    for without, raised in ((range(20, 23), ()), (range(20, 24), ("telemetry_missing",))):
        holed = [one for number, one in enumerate(whole) if number not in without]
        gap_s = holed[20].t_s - holed[19].t_s
        assert flags(long, replace(GOOD, telemetry=holed)) == raised, gap_s
    unread = [replace(sample, kv_usage=None) for sample in whole]
    assert flags(long, replace(GOOD, telemetry=unread)) == ("telemetry_missing",)


def test_a_gpus_counters_are_expected_all_through_the_window_as_well() -> None:
    long = [sent(0.0), sent(19.0)]
    whole = [replace(sample, gpu_util=(0.9, 0.8)) for sample in sampled(20.0, 20.0)]
    watched = replace(GOOD, telemetry=whole, expected=(*GOOD.expected, "gpu_util"))
    assert flags(long, watched) == ()
    unread = [replace(sample, gpu_util=None) for sample in whole[:20]] + whole[20:]
    assert flags(long, replace(watched, telemetry=unread)) == ("telemetry_missing",)


def test_an_external_server_that_cannot_be_asked_is_named_and_stays_valid() -> None:
    external = replace(GOOD, external=True, cache_reset=None, telemetry=())
    raised = flags(RECORDS, external)
    assert raised == ("cache_unknown", "telemetry_absent")
    assert status(raised, RECORDS) == ("done", None)
    assert flags(RECORDS, replace(external, expected=())) == raised
    assert flags(RECORDS, replace(external, cache_reset=False)) == ("cache_warm", "telemetry_absent")


def test_a_flag_makes_the_cell_invalid_and_says_why() -> None:
    outcome, reason = status(("errors", "gpu_shared", "cache_unknown"), RECORDS)
    assert outcome == "invalid"
    assert reason == "over 1 % of the requests failed; another process used the GPU"


def test_failed_requests_say_with_what() -> None:
    busy = record(0.0, outcome="error", error=None, http_status=503)
    lost = record(0.0, outcome="error", error="connection closed", http_status=None)
    _, reason = status(("errors", "gpu_shared"), [*RECORDS, busy, lost, busy])
    assert reason == "over 1 % of the requests failed (most often: HTTP 503); another process used the GPU"


def test_nothing_ok_is_a_failed_cell_with_the_usual_error() -> None:
    refused = record(None, outcome="error", error="connection refused", http_status=None)
    busy = record(0.0, outcome="error", error=None, http_status=503)
    assert status(("errors",), [refused, refused, busy, replace(refused, outcome="timeout")]) == (
        "failed",
        "none of 4 requests succeeded: 3 error, 1 timeout; most often: connection refused",
    )
    assert status((), []) == ("failed", "no request was made")
