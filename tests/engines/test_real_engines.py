"""The real engines on the CPU, one start per deployment, told by their own counters."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import SweepConfig
from orchestrator.engines import ADAPTERS, flags, version, weights
from orchestrator.engines.http import ask
from orchestrator.engines.launch import build_launch
from orchestrator.engines.server import Server
from orchestrator.engines.standby_process import Standby
from orchestrator.engines.standby_process import started as prepared_or_plain
from orchestrator.errors import ConfigError, EngineError
from orchestrator.telemetry.engine import read_once
from orchestrator.telemetry.prometheus import values
from tests.engines.fake import is_alive, tree
from tests.support.compose import config_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

REAL = ("vllm", "sglang")
EIGHT_BIT_BYTES = 2 * 30 * 3 * 64  # of a token: keys and values, layers, KV heads, head size; one byte each

# Several blocks of the cache; the ends differ.
SHARED = "You are given a long list of rules. " + " ".join(
    f"Rule {n}: add {n} and {n + 1}." for n in range(30)
)


def config(engine: str, *overrides: str) -> SweepConfig:
    made = config_of(f"engine={engine}", "model=smollm2-135m", *overrides)
    try:
        version.interpreter(made.engine)
    except ConfigError as error:
        pytest.skip(str(error))
    return made


@contextmanager
def started(made: SweepConfig, tmp_path: Path, *, prepared: bool = False) -> Iterator[Server]:
    adapter, python = ADAPTERS[made.engine.name], version.interpreter(made.engine)
    launch = build_launch(
        made,
        hardware="cpu",
        tensor_parallel_size=1,
        model=weights.prepare(weights.served(made), python),
        engine_version=version.engine_version(made.engine),
    )
    log = tmp_path / "engine.log"
    waiting = Standby(adapter, launch, log, stop_timeout_s=30) if prepared else None
    with ExitStack() as stack:
        if waiting is not None:
            stack.callback(waiting.close)
            assert waiting.wait(200)
        live = prepared_or_plain(
            adapter, launch, log, waiting=waiting, start_timeout_s=300, stop_timeout_s=30
        )
        server, from_standby = stack.enter_context(live)
        assert from_standby == prepared, log.read_text()
        pids = tree(server.pid)
        yield server
    assert not any(map(is_alive, pids))
    assert server.launch.api_key not in log.read_text()


def chat(server: Server, text: str, tokens: int = 24) -> dict[str, Any]:
    body = {
        "model": server.endpoint.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
    }
    connection = http.client.HTTPConnection(server.endpoint.host, server.endpoint.port, timeout=120)
    headers = {"Authorization": f"Bearer {server.endpoint.api_key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    read: dict[str, Any] = json.loads(answer.read())
    assert answer.status == 200, read
    return read


def counter(server: Server, field: str) -> float:
    sample = read_once(server.endpoint, {field: server.adapter.metrics[field]}, zero=0.0)
    value = getattr(sample, field)
    if value is None and field in server.adapter.lazy:
        return 0.0
    assert isinstance(value, float)
    return value


def metrics_page(server: Server) -> bytes:
    connection = http.client.HTTPConnection(server.endpoint.host, server.endpoint.port, timeout=30)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {server.endpoint.api_key}"})
    return connection.getresponse().read()


def kv_tokens(server: Server) -> float:
    """The capacity of vLLM's KV cache, from what it says of itself."""
    line = next(line for line in metrics_page(server).decode().splitlines() if "cache_config_info{" in line)
    labels = dict(pair.split("=", 1) for pair in line[line.index("{") + 1 : line.index("}")].split(","))
    return float(labels["num_gpu_blocks"].strip('"')) * float(labels["block_size"].strip('"'))


@pytest.mark.parametrize("engine", REAL)
def test_a_prepared_engine_answers_and_without_prefix_caching_nothing_is_reused(
    engine: str, tmp_path: Path
) -> None:
    with started(config(engine, "opt=none"), tmp_path, prepared=True) as server:
        assert server.failure() is None
        before = counter(server, "generation_tokens_total")
        first = chat(server, "What is 7 + 5?")
        assert "12" in first["choices"][0]["message"]["content"]
        generated = first["usage"]["completion_tokens"]
        assert counter(server, "generation_tokens_total") - before == generated
        for n in range(2):
            chat(server, f"{SHARED} What is {n} + 5?")
        assert counter(server, "prefix_hits_tokens_total") == 0
        assert server.reset_cache()
        if engine == "vllm":  # with no cache to empty, its developers' routes are not there at all
            assert ask(server.endpoint, "POST", "/sleep")[0] == 404


@pytest.fixture(scope="module")
def caching(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine with prefix caching, and for vLLM with what else can be told apart in its counters."""
    opts = {"vllm": "[prefix-cache,spec-ngram,kv-fp8-e5m2]", "sglang": "prefix-cache"}
    made = config(request.param, f"opt={opts[request.param]}")
    with started(made, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.mark.parametrize("caching", REAL, indirect=True)
def test_prefix_caching_reuses_what_prompts_share_until_it_is_reset(caching: Server) -> None:
    chat(caching, f"{SHARED} What is 1 + 5?")
    cold = counter(caching, "prefix_hits_tokens_total")
    cached = chat(caching, f"{SHARED} What is 2 + 5?")["usage"]["prompt_tokens_details"]["cached_tokens"]
    warm = counter(caching, "prefix_hits_tokens_total")
    assert cached >= 128
    assert warm - cold == cached
    assert caching.reset_cache()
    chat(caching, f"{SHARED} What is 3 + 5?")
    assert counter(caching, "prefix_hits_tokens_total") == warm


# What stands on no list of an engine's own, and what each must list, lest an empty list passes.
UNLISTED = ("/", "/openapi.json", "/docs", "/redoc", "/metrics", "/metrics/", "/health_generate", "/nowhere")
MUST_LIST = {
    "vllm": {"/sleep", "/reset_prefix_cache", "/collective_rpc", "/invocations", "/v1/chat/completions"},
    "sglang": {"/flush_cache", "/generate", "/health_generate", "/abort_request", "/v1/chat/completions"},
}


@pytest.mark.parametrize("caching", REAL, indirect=True)
def test_every_route_answers_only_with_the_key(caching: Server) -> None:
    """Of an engine with all its routes: one that caches, so that vLLM's developers' are there."""
    status, body = ask(caching.endpoint, "GET", "/openapi.json")
    assert status == 200
    listed = {(verb.upper(), path) for path, verbs in json.loads(body)["paths"].items() for verb in verbs}
    assert {path for _, path in listed} >= MUST_LIST[caching.adapter.name]
    paths = {path for _, path in listed} | set(UNLISTED)
    asked = listed | {(verb, path) for path in paths for verb in ("GET", "POST", "OPTIONS", "HEAD")}
    without = replace(caching.endpoint, api_key=None)
    answers = {one: ask(without, *one)[0] for one in sorted(asked)}
    assert {one: status for one, status in answers.items() if status != 401} == {}
    assert ask(without, "GET", "/v1/models", key=caching.launch.api_key[:-1])[0] == 401
    assert caching.reset_cache()
    assert chat(caching, "What is 7 + 5?")["usage"]["completion_tokens"] > 1


@pytest.mark.parametrize("caching", ["vllm"], indirect=True)
def test_drafts_from_the_prompt_are_accepted_and_every_metric_of_the_map_is_there(caching: Server) -> None:
    chat(caching, "Repeat this list five times: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10", tokens=96)
    drafts, drafted, accepted = (
        counter(caching, f"spec_{name}_total") for name in ("drafts", "drafted", "accepted")
    )
    assert 0 < accepted <= drafted
    assert drafted <= 3 * drafts
    page = metrics_page(caching)
    assert not [name for name in caching.adapter.metrics.values() if not values(page, name)]


@pytest.mark.parametrize("caching", ["vllm"], indirect=True)
def test_a_cache_of_e5m2_holds_twice_as_many_tokens(caching: Server) -> None:
    assert kv_tokens(caching) == pytest.approx((2 << 30) / EIGHT_BIT_BYTES, rel=0.01)
    assert chat(caching, "What is 7 + 5?")["usage"]["completion_tokens"] > 1


def test_so_does_one_of_e4m3_with_chunked_prefill(tmp_path: Path) -> None:
    with started(config("vllm", "opt=[kv-fp8,chunked-prefill]"), tmp_path) as server:
        assert kv_tokens(server) == pytest.approx((2 << 30) / EIGHT_BIT_BYTES, rel=0.01)
        assert chat(server, "What is 7 + 5?")["usage"]["completion_tokens"] > 1


@pytest.mark.parametrize("engine", REAL)
def test_a_bad_flag_is_named(engine: str, tmp_path: Path) -> None:
    made = config(engine, "+engine.args.max-num-seqz=3")
    with pytest.raises(EngineError, match="--max-num-seqz") as caught, started(made, tmp_path):
        pass
    assert caught.value.cause == "bad_flag"


def test_too_large_a_cache_is_out_of_memory(tmp_path: Path) -> None:
    made = config("vllm", "+engine.args.kv-cache-memory-bytes=9000000000000")
    with pytest.raises(EngineError, match="less than requested memory") as caught, started(made, tmp_path):
        pass
    assert caught.value.cause == "oom"


@pytest.mark.parametrize("engine", REAL)
def test_the_flags_with_which_an_engine_sleeps_are_its_own(engine: str) -> None:
    """On a CPU neither can."""
    made, adapter = config(engine), ADAPTERS[engine]
    its = version.engine_version(made.engine)
    assert its is not None
    assert adapter.sleep is not None
    launch = build_launch(made, hardware="cpu", tensor_parallel_size=1, engine_version=its)
    found = flags.known(launch, its)
    assert found
    flags.check_known(adapter, adapter.sleep.flags, "engine.args", found, its)
    flags.check_values(adapter, adapter.sleep.flags, "engine.args", found, its)
