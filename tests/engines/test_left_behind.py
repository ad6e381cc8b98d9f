"""What an engine leaves behind when somebody is killed: no process, no shared memory, no key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from orchestrator.engines import guard
from orchestrator.engines import server as server_module
from orchestrator.engines.server import Server, running
from tests.engines.fake import LAUNCH, all_gone, fake_adapter, tree


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "engine.log"


_PARENT = """
import sys, time
from pathlib import Path
from orchestrator.engines.server import running
from tests.engines.fake import LAUNCH, fake_adapter, tree
adapter = fake_adapter(sys.argv[1], Path(sys.argv[3]))
with running(adapter, LAUNCH, Path(sys.argv[2]), start_timeout_s=10, stop_timeout_s=60) as server:
    print(*tree(server.pid), flush=True)
    time.sleep(300)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["daemon", "stubborn"])
def test_nothing_is_left_soon_after_the_parent_was_killed(
    log: Path, tmp_path: Path, mode: str, number: signal.Signals
) -> None:
    """Whatever grace an engine has that is stopped: the next one waits for its GPU."""
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, mode, str(log), str(pid_file)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout as said:
        pids = [int(word) for word in said.readline().split()]
    assert len(pids) == (4 if mode == "daemon" else 3)
    parent.send_signal(number)
    parent.wait()
    assert all_gone(pids, within_s=guard.ORPHANED_S + 3)


def test_the_log_of_an_engine_whose_worker_was_killed_keeps_no_key(log: Path, tmp_path: Path) -> None:
    """The worker covers it once the engine serves: here it never comes to that."""
    code = f"Server._cover_secrets = lambda self: None\n{_PARENT}".replace(
        "*tree(server.pid)", "server.launch.api_key"
    )
    code = "from orchestrator.engines.server import Server\n" + code
    arguments = [sys.executable, "-c", code, "talkative", str(log), str(tmp_path / "pid")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        key = parent.stdout.readline().strip()
        assert key in log.read_text()
        parent.kill()
    deadline = time.monotonic() + guard.ORPHANED_S + 3
    while key in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert f"key: {'*' * len(key)} the end" in log.read_text()


def shared(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[Server]:
    """An engine that makes shared memory and never removes it; its names are in the file ``names``."""
    monkeypatch.setattr(server_module, "KILL_MARGIN_S", 1.0)
    return running(
        fake_adapter("shares", tmp_path / "names"), LAUNCH, log, start_timeout_s=10, stop_timeout_s=1
    )


def noted(server: Server, wanted: set[str]) -> bool:
    deadline = time.monotonic() + 10
    while {f"/dev/shm/{name}" for name in os.pread(server._shared_fd, 4096, 0).decode().split()} != wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    "killed",
    [slice(0, 0), slice(2, 3), slice(0, 1), slice(1, 2), slice(0, 2), slice(0, 3)],
    ids=["nobody", "engine", "outer guard", "inner guard", "both guards", "all"],
)
def test_no_shared_memory_is_left_whoever_is_killed(
    log: Path, tmp_path: Path, killed: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared(log, tmp_path, monkeypatch) as server:
        made = (tmp_path / "names").read_text().split()
        assert len(made) == 3
        assert all(map(os.path.exists, made))
        assert noted(server, set(made))
        for pid in tree(server.pid)[killed]:
            os.kill(pid, signal.SIGKILL)
    assert not any(map(os.path.exists, made))


def test_shared_memory_that_somebody_else_uses_or_had_before_stays(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as before:
        with shared(log, tmp_path, monkeypatch) as server:
            made = (tmp_path / "names").read_text().split()
            assert noted(server, set(made))
            used = os.open(made[0], os.O_RDONLY)
        try:
            assert Path(before.name).exists()
            assert [Path(path).exists() for path in made] == [True, False, False]
        finally:
            os.close(used)
            Path(made[0]).unlink()
