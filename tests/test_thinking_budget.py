"""Reasoning that is ended after so many tokens, by the whole command: held to, and ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.engines import version
from orchestrator.store.read import read_cells, read_requests
from tests.engines.test_real_engines import config, started
from tests.support.cli import sweep

SIMULATED = ("engine=simulated", "hardware=h200", "model=r1-7b", "tracker=none", "ray.dashboard=false")


def cells(results: Path) -> dict[int | None, dict[str, Any]]:
    return {row["thinking_budget"]: row for row in read_cells(results / "default").to_pylist()}


def thoughts(results: Path, row: dict[str, Any]) -> list[int]:
    asked = read_requests(results / "default", [row["cell_id"]]).to_pylist()
    return [one["reasoning_tokens"] for one in asked]


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_a_budget_that_is_held_to_and_one_that_is_ignored(tmp_path: Path) -> None:
    asked = ("limit=8", "max_tokens=2048", "engine.args.speed=100", f"results_dir={tmp_path}")
    done = sweep("-m", *SIMULATED, *asked, "thinking_budget=off,0,64")
    assert done.returncode == 0, done.stdout + done.stderr
    found = cells(tmp_path)
    assert set(found) == {None, 0, 64}
    assert max(thoughts(tmp_path, found[64])) == 64
    assert max(thoughts(tmp_path, found[0])) == 0
    assert max(thoughts(tmp_path, found[None])) > 64
    assert found[64]["ttfvt_s_p50"] < found[None]["ttfvt_s_p50"]

    ignored = sweep(*SIMULATED, *asked, "thinking_budget=64", "engine.args.ignore-thinking-budget=true")
    assert ignored.returncode == 1, ignored.stdout + ignored.stderr
    (row,) = (row for row in read_cells(tmp_path / "default").to_pylist() if row["status"] == "invalid")
    assert "budget_not_enforced" in row["flags"]
    assert "thought longer than thinking_budget" in row["reason"]


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_vllm_ends_the_thinking_of_a_real_model_at_the_token(tmp_path: Path) -> None:
    made = config("vllm", "model=smollm2-135m-think")
    asked = ("dataset=steps", "limit=8", "max_tokens=256", "load.concurrency=4", f"results_dir={tmp_path}")
    done = sweep(
        *("-m", "model=smollm2-135m-think", "thinking_budget=off,0,8", "tracker=none", *asked),
        *("ray.dashboard=false", f"engine.python={version.interpreter(made.engine)}"),
        timeout_s=500,
    )
    found = cells(tmp_path)
    assert set(found) == {None, 0, 8}, done.stdout + done.stderr
    assert "budget_not_enforced" not in (*found[None]["flags"], *found[8]["flags"])
    assert max(thoughts(tmp_path, found[8])) <= 9
    assert min(thoughts(tmp_path, found[8])) >= 7
    assert max(thoughts(tmp_path, found[None])) > 9
    # The engine closes a thought that has not begun, and this model begins another, in its visible answer.
    assert found[0]["reasoning_from"] == "tags"
    assert "budget_not_enforced" in found[0]["flags"]


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_a_real_server_that_ignores_it_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config("sglang", "model=smollm2-135m-think")
    with started(made, tmp_path / "engine") as server:
        place = server.endpoint
        monkeypatch.setenv("THEIR_KEY", str(place.api_key))
        done = sweep(
            *("engine=external", f"engine.base_url=http://{place.host}:{place.port}", "tracker=none"),
            *("engine.api_key_env=THEIR_KEY", "model=smollm2-135m-think", "dataset=steps", "limit=4"),
            *("max_tokens=128", "thinking_budget=8", "ray.dashboard=false", f"results_dir={tmp_path}"),
        )
    (row,) = cells(tmp_path).values()
    assert "budget_not_enforced" in row["flags"], done.stdout + done.stderr
    assert row["status"] == "invalid"
