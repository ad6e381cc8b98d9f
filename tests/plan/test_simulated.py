"""A simulated engine in the plan: what it is told, what it cannot do, and that it is shown apart."""

from __future__ import annotations

import io
import re
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cluster.run import _local_resources, _study_label
from orchestrator.engines.launch import build_launch
from orchestrator.engines.simulated import ADAPTER
from orchestrator.engines.simulated.settings import Settings, parse
from orchestrator.errors import ConfigError
from orchestrator.paths import conf_dir
from orchestrator.plan.compatibility import skip_reason
from orchestrator.plan.hardware import resolve
from orchestrator.plan.plan import Job, Plan, make_plan
from orchestrator.plan.resolve_job import resolve_job
from orchestrator.progress.plan_table import show
from tests.support.compose import config_of

MODELS = sorted(file.stem for file in (conf_dir() / "model").glob("*.yaml"))
GPUS = sorted(
    file.stem for file in (conf_dir() / "hardware").glob("*.yaml") if file.stem not in ("auto", "cpu")
)


def plan_of(folder: Path, *cells: tuple[str, ...]) -> Plan:
    jobs = [Job(cell, config_of(*cell, f"results_dir={folder}")) for cell in cells]
    return make_plan(jobs)


def settings_of(*overrides: str) -> Settings:
    """What the server itself makes of its command line."""
    config = config_of("engine=simulated", *overrides)
    launch = build_launch(config, hardware="gpu", tensor_parallel_size=2)
    words = ADAPTER.command(launch)
    return parse(words[words.index("-c") + 2 :])[0]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_whole_catalogue_can_be_simulated_on_every_gpu(model: str) -> None:
    planned = {}
    for gpu in GPUS:
        config = config_of("engine=simulated", f"model={model}", f"hardware={gpu}")
        found = resolve_job(config, (), config.hardware)
        planned[gpu] = found.reason
        assert found.reason is None or found.reason.startswith("does not fit"), (gpu, found.reason)
    assert planned["h200"] is None


def test_it_is_told_what_the_catalogue_knows() -> None:
    settings = settings_of("model=r1-7b", "opt=[fp8,kv-fp8]", "hardware=h200")
    assert settings.parameters_b == pytest.approx(7.6, abs=0.1)
    assert settings.weights_gib == pytest.approx(8.1, abs=0.1)
    assert settings.kv_bytes_per_token == 28672
    assert (settings.bandwidth_gb_s, settings.bf16_tflops) == (4800, 989)
    assert settings.compute_8bit
    assert settings.reasoning
    assert not settings.enable_prefix_caching
    assert settings.max_model_len == 34816
    assert settings_of("opt=prefix-cache").enable_prefix_caching
    assert settings_of("opt=chunked-prefill").max_num_batched_tokens == 2048


def test_it_is_told_of_a_mixtures_active_parameters_and_of_a_latent_on_every_gpu() -> None:
    latent = ("model.kv_lora_rank=512", "model.qk_rope_head_dim=64")
    experts = ("model.experts=8", "model.experts_per_token=2", "model.expert_parameters_b=4")
    settings = settings_of("model=r1-7b", "hardware=h200", *latent, *experts)
    assert settings.kv_bytes_per_token == 2 * (512 + 64) * 28 * 2  # on both of two
    assert settings.parameters_b == pytest.approx(7.615616512 - 3.0)
    assert settings.weights_gib == pytest.approx(14.2, abs=0.1)


def test_every_setting_can_be_given_by_its_flag() -> None:
    given = {
        "speed": 4.0,
        "accuracy": 0.0,
        "mean-output-tokens": 33.0,
        "start-seconds": 0.0,
        "oom-at-start": True,
        "crash-after-requests": 5,
        "kv-gib": 0.5,
    }
    settings = settings_of(*(f"++engine.args.{name}={value}" for name, value in given.items()))
    assert {name: getattr(settings, name.replace("-", "_")) for name in given} == given
    assert {field.name for field in fields(Settings)} >= {name.replace("-", "_") for name in given}


@pytest.mark.parametrize(
    ("arg", "why"),
    [
        ("sped=2", "is no flag of the simulated engine; it has .*speed"),
        ("speed=0", "must be above 0"),
        ("speed=fast", "must be a number"),
        ("accuracy=1.5", "from 0 to 1"),
        ("crash-after-requests=1.5", "whole number"),
        ("oom-at-start=1", "true or false"),
        ("tensor-parallel-size=2", "is set by tensor_parallel_size"),
    ],
)
def test_a_wrong_argument_is_said_before_anything_starts(arg: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine\.args\.{arg.split('=')[0]}.*{why}"):
        settings_of(f"++engine.args.{arg}")


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("hardware=cpu",), "needs a GPU whose memory_gib is known"),
        (("hardware=auto",), "needs a GPU"),
        (("hardware=h200", "hardware.bandwidth_gb_s=null"), "bandwidth_gb_s"),
        (("model.kv_heads=null",), r"needs model\.kv_heads"),
        (("model.sliding_window=128",), "has no sliding window in its KV cache"),
        (("opt=spec-ngram",), "has no measurement to follow"),
        (("model=r1-70b", "hardware=l40s", "tensor_parallel_size=1"), "does not fit"),
    ],
)
def test_what_it_cannot_simulate_is_skipped_with_the_reason(overrides: tuple[str, ...], why: str) -> None:
    config = config_of("engine=simulated", *overrides)
    hardware = resolve(config.hardware, None)
    found = resolve_job(config, (), hardware)
    assert found.reason is not None
    assert re.search(why, found.reason), found.reason


def test_its_default_hardware_is_declared_and_gives_way_to_the_users() -> None:
    assert config_of("engine=simulated").hardware.name == "h200"
    assert config_of("engine=simulated", "hardware=h100").hardware.name == "h100"
    assert config_of().hardware.name == "auto"


def test_neither_engine_nor_speed_nor_fault_can_be_mistaken_for_another_cell(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        ("engine=simulated",),
        ("engine=vllm", "hardware=h200"),
        ("engine=simulated", "++engine.args.speed=2"),
        ("engine=simulated", "++engine.args.crash-after-requests=2"),
    )
    assert len({planned.cell.cell_id for planned in plan.cells}) == 4
    assert [planned.cell.simulated for planned in plan.cells] == [True, False, True, True]


def test_a_mixed_plan_is_two_tables_and_two_sums(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ("engine=simulated", "limit=8"), ("engine=vllm", "hardware=h200", "limit=8"))
    said = io.StringIO()
    show(plan, Console(file=said, width=160))
    real, simulated = said.getvalue().split("SIMULATED, nothing will be measured")
    assert "vllm" in real
    assert "simulated" not in real
    assert "vllm" not in simulated
    document = plan.to_json()
    assert [one["simulated"] for one in document["cells"]] == [True, False]
    assert {one["engine"]: one["simulated"] for one in document["deployments"]} == {
        "simulated": True,
        "vllm": False,
    }
    hours = {one["engine"]: one["estimated_gpu_hours"] for one in document["deployments"]}
    assert document["totals"]["gpu_hours"] == hours["vllm"]
    assert document["totals"]["simulated_gpu_hours"] == hours["simulated"]
    assert all(
        plan.label(planned.cell).startswith("SIMULATED ") == planned.cell.simulated for planned in plan.cells
    )
    assert [one.label.count("SIMULATED") for one in plan.deployments] == [
        int(one.simulated) for one in plan.deployments
    ]


def test_estimates_are_of_the_sweeps_own_time_and_gpu_hours_of_the_hardwares(tmp_path: Path) -> None:
    load = ("hardware=h200", "limit=64", "load=closed")
    real, plain, fast = (
        plan_of(tmp_path, (*engine, *load)).deployments[0]
        for engine in (
            ("engine=vllm",),
            ("engine=simulated",),
            ("engine=simulated", "++engine.args.speed=20"),
        )
    )
    assert real.estimated_s is not None
    assert plain.estimated_s == real.estimated_s
    assert fast.estimated_s == pytest.approx(real.estimated_s / 20)
    assert fast.estimated_gpu_hours == pytest.approx(real.estimated_gpu_hours)
    paced = ("load=constant", "load.rate=2", "hardware=h200", "limit=64", "engine=simulated")
    quick = plan_of(tmp_path, (*paced, "++engine.args.speed=1000", "++engine.args.start_seconds=5"))
    assert quick.deployments[0].estimated_s == pytest.approx(64 / 2, rel=0.1), "arrivals are in real time"


def test_gpus_are_declared_only_where_nothing_real_could_get_them(tmp_path: Path) -> None:
    simulated, real = ("engine=simulated", "limit=8"), ("engine=vllm", "hardware=h200", "limit=8")
    cpus, declared = _local_resources(plan_of(tmp_path, simulated))
    assert declared == {"GPU": 8.0, "accelerator_type:H200": 1.0}
    assert cpus == 48
    assert _local_resources(plan_of(tmp_path, simulated, real))[1] is None
    assert _local_resources(plan_of(tmp_path, real))[1] is None
    on_the_cpu = ("engine=vllm", "hardware=cpu", "limit=8")
    assert _local_resources(plan_of(tmp_path, on_the_cpu))[1] is None
    assert _local_resources(plan_of(tmp_path, simulated, on_the_cpu))[1] == declared


def test_dashboards_are_given_a_name_that_says_it(tmp_path: Path) -> None:
    simulated, real = ("engine=simulated", "limit=8"), ("engine=vllm", "hardware=h200", "limit=8")
    assert _study_label(plan_of(tmp_path, simulated)) == "default SIMULATED"
    assert _study_label(plan_of(tmp_path, simulated, real)) == "default partly SIMULATED"
    assert _study_label(plan_of(tmp_path, real)) == "default"


def test_skipping_is_decided_without_the_engine() -> None:
    config = config_of("engine=simulated", "model=smollm2-135m")
    assert skip_reason(config, config.hardware) is None
