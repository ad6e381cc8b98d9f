"""Flags that other keys set, under every name that an engine's parser takes for them, and flags that there
are not, by the engine's own help."""

from __future__ import annotations

import argparse
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import EngineOptConfig, ModelConfig, OptConfig, SweepConfig
from orchestrator.engines import ADAPTERS, flags
from orchestrator.engines.adapter import Launch, to_flags
from orchestrator.engines.inside import options
from orchestrator.engines.launch import build_launch
from orchestrator.errors import ConfigError

# As the engines print them: several spellings, choices, values, a description beside and below.
HELP = """usage: vllm serve [model_tag] [options]

positional arguments:
  model_tag             The model tag to serve (optional if specified in
                        config) (default: None)

options:
  --headless            Run in headless mode. See multi-node data parallel
                        --documentation for more details. (default: False)
  --api-server-count API_SERVER_COUNT, -asc API_SERVER_COUNT
                        How many API server processes to run.
  -h, --help            show this help message and exit
  --runner {auto,draft,generate,pooling}
                        The type of model runner to use.
  --enforce-eager, --no-enforce-eager
                        Whether to always use eager-mode PyTorch.
  --allowed-origins ALLOWED_ORIGINS [ALLOWED_ORIGINS ...]
  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE
  --gpu-memory-utilization X, --memory-share X
  --max-num-seqs MAX_NUM_SEQS
                        Maximum number of sequences.
"""
KNOWN = flags.in_help(HELP)


def launched(engine: str, args: dict[str, Any], opt: dict[str, Any] | None = None) -> Launch:
    config = SweepConfig()
    config.engine.name, config.engine.python, config.engine.args = engine, sys.executable, args
    config.model = ModelConfig(name="m", hub_id="org/m")
    if opt is not None:
        config.opt = {"own": OptConfig(vllm=EngineOptConfig(args=opt), sglang=EngineOptConfig(args=opt))}
    return build_launch(config, hardware="gpu", tensor_parallel_size=1)


@pytest.mark.parametrize(
    ("engine", "name", "instead"),
    [
        *(
            ("vllm", name, "tensor_parallel_size")
            for name in ("tensor-parallel-size", "tensor-parallel", "ten")
        ),
        *(("vllm", name, "hardware.gpu_memory_utilization") for name in ("gpu-memory", "device_memory")),
        *(
            ("vllm", name, "nothing")
            for name in ("data-parallel-size", "data_parallel_size", "data-parallel")
        ),
        *(("vllm", name, "nothing") for name in ("pipeline-parallel-size", "pipeline", "--config", "uds")),
        *(("vllm", name, "model") for name in ("model", "mod", "model.x")),
        ("vllm", "no-headless", "tensor_parallel_size"),
        ("vllm", "max-model", "model.context"),
        *(("sglang", name, "model") for name in ("model", "model-path", "model_path", "model-p")),
        *(("sglang", name, "tensor_parallel_size") for name in ("tp", "tp-size", "tensor-parallel")),
        *(("sglang", name, "nothing") for name in ("dp", "dp-size", "data-parallel-size", "pp-size", "pp")),
        *(("sglang", name, "nothing") for name in ("base-gpu-id", "config", "nccl-init-addr")),
        ("sglang", "context", "model.context"),
        ("sglang", "mem-fraction", "hardware.gpu_memory_utilization"),
    ],
)
def test_a_flag_that_another_key_sets_is_refused_by_any_name(engine: str, name: str, instead: str) -> None:
    for args, opt, key in (({name: 2}, None, "engine.args"), ({}, {name: 2}, f"opt.own.{engine}.args")):
        with pytest.raises(ConfigError) as error:
            launched(engine, args, opt)
        assert str(error.value).startswith(f"{key}.{name}: ")
        assert f"set by {instead}" in str(error.value)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("prefix", ["CUDA", "NVIDIA", "HIP", "ROCR"])
def test_a_variable_that_names_devices_is_refused(engine: str, prefix: str) -> None:
    config = SweepConfig()
    config.engine.name, config.engine.python = engine, sys.executable
    config.model = ModelConfig(name="m", hub_id="org/m")
    config.engine.env = {"NCCL_DEBUG": "INFO"}
    build_launch(config, hardware="gpu", tensor_parallel_size=1)
    name = f"{prefix}_VISIBLE_DEVICES"
    entry = EngineOptConfig(env={name: "3"})
    config.opt = {"own": OptConfig(vllm=entry, sglang=entry)}
    with pytest.raises(
        ConfigError, match=rf"opt\.own\.{engine}\.env\.{name}: .* the scheduler says which GPUs"
    ):
        build_launch(config, hardware="gpu", tensor_parallel_size=1)
    config.opt, config.engine.env = {}, {name: "3"}
    with pytest.raises(ConfigError, match=rf"engine\.env\.{name}: .* the scheduler says"):
        build_launch(config, hardware="gpu", tensor_parallel_size=1)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_other_flags_pass(engine: str) -> None:
    args = {"max-num-seqs": 8, "speculative-config": {"method": "ngram"}, "kv-cache-dtype": "fp8_e5m2"}
    assert launched(engine, args).args["max-num-seqs"] == 8


@pytest.mark.parametrize("args", [{"port=1": True}, {"-tp": 2}, {"": 1}, {"x": ["a", "--port", "1"]}])
def test_no_word_of_a_value_becomes_a_flag_of_its_own(args: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^engine\.args\."):
        launched("vllm", args)


def test_the_help_names_every_spelling() -> None:
    names = [one.names for one in KNOWN]
    assert ["--api-server-count", "-asc"] in names
    assert ["--enforce-eager", "--no-enforce-eager"] in names
    assert ["--tensor-parallel-size", "-tp"] in names
    assert ["--runner"] in names
    assert len(names) == 9
    assert not any("documentation" in name for one in names for name in one)


@pytest.mark.parametrize("name", ["tp", "memory-share", "memory_share"])
def test_an_alias_that_only_the_help_tells_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine\.args\.{name}: is --.*, which is set by"):
        flags.check_reserved(ADAPTERS["vllm"], {name: 2}, "engine.args", KNOWN)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"max-num-seq": 8}, r"vllm 0\.32 has no flag --max-num-seq \(did you mean max-num-seqs\?\)"),
        ({"max-num": 8}, "has no flag --max-num"),
        ({"asc": 8}, "has no flag --asc"),
        ({"api-server-count": False}, "has no --no-api-server-count; null takes --api-server-count away"),
        ({"zzz": 1}, r"has no flag --zzz$"),
    ],
)
def test_a_misspelt_flag_is_named_with_the_nearest(args: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        flags.check_known(ADAPTERS["vllm"], args, "engine.args", KNOWN, "0.32")


def test_flags_that_there_are_pass() -> None:
    args = {"max_num_seqs": 8, "enforce-eager": False, "--runner": "auto", "zzz": None, "runner.x": 1}
    flags.check_known(ADAPTERS["vllm"], args, "engine.args", KNOWN, "0.32")


def test_the_help_is_read_once_for_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    (tmp_path / "help.txt").write_text(HELP)
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho x >> {tmp_path}/calls\n[ -z "$ENGINE_API_KEY" ] && cat {tmp_path}/help.txt\n'
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    launch = replace(launched("vllm", {}), python=str(python))
    for version in ("1.0", "1.0", "2.0"):
        assert flags.known(launch, version) == KNOWN
    flags._known.cache_clear()  # as another command would find it
    assert flags.known(launch, "1.0") == KNOWN
    assert len((tmp_path / "calls").read_text().split()) == 2
    stored = json.loads((tmp_path / "home" / "flags" / "vllm-1.0.options.json").read_text())
    assert [flags.Flag(**one) for one in stored] == KNOWN


def test_an_engine_that_does_not_tell_is_not_asked_again_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    assert flags.known(replace(launched("vllm", {}), python="/no/python"), "1.0") is None
    assert not (tmp_path / "home").exists()


def optional_type(read: Callable[[str], object]) -> Callable[[str], object]:
    """As vLLM has it."""

    def _optional_type(word: str) -> object:
        return None if word in ("", "None") else read(word)

    return _optional_type


def human_readable(word: str) -> int:
    return int(word.replace("k", "000"))


def parser() -> argparse.ArgumentParser:
    """Of the kinds of options that the engines have."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("model")
    made.add_argument("--kv-cache-dtype", choices=["auto", "fp8"], type=str)
    made.add_argument("--strategy", choices=["lazy", None], type=optional_type(str))
    made.add_argument("--traces", choices=["all", "model"], nargs="+")
    made.add_argument("--level", choices=[1, 8], type=int)
    made.add_argument("--tool-parser", metavar="{a,b}")
    made.add_argument("--log-level", choices=["INFO"], type=str.upper)
    made.add_argument("--max-num-seqs", type=int)
    made.add_argument("--block", type=optional_type(int))
    made.add_argument("--offload-gb", type=float)
    made.add_argument("--sizes", type=int, nargs="*")
    made.add_argument("--tokens", type=human_readable)
    made.add_argument("--config-json", type=json.loads)
    made.add_argument("--eager", action=argparse.BooleanOptionalAction)
    made.add_argument("--trust", action="store_true")
    made.add_argument("--profile", nargs="?", const=True)
    return made


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("kv-cache-dtype", "fp8", None),
        ("kv_cache_dtype", "foo", "kv_cache_dtype=foo: vllm 0.32 takes one of auto, fp8"),
        ("kv-cache-dtype", True, "kv-cache-dtype=true: vllm 0.32 takes one of auto, fp8"),
        ("kv-cache-dtype", "", "one of auto, fp8"),
        ("strategy", "lazy", None),
        ("strategy", "None", None),
        ("strategy", "", None),
        ("strategy", "eager", "one of lazy, None"),
        ("traces", ["all", "model"], None),
        ("traces", "all", None),
        ("traces", ["all", "worker"], "traces=all worker: vllm 0.32 takes one of all, model"),
        ("traces", [], "one of all, model"),
        ("level", 8, None),
        ("level", "1", None),
        ("level", 2, "one of 1, 8"),
        ("level", "x", "one of 1, 8"),
        ("tool-parser", "c", None),
        ("log-level", "info", None),
        ("max-num-seqs", 64, None),
        ("max-num-seqs", "1_000", None),
        ("max-num-seqs", -1, None),
        ("max-num-seqs", "many", "max-num-seqs=many: vllm 0.32 takes a whole number"),
        ("max-num-seqs", 2.5, "a whole number"),
        ("max-num-seqs", "8k", "a whole number"),
        ("max-num-seqs", True, "max-num-seqs=true: vllm 0.32 takes a whole number"),
        ("max-num-seqs", [1, 2], "max-num-seqs=1 2: vllm 0.32 takes a whole number"),
        ("max-num-seqs", {"a": 1}, "a whole number"),
        ("block", "None", None),
        ("block", 16, None),
        ("block", "x", "a whole number"),
        ("offload-gb", 4, None),
        ("offload-gb", "1e-3", None),
        ("offload-gb", "4G", "offload-gb=4G: vllm 0.32 takes a number"),
        ("sizes", [1, 2, 4], None),
        ("sizes", [], None),
        ("sizes", [1, "two"], "a whole number"),
        ("tokens", "8k", None),
        ("config-json", {"a": 1}, None),
        ("eager", True, None),
        ("eager", False, None),
        ("eager", 5, "eager=5: vllm 0.32 takes true or false"),
        ("trust", True, None),
        ("trust", "yes", "true or false"),
        ("profile", True, None),
        ("profile", "/a", None),
        ("profile", ["/a", "/b"], "one value at most"),
        ("max-num-seqs", None, None),
        ("not-there", "x", None),
    ],
    ids=str,
)
def test_a_value_is_refused_where_the_engines_own_parser_refuses_it(
    name: str, value: object, says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    known = flags.in_options(options.MARK + json.dumps(options.told(parser())))
    if name != "not-there":  # what the engine would do is what is told
        with suppress(SystemExit):
            parser().parse_args(["m", *to_flags({name: value})])
            assert says is None, "the parser takes it"
        assert ("error" in capsys.readouterr().err) == (says is not None)
    if says is None:
        flags.check_values(ADAPTERS["vllm"], {name: value}, "engine.args", known, "0.32")
        return
    with pytest.raises(ConfigError) as error:
        flags.check_values(ADAPTERS["vllm"], {name: value}, "engine.args", known, "0.32")
    assert str(error.value).startswith(f"engine.args.{name}=")
    assert says in str(error.value)


def test_what_one_of_several_parsers_takes_passes() -> None:
    known = [flags.Flag(["--a"], 1, ["x"], "str"), flags.Flag(["--a"], 1, ["y"], "str")]
    flags.check_values(ADAPTERS["sglang"], {"a": "y"}, "engine.args", known, "0.5")
    with pytest.raises(ConfigError, match="one of x"):
        flags.check_values(ADAPTERS["sglang"], {"a": "z"}, "engine.args", known, "0.5")


def test_the_options_are_those_that_the_help_is_of(tmp_path: Path) -> None:
    """The file is run as an engine's interpreter runs it, with a parser in place of the engine's."""
    inside = Path(options.__file__).parent
    (tmp_path / "options.py").write_text((inside / "options.py").read_text())
    (tmp_path / "entry.py").write_text(
        "import argparse\n"
        "def main(words):\n"
        "    parser = argparse.ArgumentParser(prog=words[0])\n"
        "    parser.add_argument('--n', '-n', type=int)\n"
        "    parser.parse_args(words[1:])\n"
    )
    command = [sys.executable, str(tmp_path / "options.py"), "vllm", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "show this help message" in done.stdout
    assert flags.Flag(["--n", "-n"], 1, None, "int") in flags.in_options(done.stdout)
