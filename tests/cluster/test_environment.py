"""Which cluster is asked, and what Ray is told by the environment (`orchestrator.cluster.environment`,
`address`)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest

from orchestrator.cluster.address import wanted
from orchestrator.cluster.environment import set_ray_environment
from orchestrator.errors import ConfigError

NOBODY = "127.0.0.1:1"


@contextmanager
def head(*, asks_for_token: bool) -> Iterator[str]:
    """A server that answers as a cluster's head does; its address."""

    def alive(request: bytes, context: Any) -> bytes:
        if asks_for_token and ("authorization", "Bearer secret") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return b""

    handlers = {"CheckAlive": grpc.unary_unary_rpc_method_handler(alive)}
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("ray.rpc.NodeInfoGcsService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.fixture(autouse=True)
def with_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if not k.startswith("RAY_")})


def mode(address: str | None) -> str | None:
    set_ray_environment(address)
    return os.environ.get("RAY_AUTH_MODE")


def test_a_token_is_sent_to_a_cluster_that_asks_for_one() -> None:
    with head(asks_for_token=True) as address:
        assert mode(address) == "token"


def test_none_is_sent_to_a_cluster_that_serves_anybody() -> None:
    """It would send none itself, and the driver refuse it: every cell failed."""
    with head(asks_for_token=False) as address:
        assert mode(address) is None


def test_auto_is_the_cluster_that_this_machine_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token here and none in the cluster, every cell failed."""
    with head(asks_for_token=False) as address:
        monkeypatch.setattr("orchestrator.cluster.address._heads_of_raylets", lambda: [address])
        assert mode("auto") is None
    monkeypatch.setattr("orchestrator.cluster.address._heads_of_raylets", lambda: [])
    with pytest.raises(ConfigError, match=r"ray\.address=auto: no cluster runs on this machine"):
        set_ray_environment("auto")


def test_what_the_user_has_set_stands_unless_nothing_could_work() -> None:
    with head(asks_for_token=False) as address:
        os.environ["RAY_AUTH_MODE"] = "disabled"
        assert mode(address) == "disabled"
        os.environ["RAY_AUTH_MODE"] = "token"
        with pytest.raises(ConfigError, match=r"RAY_AUTH_MODE=token: the cluster at .* was started without"):
            set_ray_environment(address)
    with head(asks_for_token=True) as address:
        assert mode(address) == "token"
        os.environ["RAY_AUTH_MODE"] = "disabled"
        with pytest.raises(ConfigError, match=r"RAY_AUTH_MODE=disabled: the cluster at .* asks for a token"):
            set_ray_environment(address)


def test_a_token_that_is_missing_or_wrong_is_said(tmp_path: Path) -> None:
    with head(asks_for_token=True) as address:
        (tmp_path / ".ray" / "auth_token").write_text("another")
        with pytest.raises(ConfigError, match="refuses the token of this machine"):
            set_ray_environment(address)
        (tmp_path / ".ray" / "auth_token").unlink()
        with pytest.raises(ConfigError, match="asks for a token and there is none here"):
            set_ray_environment(address)
        os.environ["RAY_AUTH_TOKEN"] = "secret"
        assert mode(address) == "token"


def test_without_a_cluster_nothing_is_set() -> None:
    assert mode(None) is None


def test_a_port_where_nothing_answers_is_said_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"ray\.address=127\.0\.0\.1:1: nothing answers there"):
        set_ray_environment(NOBODY)
    assert time.monotonic() - began < 5


def test_a_port_where_something_else_answers_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.cluster.address.ANSWERS_S", 1.0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    silent = socket.create_server(("127.0.0.1", 0))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        for port in (server.server_port, silent.getsockname()[1]):
            began = time.monotonic()
            with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: nothing answers there as the head"):
                set_ray_environment(f"127.0.0.1:{port}")
            assert time.monotonic() - began < 8
    finally:
        server.shutdown()
        server.server_close()
        silent.close()


@pytest.mark.parametrize(
    ("given", "named", "address"),
    [
        (None, None, None),
        (None, "", None),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),
        (None, "auto", "auto"),
        (None, "local", None),
        ("local", "10.0.0.1:6379", None),
        ("node-1.example:6379", "10.0.0.1:6379", "node-1.example:6379"),
        ("[::1]:6379", None, "[::1]:6379"),
        ("auto", None, "auto"),
    ],
)
def test_the_address_that_is_asked_for(given: str | None, named: str | None, address: str | None) -> None:
    os.environ.pop("RAY_ADDRESS", None)
    if named is not None:
        os.environ["RAY_ADDRESS"] = named
    assert wanted(given) == address


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "ray.address=: must be HOST:PORT"),
        ("head", "ray.address=head: must be HOST:PORT"),
        ("head:66000", "ray.address=head:66000: must be HOST:PORT"),
        ("ray://head:10001", "ray.address=ray://head:10001: a sweep cannot run through the Ray client"),
        ("http://head:8265", "ray.address=http://head:8265: is a dashboard's address"),
    ],
)
def test_what_is_no_address_is_said(given: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as error:
        wanted(given)
    assert says in str(error.value)
    if given:
        os.environ["RAY_ADDRESS"] = given
        with pytest.raises(ConfigError, match=r"RAY_ADDRESS=.*ray\.address=local"):
            wanted(None)
