from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cell import (
    LEFT_OUT,
    RESOLVED,
    Cell,
    ResolvedJob,
    canonical_json,
    cell_identity,
    digest,
    leaves,
    make_cell,
    opt_names,
    sampling,
)
from orchestrator.config.schema import (
    DatasetConfig,
    EngineConfig,
    EngineOptConfig,
    LoadConfig,
    ModelConfig,
    OptConfig,
    SamplingConfig,
    SloConfig,
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


def test_a_run_is_a_cell_of_its_own_and_the_first_is_the_one_that_there_was() -> None:
    one, two, three = (make_cell(config(), facts(), (), run) for run in (1, 2, 3))
    assert one == cell(config(), facts())
    assert cell(replace(config(), runs=3), facts()).cell_id == one.cell_id
    assert len({one.cell_id, two.cell_id, three.cell_id}) == 3
    assert {made.run_of for made in (one, two, three)} == {one.cell_id}
    assert {made.deployment_id for made in (one, two, three)} == {one.deployment_id}
    assert [made.run for made in (one, two, three)] == [1, 2, 3]


def test_cells_that_were_named_keep_their_names() -> None:
    """The names that stored studies have, of IDENTITY_VERSION 2."""
    one, two = (make_cell(config(), facts(), (), run) for run in (1, 2))
    assert (one.cell_id, one.run_of, one.deployment_id) == (
        "93a13571dba2e1c2",
        "93a13571dba2e1c2",
        "63dedd088c690a61",
    )
    assert (two.cell_id, two.run_of, two.deployment_id) == (
        "411b0464d296dbbc",
        one.cell_id,
        one.deployment_id,
    )
    full = replace(
        config(),
        opt={"fp8": OptConfig(), "none": OptConfig()},
        limit=8,
        seed=3,
        output_length=64,
        weights="dummy",
        engine=EngineConfig(name="vllm", args={"x": 1}, env={"A": "b"}),
        load=LoadConfig(kind="poisson", rate=2.5, cache="warm", normalize=True),
        model=ModelConfig(name="m", kind="reasoning", think_opened=True),
        sampling=SamplingConfig(stop="END", seeded=True),
    )
    found = replace(
        facts(),
        engine_env={"A": "b", "HF_TOKEN": "hf_aaaaaaaaaaaaaaaaaaaaaa"},
        sampling=sampling(full),
        files={"/t": "abc"},
        nodes=2,
        served={"id": "m"},
        length_revision="l",
    )
    made = make_cell(full, found, ())
    assert (made.cell_id, made.deployment_id) == ("2ead5068209bbb34", "ec1e2ae4e791a0d4")


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
        lambda c: replace(c, slo=SloConfig(ttft_s=0.2)),
        lambda c: replace(c, dataset=replace(c.dataset, size=1319, gated=True)),
    ],
    ids=["results_dir", "study_name", "rerun", "processes", "dataset.path", "python", "slo", "size"],
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
        lambda f: replace(f, nodes=2),
        lambda f: replace(f, model_source="org/m-awq"),
        lambda f: replace(f, files={"/t.jinja": "abc"}),
        lambda f: replace(f, served={"id": "m", "root": "org/m"}),
    ],
    ids=["version", "args", "env", "revision", "gpu type", "tp", "nodes", "source", "files", "served"],
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


def every_key() -> list[str]:
    """Of the whole schema, optimizations included."""
    opt = OptConfig(vllm=EngineOptConfig(), sglang=EngineOptConfig(), simulated=EngineOptConfig())
    return [key for key in leaves(SweepConfig()) if key != "opt"] + [f"opt.*.{key}" for key in leaves(opt)]


def with_other(value: Any, path: list[str]) -> Any:
    """``value`` with another one at ``path``."""
    name, *below = path
    own = getattr(value, name)
    if below:
        return replace(value, **{name: with_other(own, below)})
    if isinstance(own, bool):
        return replace(value, **{name: not own})
    if isinstance(own, dict):
        return replace(value, **{name: {**own, "another": "x"}})
    if isinstance(own, int | float):
        return replace(value, **{name: own + 1})
    return replace(value, **{name: "another"})


@pytest.mark.parametrize("key", every_key())
def test_every_key_is_part_of_the_identity_or_listed_with_its_reason(key: str) -> None:
    """A key that is added to the schema is in the identity until somebody decides otherwise."""
    assert not (key in RESOLVED and key in LEFT_OUT)
    if key.startswith("opt.*."):
        assert key in RESOLVED or key in LEFT_OUT  # a cell has the names of optimizations alone
        return
    before, after = config(), with_other(config(), key.split("."))
    changes = cell(after, facts()).cell_id != cell(before, facts()).cell_id
    if key in LEFT_OUT:
        assert LEFT_OUT[key].strip()
        assert not changes
    elif RESOLVED.get(key) == "sampling":
        assert sampling(after) != sampling(before)
        assert cell(before, resolved(after)).cell_id != cell(before, resolved(before)).cell_id
    elif key in RESOLVED:
        assert RESOLVED[key] == key or RESOLVED[key] in {field.name for field in fields(ResolvedJob)}
        assert changes == (key == "output_length")  # hashed as it is typed; of the others, the field
    else:
        assert changes


def resolved(config: SweepConfig) -> ResolvedJob:
    return replace(facts(), sampling=sampling(config))


def test_the_lists_name_no_key_that_is_gone() -> None:
    assert {*RESOLVED, *LEFT_OUT} <= set(every_key())


def test_every_fact_is_part_of_the_identity() -> None:
    others: dict[str, Any] = {
        "engine_args": {"x": 1},
        "engine_env": {"X": "1"},
        "sampling": SamplingConfig(top_k=3),
        "files": {"/f": "1"},
        "served": {"id": "x"},
        "tensor_parallel_size": 8,
        "nodes": 2,
    }
    for field in fields(ResolvedJob):
        if field.name in ("keys", "sources"):  # by what later plans look things up; other names of the source
            continue
        other = replace(facts(), **{field.name: others.get(field.name, "another")})
        assert cell(config(), other).cell_id != cell(config(), facts()).cell_id, field.name


def test_the_way_a_client_splits_reasoning_is_part_of_the_cell() -> None:
    """On an external server whose engine no catalogue entry tells."""
    reasoning = replace(config(), model=ModelConfig(name="m", kind="reasoning"))
    reasoning = replace(reasoning, engine=EngineConfig(name="external"))
    split = replace(reasoning, model=replace(reasoning.model, reasoning_parser={"vllm": "qwen3"}))
    assert cell(reasoning, facts()).cell_id != cell(split, facts()).cell_id


def test_a_secret_is_no_part_of_a_cell_and_a_setting_is() -> None:
    plain = cell(config(), facts())
    secret = replace(facts(), engine_env={"HF_TOKEN": "hf_x", "MY_API_KEY": "k"})
    assert cell(config(), secret).cell_id == plain.cell_id
    setting = replace(facts(), engine_env={"TOKENIZERS_PARALLELISM": "false"})
    assert cell(config(), setting).cell_id != plain.cell_id


def test_sampling_that_nobody_sets_leaves_a_cell_its_name() -> None:
    """Keys that came later count as absent where they are null."""
    identity = cell_identity(config(), facts())["sampling"]
    assert identity == {"temperature": 0.6, "top_p": 0.95, "top_k": None, "seeded": None}
    later: dict[str, Any] = {"min_p": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0, "stop": ["x"]}
    for name, value in {**later, "reasoning_effort": "low"}.items():
        other = replace(facts(), sampling=replace(facts().sampling, **{name: value}))
        assert cell_identity(config(), other)["sampling"] == {**identity, name: value}


@pytest.mark.parametrize(
    ("name", "card", "own", "sent"),
    [
        ("min_p", 0.1, None, 0.1),
        ("min_p", 0.1, 0.0, 0.0),
        ("stop", "END", None, ["END"]),
        ("stop", "END", ["a", "b"], ["a", "b"]),
        ("reasoning_effort", "low", "high", "high"),
        ("presence_penalty", None, 1.5, 1.5),
        ("repetition_penalty", 1.05, None, 1.05),
    ],
)
def test_a_models_card_counts_where_the_job_says_nothing(name: str, card: Any, own: Any, sent: Any) -> None:
    made = config()
    made.model.sampling, made.sampling = SamplingConfig(**{name: card}), SamplingConfig(**{name: own})
    assert getattr(sampling(made), name) == sent
