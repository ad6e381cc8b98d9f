from __future__ import annotations

import socket
import sys
import time

import pytest

from orchestrator.cluster.head import watched_head


def listen(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def until(said: list[str], count: int) -> None:
    deadline = time.monotonic() + 10
    while len(said) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_lost_head_is_said_once_with_the_command_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep.py", "-m", "opt=none,[fp8,kv-fp8]"])
    said: list[str] = []
    head = listen()
    port = head.getsockname()[1]
    with watched_head(f"127.0.0.1:{port}", said.append, every_s=0.05):
        time.sleep(0.3)
        assert said == [], "it answers"
        head.close()
        until(said, 1)
        assert said[0].endswith("python -m orchestrator.sweep -m 'opt=none,[fp8,kv-fp8]'")
        time.sleep(0.3)
        assert len(said) == 1
        with listen(port):
            until(said, 2)
    assert said[1].endswith("answers again")
