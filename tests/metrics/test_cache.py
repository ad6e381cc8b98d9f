"""What of the prompts an earlier cell had left in a cache that nobody could empty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.metrics import validity
from orchestrator.metrics.cache import warm_share
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.records import Record, Sample
from tests.support.timelines import record

UNKNOWN = RunConditions(external=True, cache_reset=None, shared_tokens=40.0, expected=())


def asked(prompt: str, at: float, cached: int | None, **changes: Any) -> Record:
    values: dict[str, Any] = {"prompt_tokens": 100, "cached_tokens": cached, "prompt_sha256": prompt}
    return record(at, [(at + 1.0, 10, 0)], **values | changes)


def hits(before: float, after: float) -> list[Sample]:
    return [Sample(-0.1, prefix_hits_tokens_total=before), Sample(9.0, prefix_hits_tokens_total=after)]


@pytest.mark.parametrize(
    ("cached", "share"),
    [
        ([0, 40, 40], 0.0),  # what the prompts share, from the second on
        ([40, 40, 40], 0.0),  # the wave before has left it
        ([96, 96, 96], 56 / 60),
        ([96, 40, 40], 56 / 180),
        ([32, 32, 96], 56 / 180),  # whole blocks alone are cached
    ],
)
def test_tokens_found_beyond_what_all_prompts_share(cached: list[int], share: float) -> None:
    records = [asked(f"p{i}", float(i), one) for i, one in enumerate(cached)]
    assert warm_share(Measurement(records, (), UNKNOWN)) == pytest.approx(share)
    counted = [replace(one, cached_tokens=None) for one in records]
    by_counter = warm_share(Measurement(counted, hits(500.0, 500.0 + sum(cached)), UNKNOWN))
    allowed = max(0.0, sum(cached) - 40 * len(cached)) / (60 * len(cached))
    assert by_counter == pytest.approx(allowed)


def test_a_question_asked_again_may_be_cached_whole() -> None:
    records = [asked("p", 0.0, 40), asked("q", 1.0, 40), asked("p", 2.0, 96), asked("q", 3.0, 96)]
    assert warm_share(Measurement(records[::-1], (), UNKNOWN)) == 0.0
    counted = [replace(one, cached_tokens=None) for one in records]
    assert warm_share(Measurement(counted, hits(0.0, 272.0), UNKNOWN)) == 0.0
    assert warm_share(Measurement(counted, hits(0.0, 340.0), UNKNOWN)) == pytest.approx(60 / 120)


def test_what_the_server_does_not_tell_is_unknown() -> None:
    one = asked("p", 0.0, 96)
    assert warm_share(Measurement([one], (), replace(UNKNOWN, shared_tokens=None))) is None
    assert warm_share(Measurement([replace(one, cached_tokens=None)], (), UNKNOWN)) is None
    assert warm_share(Measurement([replace(one, prompt_tokens=None)], (), UNKNOWN)) is None
    assert warm_share(Measurement([], (), UNKNOWN)) is None
    assert warm_share(Measurement([replace(one, outcome="error")], (), UNKNOWN)) is None
    assert warm_share(Measurement([one], (), replace(UNKNOWN, shared_tokens=100.0))) is None


@pytest.mark.parametrize(("cached", "raised"), [(51, "cache_unknown"), (53, "cache_warm")])
def test_over_a_fifth_invalidates(cached: int, raised: str) -> None:
    given = Measurement([asked("p", 0.0, cached)], (), UNKNOWN)
    flags = validity.flags(given)
    assert raised in flags
    assert ("cache_warm" in flags) == (raised == "cache_warm")
    assert validity.status(flags, given.records)[0] == ("invalid" if raised == "cache_warm" else "done")
    emptied = replace(UNKNOWN, cache_reset=True)
    assert "cache_warm" not in validity.flags(Measurement(given.records, (), emptied)), "its own hits count"
