"""A head that is lost, and comes back (`orchestrator.cluster.head`)."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.cluster.head import watched_head
from tests.support.waiting import until


@contextmanager
def held_port() -> Iterator[int]:
    """A port that nothing answers at, and that nobody gets but who listens there with `listen`."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), reuse_port=True)


def test_a_lost_head_is_said_once_with_the_command_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep.py", "-m", "opt=none,[fp8,kv-fp8]"])
    said: list[str] = []
    with (
        held_port() as port,
        listen(port) as head,
        watched_head(f"127.0.0.1:{port}", said.append, every_s=0.05),
    ):
        time.sleep(0.3)
        assert said == [], "it answers"
        head.close()
        until(lambda: len(said) == 1, within_s=10)
        assert said[0].endswith("python -m orchestrator.sweep -m 'opt=none,[fp8,kv-fp8]'")
        time.sleep(0.3)
        assert len(said) == 1
        with listen(port):
            until(lambda: len(said) == 2, within_s=10)
    assert said[1].endswith("answers again")
