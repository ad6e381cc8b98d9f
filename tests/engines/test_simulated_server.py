"""The simulated engine as a process under the one lifecycle of all engines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.engines.external import connect
from orchestrator.engines.http import ask
from orchestrator.engines.launch import build_launch
from orchestrator.engines.server import Server, running
from orchestrator.engines.simulated import ADAPTER
from orchestrator.errors import ConfigError, EngineError
from orchestrator.records import Sample
from orchestrator.telemetry.engine import assert_present, read_once
from tests.engines.fake import all_gone, tree
from tests.support.compose import config_of

pytestmark = pytest.mark.slow

PROMPT = "What is 3 + 4?\n\nReply with the final answer only."


def started(
    log: Path, *args: str, model: str = "r1-7b", speed: float = 100.0
) -> AbstractContextManager[Server]:
    overrides = [f"++engine.args.{one}" for one in args]
    config = config_of("engine=simulated", f"model={model}", f"++engine.args.speed={speed}", *overrides)
    launch = build_launch(config, hardware="gpu", tensor_parallel_size=1, engine_version="1")
    return running(ADAPTER, launch, log, start_timeout_s=20, stop_timeout_s=5)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("simulated")
    with started(folder / "engine.log", "start-seconds=0", "enable-prefix-caching=true") as live:
        yield live


def opened(server: Server, **others: Any) -> HTTPConnection:
    """A request that was sent."""
    document = {
        "model": server.endpoint.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 2000,
        "seed": 1,
    }
    connection = HTTPConnection(server.endpoint.host, server.endpoint.port, timeout=10)
    headers = {"Authorization": f"Bearer {server.endpoint.api_key}", "X-Request-Id": "mine"}
    connection.request("POST", "/v1/chat/completions", json.dumps(document | others), headers)
    return connection


def posted(server: Server, **others: Any) -> tuple[int, dict[str, Any]]:
    connection = opened(server, **others)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def streamed(server: Server, **others: Any) -> tuple[list[float], list[dict[str, Any]]]:
    """When each event came, in seconds from the request, and the events before ``[DONE]``."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    began = time.perf_counter()
    connection = opened(server, **({"stream": True, "stream_options": options} | others))
    answer = connection.getresponse()
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-simulated"] == "true"
    times, events = [], []
    while line := answer.readline():
        if line.startswith(b"data: ") and line != b"data: [DONE]\n":
            times.append(time.perf_counter() - began)
            events.append(json.loads(line[6:]))
    connection.close()
    return times, events


def text_of(events: list[dict[str, Any]], field: str) -> str:
    return "".join(choice["delta"].get(field, "") for event in events for choice in event["choices"])


def sample(server: Server) -> Sample:
    return read_once(server.endpoint, ADAPTER.metrics, 0.0)


def test_it_says_everywhere_that_it_is_simulated(server: Server) -> None:
    status, models = ask(server.endpoint, "GET", "/v1/models")
    assert status == 200
    assert json.loads(models)["data"][0] == {"id": "r1-7b", "object": "model", "owned_by": "simulated"}
    assert posted(server, max_tokens=3)[1]["model"] == "simulated"
    assert "SIMULATED engine serves r1-7b at speed 100" in server.log_path.read_text()


def test_nobody_gets_in_without_the_key(server: Server) -> None:
    for path in ("/v1/models", "/v1/chat/completions", "/health", "/metrics", "/reset_prefix_cache", "/"):
        for method in ("GET", "POST", "OPTIONS"):
            assert ask(server.endpoint, method, path, key="wrong")[0] == 401
    assert ask(server.endpoint, "GET", "/health")[0] == 200


def test_a_stream_counts_its_tokens_on_every_chunk(server: Server) -> None:
    _, events = streamed(server)
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts)
    assert counts[0] == 0
    last = events[-1]
    assert last["choices"] == []
    assert text_of(events, "content").count(" ") >= 3
    thought, shown = text_of(events, "reasoning_content"), text_of(events, "content")
    details = last["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == len(thought.split())
    assert last["usage"]["completion_tokens"] == len(thought.split()) + 5  # "The answer is \boxed{7}" and "."
    assert shown.startswith("The answer is \\boxed{")
    reasons = [choice["finish_reason"] for event in events for choice in event["choices"]]
    assert [reason for reason in reasons if reason] == ["stop"]


def test_the_same_request_is_answered_alike_streamed_or_whole(server: Server) -> None:
    status, whole = posted(server)
    _, events = streamed(server)
    message = whole["choices"][0]["message"]
    assert status == 200
    assert message["content"] == text_of(events, "content")
    assert message["reasoning_content"] == text_of(events, "reasoning_content")
    assert posted(server, seed=2)[1]["choices"][0]["message"] != message


def test_a_standard_model_does_not_think(log: Path) -> None:
    with started(log, "start-seconds=0", model="qwen2.5-math-7b") as live:
        _, events = streamed(live)
        assert text_of(events, "reasoning_content") == ""
        assert "completion_tokens_details" not in events[-1]["usage"]


def test_final_usage_comes_once_and_only_when_asked_for(server: Server) -> None:
    _, final = streamed(server, stream_options={"include_usage": True})
    assert [("usage" in event) for event in final] == [False] * (len(final) - 1) + [True]
    _, none = streamed(server, stream_options=None)
    assert not any("usage" in event for event in none)


def test_length_is_forced_where_the_end_of_text_is_ignored(server: Server) -> None:
    _, events = streamed(server, ignore_eos=True, max_tokens=37)
    assert events[-1]["usage"]["completion_tokens"] == 37
    assert events[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("others", "status", "why"),
    [
        ({"model": "another"}, 404, "does not exist"),
        ({"messages": []}, 400, "messages"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"max_tokens": 10**6}, 400, "over 34816"),
    ],
)
def test_what_cannot_be_served_is_refused(
    server: Server, others: dict[str, Any], status: int, why: str
) -> None:
    got, body = posted(server, **others)
    assert got == status
    assert why in body["error"]["message"]


def test_its_metrics_are_those_it_declares_and_they_count(server: Server) -> None:
    assert_present(server.endpoint, ADAPTER.metrics)
    before = sample(server)
    _, events = streamed(server)
    after = sample(server)
    assert before.generation_tokens_total is not None
    assert after.generation_tokens_total is not None
    usage = events[-1]["usage"]
    assert after.generation_tokens_total - before.generation_tokens_total == usage["completion_tokens"]
    assert (after.running, after.waiting, after.kv_usage) == (0, 0, 0)
    assert after.queue_requests_total == (before.queue_requests_total or 0) + 1
    assert (after.prefill_s_total or 0) > (before.prefill_s_total or 0)


def test_the_cache_is_hit_by_a_repeated_prompt_and_emptied_on_request(server: Server) -> None:
    content = {"messages": [{"role": "user", "content": "word " * 100 + PROMPT}], "max_tokens": 5}
    assert server.reset_cache()
    cached = [
        posted(server, **content)[1]["usage"]["prompt_tokens_details"]["cached_tokens"] for _ in range(2)
    ]
    assert cached[0] == 0
    assert cached[1] > 64
    assert server.reset_cache()
    assert posted(server, **content)[1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_a_client_that_goes_away_frees_its_place(server: Server) -> None:
    connection = opened(server, stream=True, ignore_eos=True, max_tokens=30_000)
    response = connection.getresponse()
    assert sample(server).running == 1
    assert not server.reset_cache(patience_s=0)
    response.close()
    connection.close()
    deadline = time.monotonic() + 5
    while sample(server).running:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_tokens_come_when_the_model_says(log: Path) -> None:
    """At its own speed a lone 7B stream takes about 4.6 ms a token; a tenth of it is left to this machine."""
    with started(log, "start-seconds=0", speed=1) as live:
        times, events = streamed(live, ignore_eos=True, max_tokens=200)
    counts = [event["usage"]["completion_tokens"] for event in events]
    first, last = counts.index(1), counts.index(200)
    assert last - first > 100  # a late step's tokens may come with the next one's
    gap_s = (times[last] - times[first]) / 199
    assert gap_s == pytest.approx(14.19 * 2**30 / 4.8e12 / 0.85 + 0.0009, rel=0.1)


def test_a_faster_clock_shortens_start_and_answers_alike(log: Path) -> None:
    with started(log, "start-seconds=100", speed=50) as live:
        assert live.started_in_s is not None
        assert 2.0 <= live.started_in_s < 4.0
        times, events = streamed(live, ignore_eos=True, max_tokens=2000)
    assert events[-1]["usage"]["completion_tokens"] == 2000
    assert 0.15 < times[-1] < 1.0  # 2,000 tokens of some 4.6 ms each are 9 s on its clock


def test_it_is_small_and_quick_to_start(server: Server) -> None:
    engine = psutil.Process(tree(server.pid)[-1])
    assert "orchestrator.engines.simulated.server" in " ".join(engine.cmdline())
    assert engine.memory_info().rss < 60 * 2**20
    with started(server.log_path.with_name("other.log"), "start-seconds=0") as other:
        times = psutil.Process(tree(other.pid)[-1]).cpu_times()
        assert times.user + times.system < 1.0


def test_memory_that_runs_out_at_start_is_named_so(log: Path) -> None:
    with pytest.raises(EngineError) as caught, started(log, "oom-at-start=true", "start-seconds=0"):
        pass
    assert caught.value.cause == "oom"


@pytest.mark.parametrize(("fault", "cause"), [("crash", "crash"), ("oom", "oom_serving")])
def test_it_dies_of_the_request_that_was_asked_for(log: Path, fault: str, cause: str) -> None:
    with started(log, f"{fault}-after-requests=3", "start-seconds=0") as live:
        for _ in range(2):
            assert posted(live, max_tokens=2)[0] == 200
        with pytest.raises((ConnectionError, OSError)):
            posted(live, max_tokens=2)
        deadline = time.monotonic() + 5
        while (failure := live.failure()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert failure.cause == cause


def test_a_hung_engine_answers_nothing_and_is_ended_all_the_same(log: Path) -> None:
    with started(log, "hang-after-requests=1", "start-seconds=0") as live:
        pids = tree(live.pid)
        opened(live)
        time.sleep(0.2)
        assert ask(live.endpoint, "GET", "/health", timeout_s=0.5)[0] is None
        assert live.poll() is None
    assert all_gone(pids, 1)


def test_it_cannot_be_measured_as_somebody_elses_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITS_KEY", server.endpoint.api_key or "")
    url = f"http://127.0.0.1:{server.endpoint.port}"
    config = config_of("engine=external", f"engine.base_url={url}", "engine.api_key_env=ITS_KEY")
    with pytest.raises(ConfigError, match="is a simulated engine"):
        connect(config)
