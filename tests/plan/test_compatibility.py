"""Combinations that cannot work, or whose name promises what they do not change."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cell import sampling
from orchestrator.engines.adapter import HardwareKind
from orchestrator.engines.launch import build_launch
from orchestrator.plan.compatibility import cache_reason, idle_reason, skip_reason
from tests.support.compose import config_of

H200 = ("hardware=h200", "model=r1-7b", "max_tokens=512")


def reason(*overrides: str) -> str | None:
    config = config_of(*H200, *overrides)
    return skip_reason(config, config.hardware)


def test_no_request_is_seeded_unless_asked_for_in_the_sweep_or_on_the_model_s_card() -> None:
    assert sampling(config_of(*H200)).seeded is False
    assert sampling(config_of(*H200, "sampling.seeded=true")).seeded is True
    assert sampling(config_of(*H200, "model.sampling.seeded=true")).seeded is True
    assert sampling(config_of(*H200, "model.sampling.seeded=true", "sampling.seeded=false")).seeded is False


def test_sglang_is_not_said_to_be_seeded_where_it_would_not_heed_the_seeds() -> None:
    assert reason("engine=sglang") is None
    assert reason("engine=vllm", "sampling.seeded=true") is None
    assert "enable-deterministic-inference" in (reason("engine=sglang", "sampling.seeded=true") or "")
    for name in ("enable-deterministic-inference", "enable_deterministic_inference"):
        assert reason("engine=sglang", "sampling.seeded=true", f"+engine.args.{name}=true") is None


@pytest.mark.parametrize(
    ("engine", "args", "makes_sense"),
    [
        ("vllm", {"enable-prefix-caching": True}, True),
        ("vllm", {"enable-prefix-caching": False}, False),
        ("sglang", {}, True),
        ("sglang", {"disable-radix-cache": True}, False),
        ("simulated", {"enable-prefix-caching": True}, True),
        ("simulated", {}, False),
        ("external", {}, True),  # what it caches is not known here
    ],
)
def test_a_warm_cache_is_skipped_where_there_is_none(
    engine: str, args: dict[str, Any], makes_sense: bool
) -> None:
    warm = cache_reason(config_of(f"engine={engine}", "load.cache=warm"), args)
    assert warm is None if makes_sense else warm is not None and "opt=prefix-cache" in warm
    assert cache_reason(config_of(f"engine={engine}"), args) is None


def unchanged(engine: str, hardware: str, *overrides: str) -> str | None:
    config = config_of(f"engine={engine}", f"hardware={hardware}", "model=r1-7b", *overrides)
    config.hardware.memory_gib = config.hardware.memory_gib or 16.0
    kind: HardwareKind = "gpu" if config.hardware.kind == "gpu" else "cpu"
    launch = build_launch(config, hardware=kind, tensor_parallel_size=1, engine_version="0.32.0")
    return idle_reason(config, config.hardware, launch)


@pytest.mark.parametrize(
    ("engine", "hardware", "opt", "changes"),
    [
        *(("vllm", gpu, "cuda-graphs", False) for gpu in ("h200", "a100-80g")),
        *(("vllm", gpu, "chunked-prefill", False) for gpu in ("l40s", "a100-40g", "a100-80g", "cpu")),
        *(("vllm", gpu, "chunked-prefill", True) for gpu in ("h100", "h200", "b200")),
        *(("sglang", gpu, "chunked-prefill", True) for gpu in ("l40s", "a100-80g", "h200", "b200")),
        *(("vllm", "h200", opt, True) for opt in ("eager", "fp8", "kv-fp8", "prefix-cache", "spec-ngram")),
        *(("sglang", "h200", opt, True) for opt in ("eager", "fp8", "kv-fp8", "prefix-cache", "spec-ngram")),
        ("vllm", "h200", "awq", True),
        ("vllm", "h200", "none", True),
    ],
)
def test_an_optimization_that_the_engine_has_by_itself_is_not_measured_under_another_name(
    engine: str, hardware: str, opt: str, changes: bool
) -> None:
    said = unchanged(engine, hardware, f"opt=[{opt}]")
    assert said is None if changes else said is not None and f"opt={opt} changes nothing" in said


def test_an_optimization_that_the_users_own_arguments_undo_is_not_measured_under_its_name() -> None:
    own = "++engine.args.max-num-batched-tokens=4096"
    assert unchanged("vllm", "h200", "opt=[chunked-prefill]", own) is not None
    assert unchanged("vllm", "l40s", "opt=[chunked-prefill]", own) is not None
    assert unchanged("vllm", "h200", "opt=[fp8]", own) is None


@pytest.mark.parametrize(
    ("engine", "opt", "own", "says"),
    [
        ("vllm", "fp8", "quantization=awq", "opt.fp8.vllm.args.quantization=fp8"),
        ("sglang", "fp8", "quantization=w8a8_int8", "opt.fp8.sglang.args.quantization=fp8"),
        ("vllm", "fp8", "quantization=null", "engine.args.quantization=null"),
        ("vllm", "fp8", "quantization=fp8", None),
        ("vllm", "kv-fp8", "kv_cache_dtype=auto", "opt.kv-fp8.vllm.args.kv-cache-dtype=fp8_e4m3"),
        ("vllm", "eager", "enforce-eager=false", "engine.args.enforce-eager=false"),
        ("vllm", "prefix-cache", "enable-prefix-caching=false", "engine.args.enable-prefix-caching=false"),
        ("sglang", "prefix-cache", "disable-radix-cache=true", "engine.args.disable-radix-cache=true"),
        ("vllm", "spec-ngram", "speculative-config={method: suffix}", "speculative-config.method=ngram"),
        ("vllm", "spec-ngram", 'speculative-config=\'{"method": "suffix"}\'', "config.method=suffix"),
        ("vllm", "spec-ngram", "speculative-config={num_speculative_tokens: 5}", None),
        ("sglang", "spec-ngram", "speculative-algorithm=EAGLE", "args.speculative-algorithm=NGRAM"),
        ("sglang", "spec-ngram", "speculative-num-draft-tokens=8", None),
        ("sglang", "chunked-prefill", "chunked-prefill-size=512", "engine.args.chunked-prefill-size=512"),
        ("vllm", "fp8", "max-num-seqs=8", None),
    ],
)
def test_an_own_flag_that_contradicts_an_optimizations_is_named_with_it(
    engine: str, opt: str, own: str, says: str | None
) -> None:
    said = unchanged(engine, "h200", f"opt=[{opt}]", f"++engine.args.{own}")
    if says is None:
        assert said is None or "takes its place" not in said
    else:
        assert said is not None
        assert said.startswith(f"opt={opt} ")
        assert says in said
        assert "engine.args." in said


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_eight_bit_integers_have_no_kernel_on_a_b200(engine: str) -> None:
    typed = (f"engine={engine}", "opt=[w8a8]")
    said = skip_reason(config_of(*H200, *typed, "hardware=b200"), config_of("hardware=b200").hardware)
    assert said is not None
    assert "b200" in said
    assert "opt=fp8" in said
    assert reason(*typed) is None


@pytest.mark.parametrize("spec", ["opt=[spec-ngram]", "++engine.args.speculative-config={method: ngram}"])
def test_vllm_takes_no_min_p_with_speculation(spec: str) -> None:
    assert "min_p" in str(reason("engine=vllm", "sampling.min_p=0.1", spec))
    assert reason("engine=vllm", "sampling.min_p=0.1") is None
    assert reason("engine=vllm", "sampling.min_p=0", spec) is None
