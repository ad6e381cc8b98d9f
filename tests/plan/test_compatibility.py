"""Seeds that an engine would not heed."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cell import sampling
from orchestrator.plan.compatibility import cache_reason, skip_reason
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
