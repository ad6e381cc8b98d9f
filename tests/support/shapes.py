"""Shapes of models, by their public config.json."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.config.schema import DraftShape, ModelConfig

R1_7B = ModelConfig(
    name="r1-7b",
    parameters_b=7.615616512,
    layers=28,
    hidden_size=3584,
    heads=28,
    kv_heads=4,
    head_dim=128,
    vocab_size=152064,
)
DEEPSEEK_V3 = ModelConfig(
    name="deepseek-v3",
    parameters_b=671.026,
    layers=61,
    hidden_size=7168,
    heads=128,
    kv_heads=128,
    head_dim=128,
    kv_lora_rank=512,
    qk_rope_head_dim=64,
    vocab_size=129280,
    experts=256,
    experts_per_token=8,
    expert_parameters_b=653.909,  # 58 layers · 256 experts · 3 · 7168 · 2048
    weight_bytes=1.0,
    context=163840,
)
GPT_OSS_20B = ModelConfig(
    name="gpt-oss-20b",
    parameters_b=20.915,
    layers=24,
    hidden_size=2880,
    heads=64,
    kv_heads=8,
    head_dim=64,
    sliding_window=128,
    sliding_window_layers=12,
    vocab_size=201088,
    experts=32,
    experts_per_token=4,
    expert_parameters_b=19.110,  # 24 layers · 32 experts · 3 · 2880 · 2880
    weight_bytes=4.25 / 8,  # MXFP4: 4 bits, and 8 for each 32
    weight_bytes_of="experts",
    context=131072,
)
GEMMA_3_27B = ModelConfig(
    name="gemma-3-27b",
    parameters_b=27.009,
    layers=62,
    hidden_size=5376,
    heads=32,
    kv_heads=16,
    head_dim=128,
    sliding_window=1024,
    sliding_window_layers=52,  # every sixth layer is global: 10 of 62
    vocab_size=262208,
    tied_embeddings=True,
    context=131072,
)
DRAFTED = replace(
    R1_7B,
    draft="org/draft@abc",
    draft_shapes={"draft": DraftShape("org/draft", parameters_b=1.5, layers=16, kv_heads=2, head_dim=64)},
)
