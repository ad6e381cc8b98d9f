"""Whatever is part of a cell's identity tells two configurations apart, and is in their names."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import count
from typing import Any

import pytest

from orchestrator.cell import LEFT_OUT, leaves
from orchestrator.config.schema import EngineOptConfig, OptConfig, SweepConfig
from orchestrator.report.names import Names
from orchestrator.report.pairs import pairs
from orchestrator.report.settings import COLUMN_OF
from orchestrator.report.variants import Run, sort_out
from orchestrator.secrets import masked_config
from tests.report.studies import Planted, runs_of
from tests.test_cell import with_other

PLANTED = Planted(runs=1, opt=("spec-draft",))
BASE = SweepConfig()
BASE.opt = {"spec-draft": OptConfig(checkpoint="fp8", vllm=EngineOptConfig())}
ATTEMPTS = count()
NEEDS = {"model.draft": "draft", "model.eagle3": "eagle3"}
IDENTITY = [
    *(key for key in leaves(BASE) if key not in LEFT_OUT and key not in ("opt", "seed")),
    *(f"opt.spec-draft.{key}" for key in ("checkpoint", "quantization", "vllm.args", "vllm.env")),
]


def stored(config: SweepConfig, **columns: Any) -> Run:
    run = runs_of([PLANTED])[0]
    changes = {"provenance": {"config": masked_config(asdict(config))}, **columns}
    return Run("planted", {**run.row, **changes, "attempt_id": str(next(ATTEMPTS))}, run.requests)


def named(*runs: Run) -> list[str]:
    variants, _ = sort_out(runs)
    names = Names(variants)
    return [names.whole(variant) for variant in variants]


def other(config: SweepConfig, key: str) -> SweepConfig:
    if key.startswith("opt."):
        _, name, *path = key.split(".")
        return replace(config, opt={name: with_other(config.opt[name], path)})
    if key == "model.checkpoints":
        return replace(config, model=replace(config.model, checkpoints={"fp8": "org/another"}))
    changed: SweepConfig = with_other(config, key.split("."))
    return changed


@pytest.mark.parametrize("key", IDENTITY)
def test_a_key_of_the_identity_makes_two_variants_of_two_names(key: str) -> None:
    config = replace(BASE, opt={"spec-draft": replace(BASE.opt["spec-draft"], needs=NEEDS.get(key))})
    said = key.removeprefix("model.") if key.startswith("model.sampling.") else key  # as it is sent
    column = COLUMN_OF.get(said)
    here, there = ({column: "1"}, {column: "2"}) if column else ({}, {})
    found = named(stored(config, **here), stored(other(config, key), **there))
    assert len(found) == 2, key
    assert len(set(found)) == 2, found
    if column is None:
        assert any(said in name for name in found), found


@pytest.mark.parametrize("key", ["seed", "runs", "results_dir", "tracker.name", "ray.address", "slo.ttft_s"])
def test_what_is_no_part_of_it_makes_none(key: str) -> None:
    assert len(named(stored(BASE), stored(other(BASE, key)))) == 1


def test_a_secret_makes_none() -> None:
    engines = [replace(BASE.engine, env={} if env is None else {"HF_TOKEN": env}) for env in (None, "a", "b")]
    assert len(named(*(stored(replace(BASE, engine=engine)) for engine in engines))) == 1


def test_sampling_is_what_was_sent() -> None:
    """The model card's value and the same one of the job are one."""
    card = replace(BASE, model=with_other(BASE.model, ["sampling", "min_p"]))
    assert len(named(stored(card), stored(other(BASE, "sampling.min_p")))) == 1


def test_a_default_is_named_where_another_value_is_beside_it() -> None:
    hardware = replace(BASE.hardware, gpu_memory_utilization=0.5)
    found = named(stored(BASE), stored(replace(BASE, hardware=hardware)))
    assert ["hardware.gpu_memory_utilization=0.5" in one for one in found].count(True) == 1
    assert ["hardware.gpu_memory_utilization=0.9" in one for one in found].count(True) == 1


def test_two_folders_of_one_name_are_told_apart_and_not_chosen_among() -> None:
    runs = [
        stored(
            replace(BASE, opt={}, model=replace(BASE.model, path=path)),
            opt=["none"],
            model_path=path,
            model_revision=path[1] * 16,
        )
        for path in ("/a/mine", "/b/mine")
    ]
    assert [path in name for path, name in zip(("/a/mine", "/b/mine"), named(*runs), strict=True)] == [
        True
    ] * 2
    assert pairs(sort_out(runs)[0], {})[0] == []


def test_a_job_that_thinks_and_one_that_does_not_are_compared() -> None:
    thinking = [
        stored(
            replace(BASE, opt={}, model=replace(BASE.model, chat_template_kwargs={"enable_thinking": on})),
            opt=["none"],
        )
        for on in (True, False)
    ]
    assert len(pairs(sort_out(thinking)[0], {})[0]) == 1
    assert any("chat_template_kwargs.enable_thinking=false" in one for one in named(*thinking))
