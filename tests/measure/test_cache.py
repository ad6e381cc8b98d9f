"""Caches that nobody can empty, and those that are to be warm: whole measurements on a live server that
caches prefixes in blocks, as engines do."""

from __future__ import annotations

import pytest

from orchestrator.engines.server import Server
from orchestrator.measure.context import MeasurementContext
from tests.measure.measuring import Theirs, measured


def test_questions_that_an_earlier_cell_asked_are_told_where_the_cache_cannot_be_emptied(
    live: Server, site: MeasurementContext
) -> None:
    theirs = Theirs(live, resets=False)
    first, second = measured(site, theirs), measured(site, theirs, "seed=1")
    assert first["cache_warm_share"] == pytest.approx(0.0, abs=0.05)
    assert "cache_unknown" in first["flags"]
    assert "cache_warm" not in first["flags"]
    assert second["cache_warm_share"] > 0.8
    assert second["status"] == "invalid"
    assert "cache_warm" in second["flags"]
    share = f"{100 * second['cache_warm_share']:.0f} %"
    assert f"{share} of the tokens that are a question's own were in it" in second["reason"]
    assert "--no-enable-prefix-caching" in second["reason"]
    assert "--disable-radix-cache" in second["reason"]


def test_worked_examples_that_all_prompts_begin_with_are_no_warm_cache(
    live: Server, site: MeasurementContext
) -> None:
    theirs = Theirs(live, resets=False)
    shown = measured(site, theirs, "dataset.shots=8")
    assert shown["prefix_hit_rate"] > 0.6
    assert shown["cache_warm_share"] == pytest.approx(0.0, abs=0.05)
    assert "cache_warm" not in shown["flags"]
    again = measured(site, theirs, "dataset.shots=8", "seed=1")
    assert again["cache_warm_share"] > 0.8
    assert "cache_warm" in again["flags"]


def test_a_cold_cache_has_nothing_for_the_first_request_and_a_warm_one_what_prompts_share(
    live: Server, site: MeasurementContext
) -> None:
    theirs = Theirs(live, resets=True)
    shots = ("dataset.shots=8", "load.concurrency=1")
    cold, warm = measured(site, theirs, *shots), measured(site, theirs, *shots, "load.cache=warm")
    assert (cold["cache"], warm["cache"]) == ("cold", "warm")
    assert cold["requests"][0]["cached_tokens"] == 0
    first, *later = (one["cached_tokens"] for one in warm["requests"])
    assert first == min(later) > 500, "the questions themselves are new"
    assert max(later) < min(one["prompt_tokens"] for one in warm["requests"]) - 50
    for row in (cold, warm):
        assert not {"cache_warm", "cache_unknown"} & set(row["flags"])
        assert row["cache_warm_share"] is None
