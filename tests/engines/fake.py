"""An adapter whose engine is ``fake_server.py``, and what tests ask of processes."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil

from orchestrator.engines import vllm
from orchestrator.engines.adapter import Adapter, Launch

SCRIPT = Path(__file__).with_name("fake_server.py")
LAUNCH = Launch(engine="fake", python=sys.executable, model="/models/fake", served_name="fake-model")


def fake_adapter(mode: str, pid_file: Path | None = None) -> Adapter:
    def command(launch: Launch) -> list[str]:
        return [launch.python, str(SCRIPT), str(launch.port), mode, *([str(pid_file)] if pid_file else [])]

    return replace(
        vllm.ADAPTER,
        name="fake",
        command=command,
        environment=lambda launch: {"ENGINE_API_KEY": launch.api_key, "FAKE_SETTING": "1"},
    )


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def tree(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def all_gone(pids: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(is_alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
