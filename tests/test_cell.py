from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cell import Cell, ResolvedJob, canonical_json, digest, make_cell, opt_names
from orchestrator.config.schema import (
    DatasetConfig,
    EngineConfig,
    LoadConfig,
    ModelConfig,
    OptConfig,
    SamplingConfig,
    SweepConfig,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)


def config() -> SweepConfig:
    return SweepConfig(
        model=ModelConfig(name="m", hub_id="org/m", parameters_b=1.0),
        engine=EngineConfig(name="vllm"),
        dataset=DatasetConfig(name="gsm8k"),
        load=LoadConfig(kind="closed", concurrency=4),
    )


def facts() -> ResolvedJob:
    return ResolvedJob(
        model_revision="r1",
        engine_version="0.32.0",
        engine_args={"max-model-len": 2048},
        engine_env={},
        dataset_revision="d1",
        wording="w1",
        gpu_type="h200",
        tensor_parallel_size=1,
        sampling=SamplingConfig(0.6, 0.95, None),
    )


def cell(config: SweepConfig, facts: ResolvedJob) -> Cell:
    return make_cell(config, facts, ())


@given(st.dictionaries(st.text(), JSON))
def test_the_order_of_keys_does_not_change_a_digest(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


def test_nan_has_no_digest() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": math.nan})


def test_an_id_is_sixteen_hex_digits() -> None:
    made = cell(config(), facts())
    for name in (made.cell_id, made.deployment_id):
        assert len(name) == 16
        assert int(name, 16) >= 0


@pytest.mark.parametrize(
    "changed",
    [
        lambda c: replace(c, results_dir="/elsewhere"),
        lambda c: replace(c, study_name="another"),
        lambda c: replace(c, rerun="all"),
        lambda c: replace(c, load=replace(c.load, processes=3)),
        lambda c: replace(c, dataset=replace(c.dataset, path="/data/copy.jsonl")),
        lambda c: replace(c, engine=replace(c.engine, python="/usr/bin/python3")),
    ],
    ids=["results_dir", "study_name", "rerun", "load.processes", "dataset.path", "engine.python"],
)
def test_paths_tracking_and_scheduling_do_not_change_a_cell(
    changed: Callable[[SweepConfig], SweepConfig],
) -> None:
    assert cell(changed(config()), facts()).cell_id == cell(config(), facts()).cell_id


@pytest.mark.parametrize(
    "changed",
    [
        lambda c, f: (replace(c, max_tokens=c.max_tokens + 1), f),
        lambda c, f: (replace(c, seed=1), f),
        lambda c, f: (replace(c, repeats=2), f),
        lambda c, f: (replace(c, limit=8), f),
        lambda c, f: (replace(c, load=replace(c.load, concurrency=8)), f),
        lambda c, f: (replace(c, dataset=replace(c.dataset, prompt="plain")), f),
        lambda c, f: (c, replace(f, dataset_revision="d2")),
        lambda c, f: (c, replace(f, wording="w2")),
        lambda c, f: (c, replace(f, sampling=SamplingConfig(0.0, None, None))),
    ],
    ids=[
        "max_tokens",
        "seed",
        "repeats",
        "limit",
        "load",
        "prompt",
        "dataset revision",
        "wording",
        "sampling",
    ],
)
def test_what_changes_the_numbers_changes_the_cell_but_not_the_deployment(
    changed: Callable[[SweepConfig, ResolvedJob], tuple[SweepConfig, ResolvedJob]],
) -> None:
    before, after = cell(config(), facts()), cell(*changed(config(), facts()))
    assert after.cell_id != before.cell_id
    assert after.deployment_id == before.deployment_id


@pytest.mark.parametrize(
    "changed",
    [
        lambda f: replace(f, engine_version="0.33.0"),
        lambda f: replace(f, engine_args={"max-model-len": 4096}),
        lambda f: replace(f, engine_env={"VLLM_X": "1"}),
        lambda f: replace(f, model_revision="r2"),
        lambda f: replace(f, gpu_type="h100"),
        lambda f: replace(f, tensor_parallel_size=2),
    ],
    ids=["engine version", "engine args", "engine env", "model revision", "gpu type", "tp"],
)
def test_another_engine_process_is_another_deployment_and_another_cell(
    changed: Callable[[ResolvedJob], ResolvedJob],
) -> None:
    before, after = cell(config(), facts()), cell(config(), changed(facts()))
    assert after.deployment_id != before.deployment_id
    assert after.cell_id != before.cell_id


def test_none_beside_an_optimization_is_not_one_more() -> None:
    both = replace(config(), opt={"none": OptConfig(), "fp8": OptConfig()})
    assert opt_names(both) == ("fp8",)
    assert opt_names(replace(config(), opt={"none": OptConfig()})) == ("none",)
