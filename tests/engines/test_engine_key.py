"""The middleware in front of an engine: what has the key passes, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engines.adapter import run_with_key
from orchestrator.engines.inside.engine_key import DIGEST, KeyOnly

KEY = "0123abcd"


def answered(*headers: tuple[bytes, bytes], kind: str = "http", method: str = "GET") -> list[dict[str, Any]]:
    """What is sent for one request, of an app that says ``served``."""
    sent: list[dict[str, Any]] = []

    async def app(scope: object, receive: object, send: Any) -> None:
        await send({"type": "served"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": kind, "method": method, "path": "/sleep", "headers": list(headers)}
    asyncio.run(KeyOnly(app)(scope, lambda: None, send))
    return sent


@pytest.fixture(autouse=True)
def digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIGEST, hashlib.sha256(KEY.encode()).hexdigest())


def bearer(key: str, scheme: str = "Bearer") -> tuple[bytes, bytes]:
    return b"authorization", f"{scheme} {key}".encode()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_key_opens(kind: str, scheme: str) -> None:
    assert answered(bearer(KEY, scheme), kind=kind) == [{"type": "served"}]


WRONG: list[Iterable[tuple[bytes, bytes]]] = [
    [],
    [bearer("")],
    [bearer(KEY[:-1])],
    [bearer(KEY + "0")],
    [bearer(KEY.upper())],
    [bearer(KEY, "Basic")],
    [bearer("", KEY)],
    [(b"x-api-key", KEY.encode())],
    [(b"authorization", KEY.encode())],
    [(b"authorization", b"\xff\xfe")],
]


@pytest.mark.parametrize("headers", WRONG)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_nothing_else_does(headers: Iterable[tuple[bytes, bytes]], method: str) -> None:
    start, body = answered(*headers, method=method)
    assert start["status"] == 401
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(body["body"])


def test_a_websocket_is_closed_before_it_is_accepted() -> None:
    assert [one["type"] for one in answered(kind="websocket")] == ["websocket.close"]


def test_the_servers_own_start_and_end_pass() -> None:
    assert answered(kind="lifespan") == [{"type": "served"}]


def test_without_a_digest_it_opens_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DIGEST)
    assert answered(bearer(""))[0]["status"] == 401
    assert answered(bearer(KEY))[0]["status"] == 401


FAKE = """
import multiprocessing, os, sys
def words():
    return [word for word in sys.argv[1:] if word.startswith("--")], "ENGINE_API_KEY" in os.environ
def child(queue):
    import engine_key
    queue.put((engine_key.KeyOnly.__name__, len(os.environ["ENGINE_KEY_SHA256"])))
if __name__ == "__main__":
    print(*words())
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    import fake_engine
    process = context.Process(target=fake_engine.child, args=(queue,))
    process.start()
    print(*queue.get(timeout=20))
    process.join()
"""


@pytest.mark.parametrize("flag", ["--middleware", None])
def test_the_engines_processes_find_the_middleware_and_not_the_key(tmp_path: Path, flag: str | None) -> None:
    (tmp_path / "fake_engine.py").write_text(FAKE)
    command = [sys.executable, *run_with_key("fake_engine", flag), "--port", "1"]
    env = {"PYTHONPATH": str(tmp_path), "ENGINE_API_KEY": KEY}
    said = subprocess.check_output(command, env=env, text=True).splitlines()
    flags = ["--port", "--api-key", *([flag] if flag else [])]
    assert said == [f"{flags} False", "KeyOnly 64"]


UVICORN = "class Config:\n    def __init__(self, app, *, port):\n        self.app, self.port = app, port\n"
SERVES = "import uvicorn\nmade = uvicorn.Config(print, port=1)\nprint(made.app is print, made.port)\n"


@pytest.mark.parametrize(("env", "bare"), [({"ENGINE_API_KEY": KEY}, False), ({}, True)])
def test_where_there_is_no_flag_the_served_app_is_wrapped(
    tmp_path: Path, env: dict[str, str], bare: bool
) -> None:
    (tmp_path / "uvicorn.py").write_text(UVICORN)
    (tmp_path / "fake_engine.py").write_text(SERVES)
    command = [sys.executable, *run_with_key("fake_engine")]
    said = subprocess.check_output(command, env=env | {"PYTHONPATH": str(tmp_path)}, text=True)
    assert said == f"{bare} 1\n"
