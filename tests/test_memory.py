from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.schema import (
    EngineConfig,
    HardwareConfig,
    LoadConfig,
    ModelConfig,
    OptConfig,
    RayConfig,
    SweepConfig,
)
from orchestrator.memory import GIB, copies, fit, kv_bytes_per_token, nodes_of, weights_gib

H200 = HardwareConfig(name="h200", kind="gpu", memory_gib=143771 / 1024, bandwidth_gb_s=4800)
R1_7B = ModelConfig(
    name="r1-7b",
    parameters_b=7.615616512,
    layers=28,
    hidden_size=3584,
    heads=28,
    kv_heads=4,
    head_dim=128,
    vocab_size=152064,
    context=34816,
)
R1_70B = ModelConfig(
    name="r1-70b",
    parameters_b=70.553706496,
    layers=80,
    hidden_size=8192,
    heads=64,
    kv_heads=8,
    head_dim=128,
    vocab_size=128256,
    context=34816,
)
FP8 = {"fp8": OptConfig(weight_bytes=1.0)}


def job(model: ModelConfig, **changes: object) -> SweepConfig:
    base = SweepConfig(model=model, load=LoadConfig(kind="closed", concurrency=64), max_tokens=2048)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("opt", "reported"), [({}, 2_062_544), (FP8, 2_228_464)], ids=["bf16", "fp8"])
def test_the_kv_cache_of_a_7b_model_is_within_3_percent_of_what_vllm_reports_on_an_h200(
    opt: dict[str, OptConfig], reported: int
) -> None:
    """vLLM 0.25.1's own "GPU KV cache size" at 0.9 of memory."""
    fitted = fit(job(R1_7B, opt=opt), H200)
    per_token = kv_bytes_per_token(R1_7B, opt.values())
    assert fitted.kv_gib is not None
    assert per_token is not None
    assert fitted.kv_gib * GIB / per_token == pytest.approx(reported, rel=0.03)


def test_a_70b_model_in_bf16_takes_two_h200s_for_64_requests_and_one_in_fp8_for_a_few() -> None:
    assert fit(job(R1_70B), H200).tensor_parallel_size == 2
    few = job(R1_70B, opt=FP8, load=LoadConfig(kind="closed", concurrency=8))
    assert fit(few, H200).tensor_parallel_size == 1


def test_what_cannot_fit_says_so_with_the_arithmetic() -> None:
    fitted = fit(job(R1_70B, tensor_parallel_size=1), replace(H200, memory_gib=79.6))
    assert fitted.reason is not None
    assert "weights 131.4 GiB" in fitted.reason
    assert "1 x 71.6 GiB" in fitted.reason


CLUSTER = RayConfig(address="10.0.0.1:6379")
H100 = replace(H200, name="h100", memory_gib=79.6)
HUGE = replace(R1_70B, name="huge", parameters_b=405.0, layers=126, hidden_size=16384, heads=128)


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


def test_key_value_heads_that_are_fewer_than_the_gpus_are_stored_more_than_once() -> None:
    assert [copies(R1_70B, size) for size in (1, 8, 16)] == [1.0, 1.0, 2.0]


def test_without_the_catalogues_numbers_nothing_is_claimed() -> None:
    fitted = fit(job(ModelConfig(name="mine")), H200)
    assert (fitted.weights_gib, fitted.kv_gib, fitted.reason) == (None, None, None)


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


def test_vllm_needs_room_for_its_whole_context_and_other_engines_for_one_request() -> None:
    """70.6 GB in fp8 leave some 10,000 tokens of KV cache on an H100."""
    asked = job(R1_70B, opt=FP8, tensor_parallel_size=1, load=LoadConfig(kind="closed", concurrency=8))
    assert fit(replace(asked, engine=EngineConfig(name="sglang")), H100).reason is None
    refused = fit(replace(asked, engine=EngineConfig(name="vllm")), H100)
    assert refused.reason is not None
    assert "34816 tokens of KV cache" in refused.reason
    short = replace(asked, engine=EngineConfig(name="vllm"), model=replace(R1_70B, context=4096))
    assert fit(short, H100).reason is None
