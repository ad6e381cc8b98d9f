from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from orchestrator.config.schema import EngineConfig, SweepConfig
from orchestrator.engines.external import connect, parse_base_url
from orchestrator.errors import ConfigError
from tests.engines.fake import SCRIPT

KEY_ENV = "ENGINE_API_KEY"


@contextmanager
def server(mode: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(port), mode], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    monkeypatch.setenv(KEY_ENV, "k")
    with ExitStack() as stack:
        yield lambda mode: stack.enter_context(server(mode))


def config(url: str, key_env: str = KEY_ENV, model: str | None = None) -> SweepConfig:
    made = SweepConfig()
    made.engine = EngineConfig(name="external", base_url=url, api_key_env=key_env, served_model=model)
    return made


def test_its_model_and_the_metrics_it_exposes_are_found(serve: Callable[[str], str]) -> None:
    external, metrics = connect(config(serve("ok")))
    assert external.endpoint.model == "fake-model"
    assert external.endpoint.api_key == "k"
    assert metrics == {
        "running": "vllm:num_requests_running",
        "prompt_tokens_total": "vllm:prompt_tokens_total",
    }
    assert external.reset_cache() is False  # the fake's first answer
    assert external.reset_cache() is True
    assert external.failure() is None


def test_a_cache_that_cannot_be_reset_is_unknown(serve: Callable[[str], str]) -> None:
    external, _ = connect(config(serve("no-reset")))
    assert external.reset_cache() is None


def test_a_model_that_it_does_not_serve_is_refused(serve: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError, match=r"engine\.served_model=other: is not served; fake-model"):
        connect(config(serve("ok"), model="other"))


def test_a_refused_key_is_said_so(serve: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    url = serve("ok")
    monkeypatch.setenv("OTHER_KEY", "wrong")
    with pytest.raises(ConfigError, match="refuses the key"):
        connect(config(url, key_env="OTHER_KEY"))


def test_nobody_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "k")
    with pytest.raises(ConfigError, match="nothing answers"):
        connect(config("http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("url", "host", "port", "base_path"),
    [
        ("https://h/v1", "h", 443, ""),
        ("https://h:8443/llm", "h", 8443, "/llm"),
        ("http://h:8000", "h", 8000, ""),
        ("http://h:8000/v1/", "h", 8000, ""),
        ("http://h/llm/v1", "h", 80, "/llm"),
        ("http://[::1]:8000/", "::1", 8000, ""),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, base_path: str) -> None:
    endpoint = parse_base_url(EngineConfig(name="external", base_url=url))
    assert (endpoint.host, endpoint.port, endpoint.base_path) == (host, port, base_path)
    assert endpoint.api_key is None
    assert endpoint.tls == url.startswith("https:")


@pytest.mark.parametrize(
    "url",
    [
        *(
            None,
            "",
            "h:8000",
            "ftp://h",
            "http://:80",
            "http://h:x",
            "http://h:99999",
            "http://h:0",
            "http://[::1",
        ),
        *("http://h/v1?key=1", "http://h/#v1", "http://h h:80", " http://h"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str | None) -> None:
    with pytest.raises(ConfigError, match=r"engine\.base_url="):
        parse_base_url(EngineConfig(name="external", base_url=url))


def test_a_key_that_is_not_set_is_refused() -> None:
    engine = EngineConfig(name="external", base_url="http://h", api_key_env="ABSENT_KEY")
    with pytest.raises(ConfigError, match=r"engine\.api_key_env=ABSENT_KEY"):
        parse_base_url(engine)


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match=r"engine\.base_url.*engine\.api_key_env") as caught:
        parse_base_url(EngineConfig(name="external", base_url="http://me:hush@h:8000"))
    assert "hush" not in str(caught.value)
