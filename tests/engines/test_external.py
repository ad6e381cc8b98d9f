from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest

from orchestrator.config.schema import EngineConfig, SweepConfig
from orchestrator.engines import external
from orchestrator.engines.external import UntrustedError, connect, parse_base_url, served
from orchestrator.engines.http import answer
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
    found, metrics = connect(config(serve("ok")))
    assert found.endpoint.model == "fake-model"
    assert found.endpoint.api_key == "k"
    assert metrics == {
        "running": "vllm:num_requests_running",
        "prompt_tokens_total": "vllm:prompt_tokens_total",
    }
    assert found.reset_cache() is False  # the fake's first answer
    assert found.reset_cache() is True
    assert found.failure() is None


def test_a_cache_that_cannot_be_reset_is_unknown(serve: Callable[[str], str]) -> None:
    found, _ = connect(config(serve("no-reset")))
    assert found.reset_cache() is None


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


@contextmanager
def answering(said: bytes | None) -> Iterator[str]:
    """A server that answers every connection so, or is silent."""
    held: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                held.append(listening.accept()[0])
                if said is not None:
                    held[-1].recv(4096)
                    held[-1].sendall(said)
                    held[-1].shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for one in held:
                one.close()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>\x1b[31m\nlog in</html>",
            "lists no model: HTTP 200, <html> [31m log in</html>",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", "lists no model: HTTP 200, [1]"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, "lists no model: HTTP 200, " + "[" * 80 + "…"),
        (
            b"HTTP/1.1 308 Moved\r\nLocation: https://h/v1/models\r\nContent-Length: 0\r\n\r\n",
            "lists no model: HTTP 308, redirects to https://h/v1/models",
        ),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "lists no model: HTTP 404, empty"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 500, "lists no model: HTTP 200, " + "x" * 80 + "…"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "what answers there is no HTTP (BadStatusLine)"),
        (b"", "what answers there is no HTTP (RemoteDisconnected)"),
    ],
)
def test_what_came_instead_of_models_is_said(said: bytes, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "k")
    with answering(said) as url, pytest.raises(ConfigError) as caught:
        connect(config(url))
    assert str(caught.value).startswith(f"engine.base_url={url}: ")
    assert str(caught.value).endswith(told)


def test_a_server_without_tls_is_refused_at_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "k")
    with (
        answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as url,
        pytest.raises(
            UntrustedError, match=r"there is no TLS to agree on \(.*\); a server without it is at http"
        ),
    ):
        served(config(url.replace("http:", "https:")).engine)


def test_a_server_that_stays_silent_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "k")
    monkeypatch.setattr(external, "answer", partial(answer, timeout_s=0.2))
    with answering(None) as url, pytest.raises(ConfigError, match=r"/v1/models did not answer within 10 s"):
        connect(config(url))


@pytest.mark.parametrize(
    ("url", "host", "port", "base_path"),
    [
        ("https://h/v1", "h", 443, ""),
        ("https://h:8443/llm", "h", 8443, "/llm"),
        ("http://h:8000", "h", 8000, ""),
        ("http://h:8000/v1/", "h", 8000, ""),
        ("http://h/llm/v1", "h", 80, "/llm"),
        ("http://h/a%20b/v1", "h", 80, "/a%20b"),
        ("HTTP://Host:8000//v1//", "host", 8000, ""),
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
        *("http://h/v1?key=1", "http://h/#v1", "http://h h:80", " http://h", "http://h/lläm", "http://hü"),
        *("http://h/a\x00b", "http://h/v1\n", "http://h/?"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str | None) -> None:
    with pytest.raises(ConfigError, match=r"^engine\.base_url=.*\Z"):
        parse_base_url(EngineConfig(name="external", base_url=url))


def test_a_key_that_is_not_set_is_refused() -> None:
    engine = EngineConfig(name="external", base_url="http://h", api_key_env="ABSENT_KEY")
    with pytest.raises(ConfigError, match=r"engine\.api_key_env=ABSENT_KEY"):
        parse_base_url(engine)


def test_a_key_is_taken_without_the_line_end_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EngineConfig(name="external", base_url="http://h", api_key_env=KEY_ENV)
    monkeypatch.setenv(KEY_ENV, " abcdef\n")
    assert parse_base_url(engine).api_key == "abcdef"
    for odd in ("abc\r\nX-Other: def", "abcdéf", "abc\x01def"):
        monkeypatch.setenv(KEY_ENV, odd)
        with pytest.raises(ConfigError, match=rf"engine\.api_key_env={KEY_ENV}: .*printable ASCII") as caught:
            parse_base_url(engine)
        assert "abc" not in str(caught.value)


def test_a_list_of_models_without_an_envelope_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "k")
    body = b'[{"id": "m", "object": "model"}, {"id": "n"}]'
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as url:
        assert served(config(url).engine) == {"id": "m"}
        assert served(config(url, model="n").engine) == {"id": "n"}


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match=r"engine\.base_url.*engine\.api_key_env") as caught:
        parse_base_url(EngineConfig(name="external", base_url="http://me:hush@h:8000"))
    assert "hush" not in str(caught.value)
