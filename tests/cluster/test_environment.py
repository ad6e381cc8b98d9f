from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from orchestrator.cluster.environment import set_ray_environment

NOBODY = "127.0.0.1:1"


@contextmanager
def head(*, asks_for_token: bool) -> Iterator[str]:
    """A server that answers as a cluster's head does to who has no token; its address."""

    def alive(request: bytes, context: Any) -> bytes:
        if asks_for_token:
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
    monkeypatch.setattr(os, "environ", {**os.environ})
    os.environ.pop("RAY_AUTH_MODE", None)


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


@pytest.mark.parametrize("address", [NOBODY, "auto", "ray://127.0.0.1:10001"])
def test_where_it_cannot_be_told_the_token_is_sent(address: str) -> None:
    assert mode(address) == "token"


def test_what_the_user_has_set_stands() -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    assert mode(NOBODY) == "disabled"


def test_without_a_token_or_a_cluster_nothing_is_set(tmp_path: Path) -> None:
    assert mode(None) is None
    (tmp_path / ".ray" / "auth_token").unlink()
    assert mode(NOBODY) is None
