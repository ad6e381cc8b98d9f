"""Weights and KV cache against what follows from public config.json files. The shapes stand here, not in the
catalogue, which need not have these models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.schema import (
    EngineConfig,
    EngineOptConfig,
    HardwareConfig,
    ModelConfig,
    OptConfig,
    SweepConfig,
)
from orchestrator.errors import ConfigError
from orchestrator.memory import (
    GIB,
    KvCache,
    active_parameters_b,
    copies,
    draft_gib,
    for_weights_and_kv_gib,
    impossible,
    kv_cache,
    kv_gib,
    unknown_draft,
    weights_gib,
    weights_read_gib,
)
from orchestrator.paths import conf_dir
from orchestrator.plan.rules import check_values
from tests.support.compose import config_of
from tests.support.shapes import DEEPSEEK_V3, DRAFTED, GEMMA_3_27B, GPT_OSS_20B, R1_7B

FP8 = [OptConfig(weight_bytes=1.0)]
KV_FP8 = [OptConfig(kv_bytes=1.0)]


def cache(model: ModelConfig, opts: list[OptConfig] | None = None, size: int = 1) -> KvCache:
    found = kv_cache(model, opts or [], size)
    assert found is not None
    return found


def test_every_token_of_a_plain_model_is_two_vectors_per_key_value_head_and_layer() -> None:
    assert cache(R1_7B) == KvCache(57_344.0)
    assert cache(R1_7B, KV_FP8) == KvCache(28_672.0)


def test_a_latent_is_cached_whole_on_every_gpu_and_not_per_head() -> None:
    """DeepSeek-V3: (512 + 64) · 61 layers · 2 bytes = 70,272 bytes a token."""
    assert cache(DEEPSEEK_V3).full == 70_272
    assert cache(DEEPSEEK_V3, KV_FP8).full == 35_136
    assert cache(DEEPSEEK_V3, size=8).full == 8 * 70_272
    as_heads = cache(replace(DEEPSEEK_V3, kv_lora_rank=None, qk_rope_head_dim=None)).full
    assert as_heads / cache(DEEPSEEK_V3).full == pytest.approx(57, abs=0.2)


@pytest.mark.parametrize(
    ("model", "tokens", "bytes_", "less"),
    [
        (GPT_OSS_20B, 100, 2 * 8 * 64 * 2 * 24 * 100, 1.0),  # all of it within the window
        (GPT_OSS_20B, 131_072, 2 * 8 * 64 * 2 * 12 * (131_072 + 128), 2.0),
        (GEMMA_3_27B, 1_024, 2 * 16 * 128 * 2 * 62 * 1_024, 1.0),
        (GEMMA_3_27B, 131_072, 2 * 16 * 128 * 2 * (10 * 131_072 + 52 * 1_024), 5.96),
    ],
)
def test_layers_with_a_window_keep_no_more_of_a_request_than_the_window(
    model: ModelConfig, tokens: int, bytes_: int, less: float
) -> None:
    assert cache(model).bytes_of(tokens) == bytes_
    plain = cache(replace(model, sliding_window=None, sliding_window_layers=None)).bytes_of(tokens)
    assert plain / bytes_ == pytest.approx(less, rel=0.01)


def test_where_all_layers_have_a_window_a_request_stops_growing() -> None:
    everywhere = cache(replace(R1_7B, sliding_window=4096))
    assert everywhere.bytes_of(100_000) == everywhere.bytes_of(4096) == 4096 * 57_344


def test_vllms_start_asks_for_the_whole_context_with_two_prefills_in_the_window_layers() -> None:
    kv = cache(GPT_OSS_20B)
    per_layer_token = 2 * 8 * 64 * 2
    expected = per_layer_token * 12 * (131_072 + 128 + 2 * 8_192)
    assert kv.least_bytes(131_072, "vllm") == expected
    assert kv.least_bytes(2_048, "vllm") == kv.bytes_of(100) * 2_048 / 100, "not more than all of it"


def test_sglangs_two_pools_are_filled_by_the_longer_need() -> None:
    """By default the window layers' pool has 0.8 of the other's tokens, whatever the requests do."""
    kv = cache(GPT_OSS_20B)
    per_token = 2 * 8 * 64 * 2 * 12
    assert kv.reserved_bytes(10_000, "sglang") == pytest.approx(per_token * 1.8 * 10_000)
    assert kv.reserved_bytes(100, "sglang") == pytest.approx(per_token * 1.8 * 125)
    assert cache(R1_7B).reserved_bytes(10_000, "sglang") == cache(R1_7B).bytes_of(10_000)


def test_key_value_heads_that_are_fewer_than_the_gpus_are_stored_more_than_once() -> None:
    assert [copies(8, size) for size in (1, 8, 16)] == [1.0, 1.0, 2.0]
    assert [cache(R1_7B, size=size).full / 57_344 for size in (1, 2, 4, 8)] == [1.0, 1.0, 1.0, 2.0]


def test_quantizing_leaves_embedding_and_output_layer_which_are_one_matrix_where_they_are_tied() -> None:
    matrix = 262_208 * 5_376
    tied = weights_gib(GEMMA_3_27B, FP8)
    assert tied == pytest.approx((27.009e9 + matrix) / GIB)
    untied = weights_gib(replace(GEMMA_3_27B, tied_embeddings=False), FP8)
    assert untied == pytest.approx((27.009e9 + 2 * matrix) / GIB)
    assert weights_gib(GEMMA_3_27B, []) == pytest.approx(2 * 27.009e9 / GIB), (
        "in 16 bits they are in the total"
    )


def test_weights_that_are_published_quantized_count_as_they_are() -> None:
    """The files of gpt-oss-20b are 13.76 GB, and those of DeepSeek-V3 without its prediction layer 674 GB."""
    assert (weights_gib(GPT_OSS_20B, []) or 0) * GIB == pytest.approx(13.76e9, rel=0.005)
    assert (weights_gib(DEEPSEEK_V3, []) or 0) * GIB == pytest.approx(674e9, rel=0.005)


def test_a_step_reads_the_experts_that_its_tokens_are_sent_to_and_memory_holds_all() -> None:
    held = weights_gib(DEEPSEEK_V3, [])
    one, many = weights_read_gib(DEEPSEEK_V3, [], 1), weights_read_gib(DEEPSEEK_V3, [], 4096)
    assert held is not None
    assert one is not None
    assert one * GIB == pytest.approx((37.55 + 1.85) * 1e9, rel=0.01)  # 8 of 256 experts, and the rest
    assert many == pytest.approx(held)
    assert active_parameters_b(DEEPSEEK_V3) == pytest.approx(37.55, rel=0.01)
    assert weights_read_gib(R1_7B, [], 1) == weights_gib(R1_7B, [])
    assert active_parameters_b(R1_7B) == R1_7B.parameters_b


DRAFT = OptConfig(needs="draft")


def test_a_draft_models_weights_and_kv_cache_count() -> None:
    assert draft_gib(DRAFTED, [DRAFT]) == pytest.approx(3e9 / GIB)
    assert weights_gib(DRAFTED, [DRAFT]) == pytest.approx((2 * 7.615616512e9 + 3e9) / GIB)
    assert cache(DRAFTED, [DRAFT]).full == 57_344 + 2 * 2 * 64 * 16 * 2
    assert cache(DRAFTED, [DRAFT], size=4).full == 57_344 + 2 * 2 * 64 * 16 * 2 * 2, "its two heads twice"
    assert draft_gib(DRAFTED, []) == 0.0


def test_a_quantization_of_the_model_leaves_the_draft_as_it_is() -> None:
    assert draft_gib(DRAFTED, [DRAFT, *FP8]) == draft_gib(DRAFTED, [DRAFT])


def test_the_size_of_one_draft_is_not_taken_for_that_of_another() -> None:
    other = replace(DRAFTED, draft="org/other")
    assert draft_gib(other, [DRAFT]) is None
    assert weights_gib(other, [DRAFT]) is None
    assert kv_cache(other, [DRAFT]) is None
    assert unknown_draft(other, [DRAFT]) == "draft"
    assert unknown_draft(DRAFTED, [DRAFT]) is None
    assert unknown_draft(other, []) is None


def test_every_draft_of_the_catalogue_has_its_shape() -> None:
    """A draft model that is in the catalogue itself has that one's; an EAGLE-3 head is one layer whose
    attention reads two hidden states, a projection of three, and an output layer of 32,000 tokens."""
    models = [config_of(f"model={file.stem}").model for file in (conf_dir() / "model").glob("*.yaml")]
    known = {model.hub_id: model for model in models}
    checked = 0
    for model in models:
        assert model.draft_shapes.keys() == {key for key in ("draft", "eagle3") if getattr(model, key)}
        for key, shape in model.draft_shapes.items():
            assert shape.hub_id == getattr(model, key).partition("@")[0], model.name
            assert unknown_draft(model, [OptConfig(needs=key)]) is None, model.name
            assert shape.heads, model.name
            if (same := known.get(shape.hub_id)) is not None:
                assert shape.parameters_b == same.parameters_b
                assert (shape.layers, shape.heads) == (same.layers, same.heads)
                assert shape.kv_heads == same.kv_heads
                assert shape.head_dim == same.head_dim
                checked += 1
        if (head := model.draft_shapes.get("eagle3")) is not None:
            assert model.hidden_size
            assert model.heads
            assert model.kv_heads
            assert model.head_dim
            assert model.intermediate_size
            assert (head.layers, head.kv_heads, head.head_dim) == (1, model.kv_heads, model.head_dim)
            assert head.heads == model.heads
            queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
            attention = 2 * (queries + 2 * keys) + queries
            wide = 3 * model.hidden_size + attention + 3 * model.intermediate_size + 32_000
            assert head.parameters_b == pytest.approx(model.hidden_size * wide / 1e9, rel=0.002), model.name
            checked += 1
    assert checked >= 10


def test_each_engines_memory_fraction_means_what_it_means_there() -> None:
    """vLLM's is of the whole GPU, its own needs included; SGLang's is of what it finds free, for weights and
    KV cache alone."""
    gpu = HardwareConfig(name="h100", kind="gpu", memory_gib=80.0, gpu_memory_utilization=0.9)
    vllm = SweepConfig(model=R1_7B, engine=EngineConfig(name="vllm"))
    sglang = replace(vllm, engine=EngineConfig(name="sglang"))
    assert for_weights_and_kv_gib(vllm, gpu) == pytest.approx(0.9 * 80.0 - 2.0)
    assert for_weights_and_kv_gib(sglang, gpu) == pytest.approx(0.9 * (80.0 - 1.4))
    taken = {"spec": OptConfig(vllm=EngineOptConfig(overhead_gib=3.7), sglang=EngineOptConfig())}
    assert for_weights_and_kv_gib(replace(vllm, opt=taken), gpu) == pytest.approx(0.9 * 80.0 - 5.7)
    assert for_weights_and_kv_gib(replace(sglang, opt=taken), gpu) == for_weights_and_kv_gib(sglang, gpu)


# docs/h200.md and docs/h200-multi.md: what vLLM 0.25.1 and SGLang 0.5.17 reported, GiB over all GPUs.
@pytest.mark.parametrize(
    ("hardware", "engine", "model", "opt", "size", "reported", "within"),
    [
        ("h100", "vllm", "r1-7b", "none", 1, 55.63, 0.004),
        ("h100", "vllm", "r1-7b", "none", 2, 125.20, 0.004),
        ("h100", "vllm", "r1-7b", "fp8", 1, 61.69, 0.004),
        ("h100", "vllm", "r1-7b", "fp8", 2, 131.18, 0.004),
        ("h100", "vllm", "r1-7b", "kv-fp8", 1, 55.60, 0.004),
        ("h100", "vllm", "r1-7b", "prefix-cache", 1, 55.69, 0.0045),
        ("h100", "vllm", "r1-7b", "awq", 1, 64.54, 0.006),
        ("h100", "vllm", "r1-7b", "spec-ngram", 1, 51.74, 0.004),
        ("h100", "vllm", "r1-32b", "none", 2, 78.04, 0.004),
        ("h100", "vllm", "r1-32b", "fp8", 1, 36.34, 0.04),
        ("h100", "vllm", "r1-32b", "fp8", 2, 107.16, 0.004),
        ("h100", "vllm", "r1-70b", "none", 2, 7.72, 0.02),
        ("h100", "vllm", "r1-70b", "fp8", 2, 71.40, 0.004),
        ("h100", "sglang", "r1-7b", "none", 1, 56.35, 0.004),
        ("h100", "sglang", "r1-7b", "spec-ngram", 1, 56.35, 0.004),
        ("h100", "sglang", "r1-7b", "fp8", 1, 62.25, 0.004),
        ("h200", "vllm", "r1-7b", "none", 1, 110.18, 0.004),
        ("h200", "vllm", "r1-7b", "fp8", 1, 116.24, 0.004),
        ("h200", "vllm", "r1-7b", "spec-ngram", 1, 106.29, 0.004),
        ("h200", "vllm", "r1-32b", "none", 1, 62.95, 0.007),
        ("h200", "vllm", "smollm2-135m", "none", 1, 125.02, 0.008),
        ("h200", "sglang", "r1-7b", "none", 1, 110.91, 0.004),
        ("h200", "sglang", "r1-7b", "fp8", 1, 116.82, 0.004),
    ],
)
def test_the_kv_cache_is_what_the_engines_reported(
    hardware: str, engine: str, model: str, opt: str, size: int, reported: float, within: float
) -> None:
    asked = (f"hardware={hardware}", f"engine={engine}", f"model={model}", f"opt=[{opt}]")
    config = config_of(*asked, "model.dtype=bfloat16")
    assert kv_gib(config, config.hardware, size) == pytest.approx(reported, rel=within)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kv_lora_rank": 512}, "model.kv_lora_rank, model.qk_rope_head_dim: must be given together"),
        ({"sliding_window_layers": 5}, "needs model.sliding_window"),
        ({"sliding_window": 128, "sliding_window_layers": 29}, "model.sliding_window_layers=29: must be at"),
        ({"sliding_window": 0}, "model.sliding_window=0: must be a whole number from 1 up"),
        ({"sliding_window": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, "not with model.kv_lora_rank"),
        ({"experts": 8}, "model.experts, model.experts_per_token, model.expert_parameters_b"),
        (
            {"experts": 8, "experts_per_token": 9, "expert_parameters_b": 1.0},
            "experts_per_token=9: must be at",
        ),
        ({"experts": 8, "experts_per_token": 1, "expert_parameters_b": 9.0}, "expert_parameters_b=9.0: must"),
        ({"weight_bytes_of": "experts"}, "needs model.experts"),
        ({"weight_bytes_of": "all"}, "model.weight_bytes_of=all: must be one of linear, experts"),
        ({"dtype": "int8"}, "model.dtype=int8: must be one of bfloat16, float16, float32"),
        ({"kv_heads": 0}, "model.kv_heads=0: must be a whole number from 1 up"),
    ],
)
def test_a_shape_that_cannot_be_is_one_line_before_anything_starts(
    changes: dict[str, Any], said: str
) -> None:
    config = config_of("hardware=h100")
    config.model = replace(R1_7B, **changes)
    with pytest.raises(ConfigError) as raised:
        check_values(config)
    assert said in str(raised.value)


def test_the_shapes_here_are_possible() -> None:
    for model in (R1_7B, DEEPSEEK_V3, GPT_OSS_20B, GEMMA_3_27B, DRAFTED):
        assert impossible(model) is None


def test_without_the_catalogues_numbers_nothing_is_claimed() -> None:
    unknown = ModelConfig(name="mine")
    assert weights_gib(unknown, []) is None
    assert weights_read_gib(unknown, [], 8) is None
    assert kv_cache(unknown, []) is None
    assert active_parameters_b(unknown) is None


@given(
    st.sampled_from([R1_7B, DEEPSEEK_V3, GPT_OSS_20B, GEMMA_3_27B]),
    st.integers(1, 200_000),
    st.integers(1, 200_000),
    st.sampled_from(["vllm", "sglang", "simulated"]),
)
def test_a_longer_request_never_takes_less_and_never_more_than_without_windows(
    model: ModelConfig, tokens: int, more: int, engine: str
) -> None:
    kv = cache(model)
    assert kv.reserved_bytes(tokens, engine) <= kv.reserved_bytes(tokens + more, engine)
    assert kv.bytes_of(tokens) <= (kv.full + kv.windowed) * tokens
    assert kv.reserved_bytes(tokens, engine) >= kv.bytes_of(tokens) * 0.999999
