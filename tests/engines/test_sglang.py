from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import EngineOptConfig, ModelConfig, OptConfig, SweepConfig
from orchestrator.engines import sglang
from orchestrator.engines.adapter import Launch, metrics_of
from orchestrator.engines.inside import entry
from orchestrator.engines.launch import build_launch


def launch(*, opts: dict[str, EngineOptConfig] | None = None, **options: Any) -> Launch:
    config = SweepConfig()
    config.engine.name = "sglang"
    config.engine.python = "/env/bin/python"
    config.model = ModelConfig(name="m", hub_id="org/m", revision="abc", context=2048)
    config.model.reasoning_parser = {"vllm": "deepseek_r1", "sglang": "deepseek-r1"}
    config.opt = {name: OptConfig(sglang=entry) for name, entry in (opts or {}).items()}
    given: dict[str, Any] = {"hardware": "gpu", "tensor_parallel_size": 2, **options}
    return build_launch(config, **given)


def test_the_command_on_a_gpu() -> None:
    words = sglang.command(launch())
    assert words[:4] == ["/env/bin/python", entry.__file__, "sglang", "serve"]
    assert words[4:] == [
        *("--model-path", "org/m", "--revision", "abc", "--served-model-name", "m"),
        *("--host", "127.0.0.1", "--port", "0", "--tp-size", "2"),
        *("--dtype", "bfloat16", "--context-length", "2048", "--random-seed", "0"),
        *("--sampling-defaults", "openai", "--disable-radix-cache"),
        *("--enable-metrics", "--enable-cache-report", "--reasoning-parser", "deepseek-r1"),
        *("--mem-fraction-static", "0.9"),
    ]


def test_the_command_on_a_cpu_takes_the_native_path_and_sleeps_when_idle() -> None:
    words = sglang.command(launch(hardware="cpu", model="/models/m"))
    assert "--sleep-on-idle" in words
    assert words[words.index("--attention-backend") + 1] == "torch_native"
    assert "--mem-fraction-static" not in words
    assert sglang.environment(launch(hardware="cpu"))["SGLANG_USE_CPU_ENGINE"] == "1"


def test_prefix_caching_takes_the_flag_away_that_switches_it_off() -> None:
    opts = {"prefix-cache": EngineOptConfig(args={"disable-radix-cache": None})}
    assert "--disable-radix-cache" not in sglang.command(launch(opts=opts))


def test_a_flag_is_spelt_as_its_version_has_it() -> None:
    opts = {"eager": EngineOptConfig(args={"disable-cuda-graph": True})}
    assert sglang.command(launch(opts=opts, engine_version="0.5.22"))[-1] == "--disable-cuda-graph"
    newest = sglang.command(launch(opts=opts, engine_version="0.5.23"))
    assert newest[-4:] == [
        *("--cuda-graph-backend-decode", "disabled"),
        *("--cuda-graph-backend-prefill", "disabled"),
    ]
    assert "--disable-cuda-graph" not in newest


def test_a_checkpoints_tokenizer_is_the_models_own_at_its_own_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SweepConfig()
    made.engine.name = "sglang"
    made.model = ModelConfig(name="m", hub_id="org/m", revision="abc", checkpoints={"awq": "q/m-awq@def"})
    made.opt = {"awq": OptConfig(checkpoint="awq", sglang=EngineOptConfig())}
    words = sglang.command(build_launch(made, hardware="gpu", tensor_parallel_size=1))
    assert words[words.index("--model-path") + 1] == "q/m-awq"
    assert words[words.index("--revision") + 1] == "def"
    at = words.index("--tokenizer-path") + 1
    assert words[at] == "org/m@abc"
    asked = []

    class Hub:
        @staticmethod
        def snapshot_download(hub_id: str, *, revision: str, **others: object) -> str:
            asked.append((hub_id, revision))
            return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub)
    entry._pin_tokenizer(words)
    assert asked == [("org/m", "abc")]
    assert words[at] == str(tmp_path)
    unpinned = ["--tokenizer-path", "/a/folder@x"]
    entry._pin_tokenizer(unpinned)
    assert unpinned == ["--tokenizer-path", "/a/folder@x"]


def test_several_nodes_meet_at_the_first() -> None:
    words = sglang.command(replace(launch(nodes=2), master="10.0.0.1:2345", node_rank=1))
    assert words[words.index("--dist-init-addr") + 1] == "10.0.0.1:2345"
    assert words[words.index("--node-rank") + 1] == "1"
    assert sglang.environment(replace(launch(nodes=2), address="10.0.0.2"))["SGLANG_HOST_IP"] == "10.0.0.2"


def test_the_key_reaches_the_engine_without_standing_on_its_command_line(tmp_path: Path) -> None:
    (tmp_path / "sglang" / "cli").mkdir(parents=True)
    (tmp_path / "sglang" / "cli" / "main.py").write_text(
        "import os, sys\n"
        "command_line = open('/proc/self/cmdline').read()\n"
        "def main():\n"
        "    print(sys.argv[:2], sys.argv[-2:], 's3cret' in command_line, 'ENGINE_API_KEY' in os.environ)\n"
    )
    made = replace(launch(), python=sys.executable, api_key="s3cret")
    said = subprocess.check_output(
        sglang.command(made), env=sglang.environment(made) | {"PYTHONPATH": str(tmp_path)}, text=True
    )
    assert said.strip() == "['sglang', 'serve'] ['--api-key', 's3cret'] False False"


def test_the_metrics_of_the_cache_are_expected_only_with_the_cache() -> None:
    off = launch().args
    on = launch(opts={"prefix-cache": EngineOptConfig(args={"disable-radix-cache": None})}).args
    assert "prefix_hits_tokens_total" not in metrics_of(sglang.ADAPTER, off)
    assert "prefix_hits_tokens_total" in metrics_of(sglang.ADAPTER, on)
    assert sglang.ADAPTER.lazy <= set(sglang.ADAPTER.metrics)


def test_an_engine_that_may_sleep_has_its_memory_saver_with_a_copy_of_the_weights() -> None:
    config = SweepConfig()
    config.engine.name, config.engine.python, config.engine.sleep = "sglang", "/env/bin/python", "on"
    config.model = ModelConfig(name="m", hub_id="org/m", revision="abc", context=2048)
    made = build_launch(config, hardware="gpu", tensor_parallel_size=1)
    assert sglang.command(made)[-2:] == ["--enable-memory-saver", "--enable-weights-cpu-backup"]
    assert sglang.SLEEP.asked_of(made)
    assert not sglang.SLEEP.asked_of(launch())
    assert (sglang.SLEEP.sleep, sglang.SLEEP.wake) == (
        ("POST", "/release_memory_occupation", b"{}"),
        ("POST", "/resume_memory_occupation", b"{}"),
    )
