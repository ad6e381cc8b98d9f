"""Which cells are compared, which are one another's runs, and which stand apart."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigError
from orchestrator.report.build import find
from orchestrator.report.options import Options
from orchestrator.report.pairs import pairs
from orchestrator.report.variants import sort_out
from tests.report.studies import Planted, runs_of

BASE = Planted(runs=2)


def axes(*planted: Planted, **baseline: str) -> list[tuple[str, ...]]:
    """Axis, and what is compared with what: optimization, engine and GPUs."""
    variants, _ = sort_out(runs_of(planted))
    found, _ = pairs(variants, baseline)
    return [
        (
            pair.axis.name,
            *(
                f"{one.facts['opt']}/{one.facts['engine']}/{one.facts['gpus']}"
                for one in (pair.variant, pair.baseline)
            ),
        )
        for pair in found
    ]


def test_an_optimization_is_held_against_the_same_load_and_budget_only() -> None:
    eight, four = BASE.but(opt=("fp8",)), BASE.but(concurrency=4)
    assert axes(BASE, four, eight) == [("optimizations", "fp8/vllm/1", "none/vllm/1")]
    variants, _ = sort_out(runs_of([BASE, four, eight]))
    found, alone = pairs(variants, {})
    assert found[0].baseline.facts["concurrency"] == "8"
    assert not alone


def test_a_missing_baseline_is_named() -> None:
    fast = BASE.but(opt=("spec-ngram",), concurrency=4)
    found = find(runs_of([BASE, fast]), Options())
    assert not found.lines
    assert [one.missing for one in found.alone if one.axis.name == "optimizations"] == [
        "no cell that counts has opt=none and all else the same"
    ]


def test_a_baseline_is_missed_where_there_is_none_at_all() -> None:
    found = find(runs_of([BASE.but(opt=("spec-ngram",))]), Options())
    assert [(one.axis.name, one.variant.facts["opt"]) for one in found.alone] == [
        ("optimizations", "spec-ngram")
    ]
    assert "without its baseline opt=none: there is nothing to hold it against" in found.answers[0].take
    assert not find(runs_of([BASE]), Options()).alone
    assert "there is nothing to choose" in find(runs_of([BASE]), Options()).answers[0].take


def test_engines_sizes_and_combinations_have_their_own_tables() -> None:
    other = BASE.but(engine="sglang")
    both = other.but(opt=("fp8",))
    assert axes(BASE, other, both) == [
        ("optimizations", "fp8/sglang/1", "none/sglang/1"),
        ("engines", "none/sglang/1", "none/vllm/1"),
        ("combinations", "fp8/sglang/1", "none/vllm/1"),
    ]


def test_the_baseline_can_be_chosen() -> None:
    other = BASE.but(opt=("fp8",))
    assert axes(BASE, other, opt="fp8") == [("optimizations", "none/vllm/1", "fp8/vllm/1")]
    with pytest.raises(
        ConfigError, match="baseline=opt=awq: no cell that counts has it; there are fp8, none"
    ):
        axes(BASE, other, opt="awq")


def test_runs_of_one_cell_are_one_variant_and_other_flags_are_another() -> None:
    runs = runs_of([BASE.but(runs=5)])
    variants, _ = sort_out(runs)
    assert [len(one.runs) for one in variants] == [5]
    config = runs[0].row["provenance"]["config"]
    changed = {**config, "engine": {**config["engine"], "args": {"max-num-seqs": 64}}}
    runs[0] = type(runs[0])("planted", {**runs[0].row, "provenance": {"config": changed}}, runs[0].requests)
    variants, _ = sort_out(runs)
    assert sorted(len(one.runs) for one in variants) == [1, 4]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ((("status", "invalid"), ("reason", "the prefix cache was not empty")), "invalid"),
        ((("status", "failed"), ("reason", "no request is ok")), "failed"),
        ((("flags", ["gpu_starved"]),), "starved"),
    ],
)
def test_what_does_not_count_is_apart_and_named(changes: tuple[tuple[str, object], ...], kind: str) -> None:
    found = find(runs_of([BASE, BASE.but(opt=("fp8",), changes=changes)]), Options())
    assert [one.kind for one in found.apart] == [kind, kind]
    assert all(one.why for one in found.apart)
    assert [one.facts["opt"] for one in found.variants] == ["none"]


def test_simulated_cells_never_mix_with_measured_ones() -> None:
    simulated = BASE.but(engine="simulated")
    found = find(runs_of([BASE, simulated]), Options())
    assert {one.kind for one in found.apart} == {"simulated"}
    alone = find(runs_of([simulated]), Options())
    assert not alone.apart


def test_an_attempt_in_two_studies_was_measured_once() -> None:
    runs = [
        type(run)(study, {**run.row, "attempt_id": run.row["cell_id"]}, run.requests)
        for run in runs_of([BASE])
        for study in ("a", "b")
    ]
    variants, _ = sort_out(runs)
    assert [len(one.runs) for one in variants] == [2]
