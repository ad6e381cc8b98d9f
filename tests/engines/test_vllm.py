from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.config.schema import EngineOptConfig, ModelConfig, OptConfig, SweepConfig
from orchestrator.engines import ADAPTERS, vllm
from orchestrator.engines.adapter import Launch, metrics_of
from orchestrator.engines.inside import entry
from orchestrator.engines.launch import build_launch
from orchestrator.errors import ConfigError


def config(**opts: EngineOptConfig) -> SweepConfig:
    made = SweepConfig()
    made.engine.name = "vllm"
    made.engine.python = "/env/bin/python"
    made.model = ModelConfig(name="m", hub_id="org/m", revision="abc", context=2048)
    made.opt = {name: OptConfig(vllm=entry) for name, entry in opts.items()}
    return made


def flags(launch: Launch) -> dict[str, str]:
    """Flag -> the words that follow it, joined."""
    read: dict[str, list[str]] = {}
    current: list[str] = []
    for word in vllm.command(launch)[5:]:
        if word.startswith("--"):
            read[word] = current = []
        else:
            current.append(word)
    return {flag: " ".join(words) for flag, words in read.items()}


def on_gpu(made: SweepConfig, **options: Any) -> Launch:
    given: dict[str, Any] = {"hardware": "gpu", "tensor_parallel_size": 1, **options}
    return build_launch(made, **given)


def test_the_command_on_a_gpu() -> None:
    launch = on_gpu(config(), tensor_parallel_size=4, engine_version="0.32.0")
    assert vllm.command(launch) == [
        *("/env/bin/python", entry.__file__, "vllm", "serve", "org/m"),
        *("--revision", "abc", "--served-model-name", "m"),
        *("--host", "127.0.0.1", "--port", "0", "--tensor-parallel-size", "4"),
        *("--dtype", "bfloat16", "--max-model-len", "2048", "--seed", "0", "--generation-config", "vllm"),
        *("--no-enable-prefix-caching", "--distributed-executor-backend", "mp"),
        *(
            "--enable-prompt-tokens-details",
            "--enable-per-request-metrics",
            "--gpu-memory-utilization",
            "0.9",
        ),
    ]


def test_one_gpu_needs_no_worker_process_of_its_own() -> None:
    assert flags(on_gpu(config()))["--distributed-executor-backend"] == "uni"


def test_the_command_on_a_cpu() -> None:
    launch = build_launch(config(), hardware="cpu", tensor_parallel_size=1, model="/models/m")
    found = flags(launch)
    assert "--enforce-eager" in found
    assert found["--kv-cache-memory-bytes"] == str(2 << 30)
    assert found["--block-size"] == "32"
    assert "--gpu-memory-utilization" not in found
    assert "--revision" not in found  # a folder has none
    assert vllm.environment(launch)["HF_HUB_OFFLINE"] == "1"


def test_the_hub_is_not_shut_off_for_a_model_from_the_hub() -> None:
    assert "HF_HUB_OFFLINE" not in vllm.environment(on_gpu(config()))


def test_the_key_travels_in_the_environment_alone() -> None:
    launch = replace(on_gpu(config()), api_key="s3cret")
    assert vllm.environment(launch)["ENGINE_API_KEY"] == "s3cret"
    assert not any("s3cret" in word for word in vllm.command(launch))


@pytest.mark.parametrize("cached", [True, False])
def test_the_developers_routes_are_there_only_to_empty_a_cache(cached: bool) -> None:
    made = config(cache=EngineOptConfig(args={"enable-prefix-caching": True})) if cached else config()
    launch = on_gpu(made)
    assert vllm.environment(launch).get("VLLM_SERVER_DEV_MODE") == ("1" if cached else None)
    assert vllm.ADAPTER.reset_cache.needed(launch) == cached


def test_the_key_is_not_where_vllm_would_compile_anew_for_each() -> None:
    drawn = [vllm.environment(replace(on_gpu(config()), api_key=key)) for key in ("one", "other")]
    vllms = [{name: value for name, value in env.items() if name.startswith("VLLM_")} for env in drawn]
    assert vllms[0] == vllms[1]


def test_users_win_over_optimizations_and_those_over_the_base() -> None:
    made = config(
        cache=EngineOptConfig(args={"enable-prefix-caching": True}, env={"A": "1", "B": "1"}),
        spec=EngineOptConfig(args={"speculative-config": {"method": "ngram", "num_speculative_tokens": 3}}),
    )
    made.engine.args = {"speculative_config": {"num_speculative_tokens": 5}, "max-num-seqs": 8}
    made.engine.env = {"B": "2"}
    launch = on_gpu(made)
    found = flags(launch)
    assert "--enable-prefix-caching" in found
    assert "--no-enable-prefix-caching" not in found
    assert json.loads(found["--speculative-config"]) == {"method": "ngram", "num_speculative_tokens": 5}
    assert found["--max-num-seqs"] == "8"
    assert launch.env == {"A": "1", "B": "2"}
    assert launch.opts == ("cache", "spec")


def test_a_flag_that_another_key_sets_is_refused() -> None:
    made = config()
    made.engine.args = {"tensor_parallel_size": 2}
    with pytest.raises(
        ConfigError, match=r"engine\.args\.tensor_parallel_size: is set by tensor_parallel_size"
    ):
        on_gpu(made)


def test_an_engine_that_is_not_ours_has_no_launch() -> None:
    made = config()
    made.engine.name = "external"
    with pytest.raises(ConfigError, match="engine=external: cannot be started"):
        on_gpu(made)


def test_a_quantized_checkpoint_replaces_the_model() -> None:
    made = config(awq=EngineOptConfig())
    made.opt["awq"].checkpoint = "awq"
    made.model.checkpoints = {"awq": "other/m-awq@rev1"}
    found = flags(on_gpu(made))
    assert vllm.command(on_gpu(made))[4] == "other/m-awq"
    assert found["--revision"] == "rev1"
    assert found["--served-model-name"] == "m"
    assert (found["--tokenizer"], found["--tokenizer-revision"]) == ("org/m", "abc")  # with its template
    assert "--tokenizer" not in flags(on_gpu(config()))
    made.model.checkpoints = {}
    with pytest.raises(ConfigError, match="opt=awq: model=m has no awq checkpoint"):
        on_gpu(made)


def test_random_weights_and_the_reasoning_parser_are_asked_for() -> None:
    made = config()
    made.weights = "dummy"
    made.model.reasoning_parser = {"vllm": "deepseek_r1", "sglang": "deepseek-r1"}
    found = flags(on_gpu(made))
    assert found["--load-format"] == "dummy"
    assert found["--reasoning-parser"] == "deepseek_r1"
    assert "--load-format" not in flags(on_gpu(config()))


def test_an_older_engine_is_not_given_flags_it_does_not_know() -> None:
    assert "--enable-per-request-metrics" not in flags(on_gpu(config(), engine_version="0.21.0"))
    assert "--enable-per-request-metrics" in flags(on_gpu(config(), engine_version="0.25.1"))
    assert "--enable-per-request-metrics" in flags(on_gpu(config(), engine_version=None))


def test_a_flag_is_spelt_as_its_version_has_it() -> None:
    fp8 = config(fp8=EngineOptConfig(args={"quantization": "fp8"}))
    assert flags(on_gpu(fp8, engine_version="0.31.0"))["--quantization"] == "fp8"
    assert flags(on_gpu(fp8, engine_version="0.32.0"))["--quantization"] == "fp8_per_tensor"
    own = config()
    own.engine.args = {"quantization": "fp8"}  # of a checkpoint that is published so, say
    assert flags(on_gpu(own, engine_version="0.32.0"))["--quantization"] == "fp8"


def test_gpus_are_counted_as_telemetry_counts_them() -> None:
    assert vllm.environment(on_gpu(config()))["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    on_cpu = build_launch(config(), hardware="cpu", tensor_parallel_size=1)
    assert "CUDA_DEVICE_ORDER" not in vllm.environment(on_cpu)


@pytest.mark.parametrize(
    ("cpus", "size", "alone"), [(1, 1, True), (2, 1, True), (3, 1, False), (2, 2, False)]
)
def test_on_few_cpus_the_engine_core_works_itself(
    cpus: int, size: int, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more, or more ranks, vLLM's own way: it binds a thread to each core of a worker."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cpus)))
    on_cpu = build_launch(config(), hardware="cpu", tensor_parallel_size=size)
    assert (vllm.environment(on_cpu).get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0") == alone
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in vllm.environment(on_gpu(config()))


def test_nodes_beyond_the_first_serve_no_requests() -> None:
    launch = replace(on_gpu(config(), tensor_parallel_size=16, nodes=2), master="10.0.0.1:2345")
    first, second = flags(launch), flags(replace(launch, node_rank=1))
    assert (first["--nnodes"], first["--node-rank"]) == ("2", "0")
    assert (first["--master-addr"], first["--master-port"]) == ("10.0.0.1", "2345")
    assert "--headless" not in first
    assert second["--node-rank"] == "1"
    assert "--headless" in second
    assert vllm.environment(replace(launch, address="10.0.0.2"))["VLLM_HOST_IP"] == "10.0.0.2"


@pytest.mark.parametrize(
    ("body", "empty"),
    [
        (b'{"success": true}', True),
        (b'{"success": false}', False),
        (b"", None),
        (b"[]", False),
        (b"x", False),
    ],
)
def test_only_a_body_that_says_so_means_an_empty_cache(body: bytes, empty: bool | None) -> None:
    assert vllm.cache_was_reset(body) is empty


def test_the_metrics_of_speculation_are_expected_only_with_speculation() -> None:
    adapter = ADAPTERS["vllm"]
    plain = metrics_of(adapter, {})
    assert "kv_usage" in plain
    assert not any(field.startswith("spec_") for field in plain)
    assert metrics_of(adapter, {"speculative-config": {}}) == dict(adapter.metrics)


def test_an_engine_that_may_sleep_has_the_mode_and_its_routes() -> None:
    made = config()
    made.engine.sleep = "on"
    launch = on_gpu(made)
    assert vllm.command(launch)[-1] == "--enable-sleep-mode"
    assert vllm.environment(launch)["VLLM_SERVER_DEV_MODE"] == "1"
    assert vllm.command(launch)[:-1] == vllm.command(on_gpu(config()))
    assert vllm.SLEEP.asked_of(launch)
    assert not vllm.SLEEP.asked_of(on_gpu(config()))


@pytest.mark.parametrize(
    ("body", "asleep"),
    [
        (b'{"is_sleeping": true}', True),
        (b'{"is_sleeping": false}', False),
        (b'{"is_sleeping": "yes"}', None),
        (b"[]", None),
        (b"", None),
    ],
)
def test_whether_it_sleeps_is_read_or_not_known(body: bytes, asleep: bool | None) -> None:
    assert vllm.is_asleep(body) is asleep
