"""What a step's time is made of: what was planted on the simulated engine's own model is named with its size.

`REACHED` is another number than the simulated engine's share of the bandwidth, which no report knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config.schema import SweepConfig
from orchestrator.engines.simulated.batching import Batch, Stream
from orchestrator.engines.simulated.describe import described
from orchestrator.engines.simulated.latency import BANDWIDTH_REACHED, GIB, step_s
from orchestrator.engines.simulated.settings import Settings
from orchestrator.memory import draft_gib, own_weights_gib
from orchestrator.report.build import find
from orchestrator.report.explain import step_time as explained
from orchestrator.report.explain.reads import bandwidth, reads
from orchestrator.report.explain.step_time import DRAFT, KV_TOKEN, KV_TOKENS, REST, WEIGHTS, step_time
from orchestrator.report.explain.waterfall import Bar, Waterfall
from orchestrator.report.options import Options
from orchestrator.report.pairs import OPTIMIZATION, Pair
from orchestrator.report.theme import specification, svg
from orchestrator.report.variants import Run, sort_out
from orchestrator.report.views.waterfalls import waterfalls
from orchestrator.store import load
from tests.report.studies import Planted, runs_of
from tests.support.compose import config_of

# Every head has its own keys and values, so that they weigh something beside 7 billion parameters.
COMMON = ("model=r1-7b", "model.kv_heads=28", "engine=vllm", "hardware=h200")
REQUESTS = 16
ROOT = Path(__file__).parents[2]
BYTE_S = 1 / (4800e9 * BANDWIDTH_REACHED)
TOKEN_BYTES = 2 * 28 * 28 * 128 * 2  # keys and values of 28 layers and heads, in 16 bits


def config(opt: str = "none", *others: str) -> SweepConfig:
    return config_of(*COMMON, f"opt={opt}", *others)


@cache
def served(opt: str, run: int, longer: float = 1.0) -> Mapping[str, Any]:
    """What a cell of the simulated engine's model has in its row: `REQUESTS` at once, each of
    100 prompt and some 400 output tokens."""
    flags = described(config(opt), 1)
    settings = Settings(**{name.replace("-", "_"): value for name, value in flags.items()})
    generator = np.random.default_rng(run)
    lengths = [round(longer * float(one)) for one in generator.uniform(380, 420, REQUESTS)]
    batch = Batch(settings, 1)
    for length in lengths:
        batch.submit(Stream(100, length))
    ran_s = 0.0
    while not batch.idle:
        finished = batch.finished
        step = batch.step()
        ran_s += step.duration_s * (len(batch.running) + batch.finished - finished)
    return {
        "output_token_per_s": sum(lengths) / batch.busy_s,
        "in_flight_mean": ran_s / batch.busy_s,
        "running_mean": ran_s / batch.busy_s,
        "prompt_length_mean": 100.0,
        "output_length_mean": float(np.mean(lengths)),
        "output_length_sd": float(np.std(lengths, ddof=1)),
    }


def stepping(of: SweepConfig, step: float, running: float = 8.0, **others: Any) -> dict[str, Any]:
    """The row of a cell whose steps take so many seconds."""
    per_step = others.get("spec_tokens_per_step", 1.0)
    return {
        "output_token_per_s": running * per_step / step,
        **{"in_flight_mean": running, "running_mean": running},
        **{"prompt_length_mean": 100.0, "output_length_mean": 400.0, "output_length_sd": 0.0},
    } | others


Side = tuple[SweepConfig, Sequence[Mapping[str, Any]]]


def runs_with(baseline: Side, variant: Side) -> list[Run]:
    """Of the rows of their runs: a configuration without an optimization and one with ``other``."""
    runs = []
    for opt, (of, rows) in (("none", baseline), ("other", variant)):
        planted = runs_of([Planted(opt=(opt,), runs=len(rows), items=3)])
        stored = {"provenance": {"config": asdict(of)}}
        runs += [
            Run(run.study, {**run.row, **stored, **row}, run.requests)
            for run, row in zip(planted, rows, strict=True)
        ]
    return runs


def pair(baseline: Side, variant: Side) -> Pair:
    found, apart = sort_out(runs_with(baseline, variant))
    assert not apart
    sides = {one.facts["opt"]: one for one in found}
    return Pair(OPTIMIZATION, sides["none"], sides["other"])


def of_simulated(opt: str, **others: Any) -> Pair:
    return pair(
        (config(), [served("none", run) for run in range(3)]),
        (config(opt), [served(opt, run, **others) for run in range(3)]),
    )


def bars(found: Waterfall | None) -> dict[str, Bar]:
    assert found is not None
    return {bar.name: bar for bar in found.bars}


def test_fewer_bytes_of_the_weights_are_named_with_their_size() -> None:
    found = step_time(of_simulated("fp8"))
    fewer = (own_weights_gib(config("fp8").model, config("fp8").opt.values()) or 0.0) - (
        own_weights_gib(config().model, ()) or 0.0
    )
    planted = 1e3 * fewer * GIB * BYTE_S
    of = bars(found)
    assert of[WEIGHTS].value == pytest.approx(planted, rel=0.1)
    assert of[WEIGHTS].sure
    assert (of[WEIGHTS].low or 0.0) < planted < (of[WEIGHTS].high or 0.0)
    assert sum(abs(bar.value) for name, bar in of.items() if name != WEIGHTS) < 0.1 * abs(planted)
    assert DRAFT not in of
    assert found is not None
    assert found.difference == pytest.approx(planted, rel=0.1)
    assert "of weights" in found.saw


def test_the_page_draws_it_beside_the_throughput_that_it_explains() -> None:
    rows = [[served(opt, run) for run in range(3)] for opt in ("none", "fp8")]
    rates = [
        [{**row, "output_token_per_s_per_gpu": row["output_token_per_s"]} for row in side] for side in rows
    ]
    found = find(runs_with((config(), rates[0]), (config("fp8"), rates[1])), Options())
    figure = waterfalls(found.lines, found.names)
    assert figure is not None
    assert svg(specification(figure))
    steps = [row for row in figure.rows if row["quantity"] == "Time of a step"]
    before, *between, after = (row["value"] for row in steps)
    assert sum(between) == pytest.approx(after - before)
    assert {row["bar"] for row in steps} > {WEIGHTS, KV_TOKEN, KV_TOKENS, REST}
    assert f"ms by {WEIGHTS}" in figure.advice


def test_fewer_bytes_of_the_kv_cache_are_named_with_their_size() -> None:
    found = step_time(of_simulated("kv-fp8"))
    of = bars(found)
    assert found is not None
    assert found.difference < -0.1
    assert of[KV_TOKEN].value == pytest.approx(found.difference, rel=0.1)
    assert of[WEIGHTS].value == 0
    assert abs(of[KV_TOKENS].value) < 0.01 * abs(found.difference)


def test_longer_contexts_are_more_tokens_and_no_larger_ones() -> None:
    """Of 800 tokens more there are 400 more in the cache on average. Prompts are then in fewer of the steps,
    which is in the rest."""
    of = bars(step_time(of_simulated("none", longer=3.0)))
    assert of[KV_TOKENS].value == pytest.approx(1e3 * REQUESTS * 400 * TOKEN_BYTES * BYTE_S, rel=0.1)
    assert -0.1 < of[REST].value < 0
    assert of[KV_TOKEN].value == 0


def test_of_two_at_once_both_are_named() -> None:
    alone = [bars(step_time(of_simulated(opt))) for opt in ("fp8", "kv-fp8")]
    found = step_time(of_simulated("[fp8,kv-fp8]"))
    both = bars(found)
    assert both[WEIGHTS].value == pytest.approx(alone[0][WEIGHTS].value)
    assert both[KV_TOKEN].value == pytest.approx(alone[1][KV_TOKEN].value, rel=0.01)
    assert found is not None
    assert both[WEIGHTS].value + both[KV_TOKEN].value == pytest.approx(found.difference, rel=0.1)


def test_a_slower_host_is_in_the_rest() -> None:
    plain = config()
    rows = [stepping(plain, 0.0055 + run * 1e-5) for run in range(3)]
    slow = [row | {"output_token_per_s": 1 / (1 / row["output_token_per_s"] + 0.002 / 8)} for row in rows]
    of = bars(found := step_time(pair((plain, rows), (plain, slow))))
    assert of[REST].value == pytest.approx(2.0)
    assert {name for name, bar in of.items() if bar.value} == {REST}
    assert found is not None
    assert of[REST].sure


def test_a_kernel_that_makes_nothing_of_fewer_bytes_is_in_the_rest() -> None:
    """As four-bit weights that are unpacked first: the step takes no less."""
    rows = [stepping(config(), 0.0055 + run * 1e-5) for run in range(3)]
    of = bars(found := step_time(pair((config(), rows), (config("awq"), rows))))
    assert of[REST].value == pytest.approx(-of[WEIGHTS].value)
    assert of[REST].value > 1
    assert found is not None
    assert "by itself would make it" in found.saw


DRAFTED = {"spec_tokens_per_step": 2.5, "spec_acceptance_rate": 0.5}  # three drafts a step


def speculating(**columns: Any) -> Pair:
    of = [
        config_of("model=r1-14b", "engine=vllm", "hardware=h200", f"opt={opt}")
        for opt in ("none", "spec-draft")
    ]
    settings = Settings(**{name.replace("-", "_"): value for name, value in described(of[0], 1).items()})
    drafts = 3 * (draft_gib(of[1].model, of[1].opt.values()) or 0.0)
    steps = [
        step_s(one, 1, 8, 2400, 8)
        for one in (settings, replace(settings, weights_gib=settings.weights_gib + drafts))
    ]
    rows = [
        [stepping(config, step * (1 + run / 500), **others) for run in range(3)]
        for config, step, others in zip(of, steps, ({}, columns), strict=True)
    ]
    return pair((of[0], rows[0]), (of[1], rows[1]))


def test_what_a_draft_model_reads_is_its_own_bar() -> None:
    of = bars(found := step_time(speculating(**DRAFTED)))
    assert found is not None
    assert found.difference > 5
    assert of[DRAFT].value == pytest.approx(found.difference, rel=0.1)


def test_a_draft_model_that_cannot_be_told_apart_is_named_in_the_rest() -> None:
    of = bars(step_time(speculating(spec_tokens_per_step=2.5)))
    assert DRAFT not in of
    (name,) = (name for name in of if name.startswith("all else"))
    assert "draft model" in name
    assert of[name].value > 5


def test_over_several_gpus_each_reads_its_part_and_communication_is_in_the_rest() -> None:
    one, two = ({"tensor_parallel_size": size} for size in (1, 2))
    plain = config()
    rows = [stepping(plain, 0.0055 + run * 1e-5) for run in range(3)]
    of = pair((plain, [row | one for row in rows]), (plain, [row | two for row in rows]))
    before, after = (reads(side.row) for side in (of.baseline, of.variant))
    assert before is not None
    assert after is not None
    assert after.weights == pytest.approx(before.weights / 2)
    assert after.kv_token == pytest.approx(before.kv_token / 2)
    assert any("communication" in name for name in bars(step_time(of)))


def test_without_a_datasheet_all_of_the_baselines_step_counts_as_reading() -> None:
    plain, other = (config(opt, "hardware.bandwidth_gb_s=null") for opt in ("none", "fp8"))
    before, after = (stepping(of, step, gpu_type="cpu") for of, step in ((plain, 0.0055), (other, 0.0035)))
    found = step_time(pair((plain, [before] * 3), (other, [after] * 3)))
    read = [reads(side.row) for side in (found.pair.baseline, found.pair.variant)] if found else []
    whole = [one.weights + one.kv_tokens * one.kv_token for one in read if one is not None]
    assert bars(found)[WEIGHTS].value == pytest.approx(5.5 * (whole[1] - whole[0]) / whole[0])
    assert found is not None
    assert "the most that they can be" in found.note


def test_a_baseline_that_does_better_than_is_assumed_reads_all_the_time() -> None:
    plain = config()
    read = reads(pair((plain, [stepping(plain, 1.0)]), (plain, [stepping(plain, 1.0)])).baseline.row)
    assert read is not None
    fastest = (read.weights + read.kv_tokens * read.kv_token) / 4800e9
    for share, said in ((0.9, "at 90 % of the datasheet"), (0.5, "whole step is 50 %")):
        rows = [stepping(plain, fastest / share)] * 3
        found = step_time(pair((plain, rows), (config("fp8"), rows)))
        assert found is not None
        assert said in found.note
    rows = [stepping(plain, 0.99 * fastest)] * 3
    assert step_time(pair((plain, rows), (config("fp8"), rows))) is None, "it cannot have read that"


def test_one_run_has_no_interval() -> None:
    found = step_time(pair((config(), [served("none", 0)]), (config("fp8"), [served("fp8", 0)])))
    assert all(bar.low is None and bar.high is None for bar in bars(found).values())


def test_the_datasheet_of_a_gpu_that_was_found_here_is_the_catalogues() -> None:
    found = config_of(*COMMON[:3], "opt=none", "hardware=auto")
    rows = {
        name: {"provenance": {"config": asdict(found)}, "gpu_type": name} for name in ("h200", "cpu", "none")
    }
    assert {name: bandwidth(row) for name, row in rows.items()} == {"h200": 4800e9, "cpu": None, "none": None}
    fast = {"config": asdict(config_of(*COMMON[:2], "engine=simulated", "opt=none", "+engine.args.speed=10"))}
    assert bandwidth({"provenance": fast, "gpu_type": "h200", "simulated": True}) == 48000e9


def test_eight_bit_weights_on_h200s_explain_what_was_measured() -> None:
    """The released cells, one run of each: fewer bytes of the weights by themselves would save what fp8 does,
    and up to 27 % more."""
    study = load(ROOT / "docs" / "data" / "h200-four", "tp-vllm")
    found, _ = sort_out([Run("tp-vllm", row) for row in study.cells.collect().to_dicts()])
    sides = {tuple(one.facts[name] for name in ("model", "gpus", "opt")): one for one in found}
    shares = {}
    for (model, gpus, opt), variant in sides.items():
        if opt == "fp8" and (model, gpus, "none") in sides:
            waterfall = step_time(Pair(OPTIMIZATION, sides[model, gpus, "none"], variant))
            assert waterfall is not None
            shares[model, gpus] = bars(waterfall)[WEIGHTS].value / waterfall.difference
    assert len(shares) == 5
    assert all(1.0 < share < 1.3 for share in shares.values()), shares


UNKNOWN: Mapping[str, dict[str, Any]] = {
    "how many ran": {"running_mean": None},
    "how long they were": {"output_length_mean": None, "output_tokens": None},
    "how fast": {"output_token_per_s": None},
    "another GPU": {"gpu_type": "h100"},
    "somebody else's server": {"engine": "external"},
    "an old row": {"provenance": {"config": {"model": {"name": "r1-7b"}}}},
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_where_a_number_is_missing_there_is_no_waterfall(what: str) -> None:
    plain = config()
    rows = [stepping(plain, 0.0055)] * 3
    lacking = [row | UNKNOWN[what] for row in rows]
    known = {"gpu_type": "h200"}
    assert (
        step_time(pair((plain, [row | known for row in rows]), (plain, [known | row for row in lacking])))
        is None
    )
    assert (
        step_time(pair((plain, [row | known for row in rows]), (plain, [row | known for row in rows])))
        is not None
    )


def test_a_request_is_half_as_long_on_average_as_at_its_end_and_long_ones_are_there_longer() -> None:
    """One answer of 100 tokens and one of 300: 100 steps at 50 on average, 300 at 150."""
    row = stepping(config(), 0.0055, running=2.0, output_length_mean=200.0, output_length_sd=100.0)
    found = reads({"provenance": {"config": asdict(config())}, **row})
    assert found is not None
    assert found.kv_tokens / 2 == pytest.approx(100 + (100 * 50 + 300 * 150) / 400)
    assert found.kv_token == pytest.approx(TOKEN_BYTES)


def test_the_share_that_the_report_assumes_is_not_the_simulated_engines_own() -> None:
    assert not math.isclose(explained.REACHED, BANDWIDTH_REACHED)
