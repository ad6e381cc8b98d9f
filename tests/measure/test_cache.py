"""Caches that nobody can empty, and those that are to be warm: whole measurements on a live server that
caches prefixes in blocks, as engines do. Its times are made up and no matter here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cell import make_cell, sampling
from orchestrator.datasets import fingerprint
from orchestrator.engines.server import Server
from orchestrator.engines.simulated import ADAPTER
from orchestrator.errors import EngineError
from orchestrator.grading import LIMIT_S
from orchestrator.grading.isolated import Grader
from orchestrator.load.client.pool import ClientPool
from orchestrator.measure.context import Attempt, MeasurementContext
from orchestrator.measure.measure import measure
from orchestrator.records import Endpoint
from orchestrator.store.read import read_cell, read_requests
from tests.cluster.plans import FACTS
from tests.engines.test_simulated_server import started
from tests.support.compose import config_of


@dataclass(frozen=True)
class Theirs:
    """A live server that somebody else started. ``resets``: whether its cache can be emptied."""

    live: Server
    resets: bool

    @property
    def endpoint(self) -> Endpoint:
        return self.live.endpoint

    def reset_cache(self) -> bool | None:
        return self.live.reset_cache() if self.resets else None

    def failure(self) -> EngineError | None:
        return None


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Server]:
    with started(tmp_path / "log", "start-seconds=0", "enable-prefix-caching=true", speed=500.0) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Iterator[MeasurementContext]:
    with ExitStack() as stack:
        yield MeasurementContext(
            study="s",
            study_dir=tmp_path / "s",
            server=Theirs.__new__(Theirs),  # each test has its own
            external=True,
            metrics=ADAPTER.metrics,
            lazy=ADAPTER.lazy,
            engine_version=None,
            deployment_start_s=None,
            nodes=1,
            gpu_count=0,
            gpus=None,
            gpu_use=None,
            engine_pid=None,
            provenance={},
            report=lambda phase, requests, progress: None,
            cancelled=lambda: False,
            clients=stack.enter_context(ClientPool()),
            grader=stack.enter_context(Grader(LIMIT_S)),
        )


def measured(site: MeasurementContext, server: Theirs, *overrides: str) -> dict[str, Any]:
    """The row of a cell of 12 long questions, with its requests in the order of sending."""
    file = site.study_dir.parent / "items.jsonl"
    words = "A farmer carries {0} sacks of grain along the river to the mill and {0} more on the way home. "
    rows = [
        {"question": words.format(n) * 4 + "How many?", "answer": f"#### {2 * n}"} for n in range(101, 121)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = config_of(
        *("engine=external", "engine.base_url=http://127.0.0.1:9", "hardware=cpu", "model=r1-7b"),
        *("dataset=gsm8k", f"dataset.path={file}", "limit=12", "load=closed", "load.concurrency=4"),
        *("max_tokens=16", *overrides),
    )
    cell = make_cell(
        config,
        replace(FACTS, sampling=sampling(config), dataset_revision=fingerprint(config.dataset)),
        overrides,
    )
    site.study_dir.mkdir(exist_ok=True)
    measure(cell, replace(site, server=server), Attempt(1, cell.cell_id))
    row = read_cell(site.study_dir, cell.cell_id)
    assert row is not None
    requests = read_requests(site.study_dir, [cell.cell_id]).to_pylist()
    return {**row, "requests": sorted(requests, key=lambda one: one["sent_s"])}


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
