"""docs/metrics.md names every column and flag, and the thresholds that it states are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.metrics import engine, keeping_up, stats, steady_state, stragglers, validity
from orchestrator.metrics.validity import INVALIDATING_FLAGS, NOTES
from orchestrator.store.schema import METRIC_COLUMNS

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
NAMES = [name.replace("*", r"\w+") for name in re.findall(r"`([a-z_*0-9]+)`", PAGE)]


def percent(share: float) -> str:
    return f"{100 * share:g} %"


STATED = {
    "`errors`": [percent(validity.MAX_ERROR_RATE)],
    "`client_lag`": [f"{1000 * validity.MAX_SEND_LAG_S:g} ms", percent(validity.MAX_SEND_LAG_OF_GAP)],
    "`client_stalled`": [f"{1000 * validity.MAX_RECEIVE_LAG_S:g} ms", f"{validity.MAX_STANDSTILL_S:g} s"],
    "`under_rate`": [percent(keeping_up.MIN_OF_ASKED_RATE)],
    "`cache_warm`": [percent(validity.MAX_WARM_SHARE)],
    "`host_busy`": [percent(validity.MAX_HOST_TAKEN_SHARE)],
    "`token_mismatch`": [percent(validity.MAX_TOKEN_MISMATCH)],
    "`telemetry_missing`": [percent(validity.MAX_HOLE_SHARE), f"{validity.HOLE_S:g} s"],
    "`gpu_starved`": [percent(validity.MAX_STARVED_SHARE)],
    "`gpu_starved_share`": [percent(engine.IDLE_UTIL), percent(engine.BUSY_CPUS)],
    "The backlog grew": [
        percent(keeping_up.SPARE),
        percent(keeping_up.MAX_CHANCE),
        percent(keeping_up.MIN_GROWTH),
        percent(keeping_up.MAX_RISE_GROWTH),
    ],
    "Requests lasted the longer": [percent(keeping_up.MAX_SLOPE_CHANCE)],
    "`behind_unknown` says": [
        f"{keeping_up.MAX_RANGE} standard deviations",
        percent(keeping_up.MIN_RANGE),
        f"fewer than {keeping_up.FEWEST} requests",
    ],
    "`short` says": [
        f"below {steady_state.FEWEST} requests",
        f"{steady_state.ENDED} %",
        f"fewer than {steady_state.MIN_PER_SLOT}",
    ],
    "`straggler_time_s`": [f"{stragglers.ENDED} %"],
    "Stragglers": [f"below {stragglers.FEWEST} attempted"],
    "MSER": [
        f"{steady_state.BATCHES} batches",
        f"{steady_state.FEWEST} requests",
        f"{steady_state.ENDED} %",
    ],
    "A percentile is null": [percent(stats.CONFIDENCE), f"{1 - stats.CONFIDENCE:g}"]
    + [f"{stats.needed(q)} for p{q:g}" for q in stats.PERCENTILES[1:]],
}


def test_every_metric_of_a_cell_is_explained() -> None:
    assert [
        column for column in METRIC_COLUMNS if not any(re.fullmatch(name, column) for name in NAMES)
    ] == []


def test_every_flag_is_explained() -> None:
    assert {*INVALIDATING_FLAGS, *NOTES} <= set(NAMES)


@pytest.mark.parametrize(("about", "thresholds"), STATED.items(), ids=STATED)
def test_a_threshold_is_stated_as_it_is(about: str, thresholds: list[str]) -> None:
    """In a row of a table, or in the paragraph that names it."""
    passages = [" ".join(part.split()) for part in re.split(r"\n\n|\n(?=\||- )", PAGE) if about in part]
    for stated in thresholds:
        pattern = rf"(?<![\d.]){re.escape(stated)}(?![\d.]*\d)"
        assert any(re.search(pattern, passage) for passage in passages), f"{about}: {stated}"


@pytest.mark.parametrize("flag", ["errors", "client_lag", "client_stalled", "under_rate"])
def test_the_words_of_a_flag_state_the_same_thresholds(flag: str) -> None:
    for stated in STATED[f"`{flag}`"]:
        assert stated in INVALIDATING_FLAGS[flag]
