"""Whether a deployment fits, and on how many GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.schema import (
    DraftShape,
    EngineConfig,
    HardwareConfig,
    LoadConfig,
    ModelConfig,
    OptConfig,
    RayConfig,
    SweepConfig,
)
from orchestrator.memory import weights_gib
from orchestrator.plan.fit import fit, nodes_of, sizes_of
from tests.support.compose import config_of
from tests.support.shapes import DEEPSEEK_V3, DRAFTED, GEMMA_3_27B, GPT_OSS_20B

H200 = HardwareConfig(name="h200", kind="gpu", memory_gib=143771 / 1024, bandwidth_gb_s=4800)
H100 = replace(H200, name="h100", memory_gib=79.6)
R1_7B = config_of("model=r1-7b").model
R1_70B = config_of("model=r1-70b").model
FP8 = {"fp8": OptConfig(weight_bytes=1.0)}
CLUSTER = RayConfig(address="10.0.0.1:6379")
HUGE = replace(R1_70B, name="huge", parameters_b=405.0, layers=126, hidden_size=16384, heads=128)


def job(model: ModelConfig, **changes: Any) -> SweepConfig:
    base = SweepConfig(model=model, load=LoadConfig(kind="closed", concurrency=64), max_tokens=2048)
    return replace(base, **changes)


def planned(*overrides: str, hardware: str = "h100") -> tuple[int, str | None]:
    config = config_of(f"hardware={hardware}", "engine=vllm", *overrides)
    found = fit(config, config.hardware)
    return found.tensor_parallel_size, found.reason


def test_a_70b_model_in_bf16_takes_two_h200s_for_64_requests_and_one_in_fp8_for_a_few() -> None:
    assert fit(job(R1_70B), H200).tensor_parallel_size == 2
    few = job(R1_70B, opt=FP8, load=LoadConfig(kind="closed", concurrency=8))
    assert fit(few, H200).tensor_parallel_size == 1


def test_what_cannot_fit_says_so_with_the_arithmetic() -> None:
    fitted = fit(job(R1_70B, tensor_parallel_size=1), H100)
    assert fitted.reason is not None
    assert "weights 131.4 GiB" in fitted.reason
    assert "1 x 71.6 GiB" in fitted.reason


def test_a_draft_model_that_does_not_fit_beside_its_model_is_not_planned_there() -> None:
    """r1-32b leaves 8.6 GiB of an H100, and its draft is 14.2."""
    alone = ("model=r1-32b", "load=closed", "tensor_parallel_size=1")
    assert planned(*alone) == (1, None)
    _, reason = planned(*alone, "opt=spec-draft")
    assert reason is not None
    assert "weights 61.0 GiB + draft model 14.2 GiB" in reason
    assert planned("model=r1-32b", "load=closed", "opt=spec-draft") == (2, None)


def test_a_draft_of_unknown_size_is_asked_for_unless_the_size_is_forced() -> None:
    overrides = ("model=r1-32b", "opt=spec-draft", "model.draft=org/other")
    _, reason = planned(*overrides)
    assert reason is not None
    assert reason.startswith("model.draft=org/other: its size is not known; give model.draft_shapes.draft")
    assert planned(*overrides, "tensor_parallel_size=4") == (4, None)
    shape = "model.draft_shapes.draft={hub_id:org/other,parameters_b:0.5,layers:24,kv_heads:2,head_dim:64}"
    assert planned(*overrides, shape) == (2, None)


def test_a_size_divides_the_heads_of_a_draft_too() -> None:
    """qwen2.5-14b has 40 attention heads, and its draft 28."""
    model = config_of("model=qwen2.5-14b").model
    spec = {"spec-draft": OptConfig(needs="draft")}
    assert sizes_of(job(model), H100) == [1, 2, 4, 8]
    assert sizes_of(job(model, opt=spec), H100) == [1, 2, 4]
    _, reason = planned("model=qwen2.5-14b", "opt=spec-draft", "tensor_parallel_size=8")
    assert reason == (
        "tensor_parallel_size=8: does not divide the 28 attention heads of its draft Qwen/Qwen2.5-7B-Instruct"
    )
    assert planned("model=qwen2.5-14b", "tensor_parallel_size=8") == (8, None)
    assert planned("model=qwen2.5-14b", "opt=spec-draft", "tensor_parallel_size=4") == (4, None)


def test_a_latent_cache_fits_where_keys_and_values_of_every_head_would_not() -> None:
    """DeepSeek-V3 on eight H200: a context of 163,840 tokens is 11 GB on each, and would be 656 GB in all."""
    asked = job(DEEPSEEK_V3, engine=EngineConfig(name="vllm"))
    latents = fit(asked, H200)
    assert (latents.tensor_parallel_size, latents.reason) == (8, None)
    assert latents.kv_gib == pytest.approx(8 * (0.9 * 140.4 - 2) - 627, rel=0.01)
    heads = replace(DEEPSEEK_V3, kv_lora_rank=None, qk_rope_head_dim=None)
    refused = fit(replace(asked, model=heads), H200)
    assert refused.reason is not None
    assert "163840 tokens of KV cache 610.0 GiB" in refused.reason


@pytest.mark.parametrize(
    ("model", "concurrency", "windows", "without"), [(GPT_OSS_20B, 200, 1, 2), (GEMMA_3_27B, 32, 1, 4)]
)
def test_windows_let_more_requests_onto_a_gpu(
    model: ModelConfig, concurrency: int, windows: int, without: int
) -> None:
    plain = replace(model, sliding_window=None, sliding_window_layers=None)
    load = LoadConfig(kind="closed", concurrency=concurrency)
    sizes = [fit(job(one, max_tokens=16384, load=load), H200).tensor_parallel_size for one in (model, plain)]
    assert sizes == [windows, without]


def test_what_sglang_is_left_with_must_hold_its_activations() -> None:
    asked = job(R1_7B, engine=EngineConfig(name="sglang"))
    assert fit(asked, H100).reason is None
    full = fit(asked, replace(H100, gpu_memory_utilization=0.99))
    assert full.reason is not None
    assert full.reason.startswith("hardware.gpu_memory_utilization=0.99: ")
    assert "0.8 GiB per GPU are left for activations" in full.reason
    vllm = fit(replace(asked, engine=EngineConfig(name="vllm")), replace(H100, gpu_memory_utilization=0.99))
    assert vllm.reason is None


def test_what_is_too_large_for_sglang_is_said_in_its_own_terms() -> None:
    fitted = fit(job(R1_70B, engine=EngineConfig(name="sglang"), tensor_parallel_size=1), H100)
    assert fitted.reason is not None
    assert "overhead" not in fitted.reason
    assert "> 1 x 70.4 GiB for weights and KV cache of h100" in fitted.reason


@pytest.mark.parametrize(("size", "gpus_per_node", "nodes"), [(16, 8, 2), (32, 8, 4), (2, 1, 2), (16, 4, 4)])
def test_a_size_beyond_one_node_takes_whole_nodes(size: int, gpus_per_node: int, nodes: int) -> None:
    hardware = replace(H200, gpus_per_node=gpus_per_node)
    fitted = fit(job(R1_70B, tensor_parallel_size=size), hardware)
    assert (fitted.tensor_parallel_size, fitted.reason) == (size, None)
    assert nodes_of(size, hardware) == nodes


def test_a_size_that_no_nodes_can_share_is_refused_with_why() -> None:
    odd = fit(job(R1_70B, tensor_parallel_size=11), H200)
    assert odd.reason == "tensor_parallel_size=11: is not divided evenly by the 2 nodes it takes"
    heads = fit(job(R1_7B, tensor_parallel_size=16), H200)
    assert heads.reason == "tensor_parallel_size=16: does not divide the 28 attention heads of r1-7b"


@pytest.mark.parametrize(("engine", "refused"), [("vllm", True), ("sglang", True), ("simulated", False)])
def test_a_size_that_does_not_divide_the_heads_is_refused_on_one_node_too(engine: str, refused: bool) -> None:
    config = replace(job(R1_7B, tensor_parallel_size=3), engine=EngineConfig(name=engine))
    assert (fit(config, H200).reason is not None) == refused


def test_auto_takes_no_size_that_splits_key_value_heads_unevenly() -> None:
    """40 heads in 10 groups: four GPUs would have two and a half groups each."""
    uneven = replace(R1_70B, heads=40, kv_heads=10)
    assert sizes_of(job(uneven), H100) == [1, 2]
    assert sizes_of(job(R1_70B), H100) == [1, 2, 4, 8]
    latents = replace(uneven, kv_lora_rank=512, qk_rope_head_dim=64)
    assert sizes_of(job(latents), H100) == [1, 2, 4, 8], "a latent is not split at all"


def test_what_no_node_holds_goes_over_several_of_a_cluster_by_itself_and_nothing_else_does() -> None:
    over = fit(job(HUGE, ray=CLUSTER), H100)
    assert (over.tensor_parallel_size, over.reason) == (16, None)
    alone = fit(job(HUGE), H100)
    assert alone.reason is not None
    assert "> 8 x 71.6 GiB usable of h100" in alone.reason
    many = LoadConfig(kind="closed", concurrency=4096)
    assert fit(job(R1_70B, ray=CLUSTER, load=many), H100).tensor_parallel_size == 2


def test_what_not_even_several_nodes_hold_says_so_with_the_arithmetic() -> None:
    endless = fit(job(replace(HUGE, parameters_b=4050.0), tensor_parallel_size=16), H100)
    assert endless.reason is not None
    assert "weights 7543.7 GiB" in endless.reason
    assert endless.reason.endswith("> 16 x 71.6 GiB usable of h100, 2 nodes of 8")


def test_without_the_catalogues_numbers_nothing_is_claimed() -> None:
    fitted = fit(job(ModelConfig(name="mine")), H200)
    assert (fitted.weights_gib, fitted.kv_gib, fitted.reason) == (None, None, None)


def test_a_server_that_runs_already_has_its_own_size_whatever_the_load() -> None:
    for concurrency in (8, 4096):
        load = LoadConfig(kind="closed", concurrency=concurrency)
        found = fit(job(R1_70B, engine=EngineConfig(name="external"), load=load), H100)
        assert (found.tensor_parallel_size, found.kv_gib, found.reason) == (1, None, None)


@given(st.sampled_from([R1_7B, R1_70B]), st.integers(1, 1024), st.integers(1, 32_000), st.floats(40, 200))
def test_a_chosen_size_divides_the_heads_and_holds_the_weights(
    model: ModelConfig, concurrency: int, max_tokens: int, memory_gib: float
) -> None:
    load = LoadConfig(kind="closed", concurrency=concurrency)
    fitted = fit(job(model, load=load, max_tokens=max_tokens), replace(H200, memory_gib=memory_gib))
    assert model.heads is not None
    assert model.heads % fitted.tensor_parallel_size == 0
    if fitted.reason is None:
        weights = weights_gib(model, [])
        assert weights is not None
        assert weights < fitted.tensor_parallel_size * memory_gib * 0.9


@given(st.floats(0.5, 2.0))
def test_smaller_weights_never_need_more_gpus(weight_bytes: float) -> None:
    full = fit(job(R1_70B), H200)
    small = fit(job(R1_70B, opt={"q": OptConfig(weight_bytes=weight_bytes)}), H200)
    assert small.tensor_parallel_size <= full.tensor_parallel_size


@given(st.floats(0.1, 60.0), st.sampled_from(["vllm", "sglang"]))
def test_a_larger_draft_never_leaves_more_kv_cache(parameters_b: float, engine: str) -> None:
    larger = DraftShape("org/draft", parameters_b=parameters_b, layers=16, kv_heads=2, head_dim=64)
    spec = {"spec": OptConfig(needs="draft")}
    asked = job(DRAFTED, opt=spec, engine=EngineConfig(name=engine), tensor_parallel_size=1)
    with_draft = fit(replace(asked, model=replace(DRAFTED, draft_shapes={"draft": larger})), H200)
    without = fit(replace(asked, opt={}), H200)
    assert without.kv_gib is not None
    if with_draft.kv_gib is not None:
        assert with_draft.kv_gib == pytest.approx(without.kv_gib - parameters_b * 2e9 / 2**30)


def test_vllm_needs_room_for_its_whole_context_and_other_engines_for_one_request() -> None:
    """70.6 GB in fp8 leave some 10,000 tokens of KV cache on an H100."""
    asked = job(R1_70B, opt=FP8, tensor_parallel_size=1, load=LoadConfig(kind="closed", concurrency=8))
    assert fit(replace(asked, engine=EngineConfig(name="sglang")), H100).reason is None
    refused = fit(replace(asked, engine=EngineConfig(name="vllm")), H100)
    assert refused.reason is not None
    assert "34816 tokens of KV cache" in refused.reason
    short = replace(asked, engine=EngineConfig(name="vllm"), model=replace(R1_70B, context=4096))
    assert fit(short, H100).reason is None
