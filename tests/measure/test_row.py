"""A cell's row (`orchestrator.measure.row`): its keys are columns, and no secret is in it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.cell import Cell, make_cell
from orchestrator.config.schema import SloConfig
from orchestrator.measure.row import cell_row
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.summary import summarize
from orchestrator.store.schema import CELLS
from tests.cluster.plans import FACTS
from tests.support.compose import config_of

SECRET = "hf_not_to_be_seen"
ADDED_BY_THE_STORE = {"attempt_id", "stored_at"}
REFUSED: dict[str, Any] = {"study": "s", "status": "failed", "attempts": 1, "gpus": 2, "nodes": 1}


def cell(*overrides: str, env: dict[str, str] | None = None, **facts: Any) -> Cell:
    config = config_of("hardware=h200", *overrides)
    config.engine.env = dict(env or {})
    return make_cell(config, replace(FACTS, engine_env=dict(env or {}), **facts), ("model=r1-7b", *overrides))


def measured(one: Cell) -> dict[str, Any]:
    return cell_row(
        one,
        **REFUSED | {"status": "done"},
        reason="because",
        flags=("errors",),
        started_at=datetime.now(UTC),
        duration_s=1.5,
        deployment_start_s=20.0,
        engine_version="0.32.1",
        items=7,
        metrics=summarize(Measurement(()), None, SloConfig()),
        provenance={"host": "h"},
    )


@pytest.mark.parametrize("engine", ["vllm", "sglang", "external", "simulated"])
def test_a_rows_keys_are_the_columns(engine: str) -> None:
    one = cell(f"engine={engine}", engine_args={"speed": 2.0} if engine == "simulated" else {})
    assert measured(one).keys() == set(CELLS.names) - ADDED_BY_THE_STORE
    assert cell_row(one, **REFUSED).keys() <= set(CELLS.names), "of one that was never measured too"


def test_what_was_configured_is_in_its_own_column() -> None:
    one = cell(
        *("model=r1-7b", "load=gamma", "load.rate=3.0", "load.burstiness=0.5", "max_tokens=77", "seed=5"),
        *("repeats=3", "dataset=math500", "dataset.prompt=plain", "slo.ttft_s=0.25", "slo.tpot_s=0.05"),
    )
    row = measured(one)
    expected = {
        **{"cell_id": one.cell_id, "deployment_id": one.deployment_id, "study": "s", "model": "r1-7b"},
        **{"load": "gamma", "request_rate": 3.0, "burstiness": 0.5, "concurrency": None},
        **{"max_tokens": 77, "seed": 5, "repeats": 3, "dataset": "math500", "prompt": "plain"},
        **{"slo_ttft_s": 0.25, "slo_ttfvt_s": None, "slo_tpot_s": 0.05, "opt": ["none"]},
        **{"status": "done", "reason": "because", "flags": ["errors"], "attempts": 1, "items": 7},
        **{"gpus": 2, "nodes": 1, "gpu_type": "h200", "engine": "vllm", "simulated": False},
        **{"duration_s": 1.5, "deployment_start_s": 20.0},
    }
    assert {name: row[name] for name in expected} == expected
    assert row["overrides"][0] == "model=r1-7b"
    assert row["provenance"]["host"] == "h"


def test_the_version_that_ran_counts_and_the_planned_one_is_kept_beside_it() -> None:
    row = measured(cell(engine_version="0.32.0"))
    assert row["engine_version"] == "0.32.1"
    assert row["provenance"]["planned"]["engine_version"] == "0.32.0"
    assert cell_row(cell(engine_version="0.32.0"), **REFUSED)["engine_version"] == "0.32.0"


def test_a_simulated_cell_says_so_and_how_fast() -> None:
    row = measured(cell("engine=simulated", engine_args={"speed": 20.0}))
    assert row["simulated"] is True
    assert row["provenance"]["speed"] == 20.0
    assert "speed" not in measured(cell())["provenance"]


def test_secrets_are_masked_and_settings_are_not() -> None:
    env = {"HF_TOKEN": SECRET, "MY_API_KEY": SECRET, "DB_PASSWORD": SECRET, "VLLM_USE_V1": "1"}
    row = measured(cell(env=env))
    assert SECRET not in json.dumps(row, default=str)
    masked = {"HF_TOKEN": "***", "MY_API_KEY": "***", "DB_PASSWORD": "***", "VLLM_USE_V1": "1"}
    assert row["provenance"]["engine_env"] == masked
    assert row["provenance"]["config"]["engine"]["env"] == masked


def test_a_secret_of_an_optimization_is_masked_too() -> None:
    one = cell("opt=fp8")
    engine = one.config.opt["fp8"].vllm
    assert engine is not None
    engine.env = {"HF_TOKEN": SECRET}
    row = measured(one)
    assert SECRET not in json.dumps(row, default=str)
    assert row["provenance"]["config"]["opt"]["fp8"]["vllm"]["env"] == {"HF_TOKEN": "***"}
