from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.engines import server as server_module
from orchestrator.engines.adapter import Adapter, Launch
from orchestrator.engines.environment import clean
from orchestrator.engines.http import ask
from orchestrator.engines.server import Server, by_hand, drawn, running
from orchestrator.errors import EngineError
from tests.engines.fake import LAUNCH, fake_adapter, is_alive, tree

pytestmark = pytest.mark.slow


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "engine.log"


def start(
    adapter: Adapter, log: Path, start_s: float = 10, stop_s: float = 5
) -> AbstractContextManager[Server]:
    return running(adapter, LAUNCH, log, start_timeout_s=start_s, stop_timeout_s=stop_s)


def fails_to_start(adapter: Adapter, log: Path, start_s: float = 10) -> EngineError:
    with pytest.raises(EngineError) as caught, start(adapter, log, start_s, stop_s=1):
        pass
    return caught.value


def failure_within(server: Server, seconds: float) -> EngineError | None:
    deadline = time.monotonic() + seconds
    while (found := server.failure()) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_no_drawn_key_can_be_taken_for_a_flag() -> None:
    keys = set()
    for _ in range(300):  # one in 64 would begin with a dash if the alphabet had one
        with drawn(LAUNCH) as own:
            keys.add(own.api_key)
    assert len(keys) == 300
    assert all(len(key) == 48 and key.isalnum() for key in keys)


def test_a_started_server_is_ready_and_gone_when_the_block_ends(log: Path) -> None:
    with start(fake_adapter("ok"), log) as server:
        assert server.endpoint.model == "fake-model"
        assert server.started_in_s is not None
        assert 0 < server.started_in_s < 10
        assert server.poll() is None
        assert server.failure() is None
        pids = tree(server.pid)
        assert len(pids) == 3  # two guards and the engine
    assert not any(map(is_alive, pids))


def test_it_is_gone_too_when_the_block_raises(log: Path) -> None:
    pids: list[int] = []

    def measure() -> None:
        with start(fake_adapter("ok"), log) as server:
            pids.extend(tree(server.pid))
            raise KeyError

    with pytest.raises(KeyError):
        measure()
    assert pids
    assert not any(map(is_alive, pids))


def test_the_log_keeps_earlier_starts_and_opens_with_the_command(log: Path) -> None:
    for _ in range(2):
        with start(fake_adapter("ok"), log):
            pass
    lines = log.read_text().splitlines()
    assert [line.startswith("$ ENGINE_API_KEY=") for line in lines] == [True, False, True, False]
    assert lines[1].startswith("listening")


def test_every_deployment_has_its_own_key_and_it_stands_nowhere(log: Path) -> None:
    keys = set()
    for _ in range(2):
        with start(fake_adapter("ok"), log) as server:
            key = server.launch.api_key
            keys.add(key)
            command_lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in tree(server.pid)]
            assert not any(key in words for words in command_lines)
            assert key not in str(server.error("crash", "as a test"))
            assert key not in repr(server.launch)
        assert key not in log.read_text()
    assert len(keys) == 2


def test_a_key_that_the_engine_logs_is_covered(log: Path) -> None:
    with start(fake_adapter("talkative"), log) as server:
        assert server.launch.api_key not in log.read_text()
        assert server.launch.api_key not in server.log_tail()
    assert f"key: {'*' * len(server.launch.api_key)} the end" in log.read_text()


def test_an_engine_that_dies_while_starting_is_named_with_its_log_and_command(log: Path) -> None:
    error = fails_to_start(fake_adapter("dies"), log)
    assert error.cause == "oom"
    message = str(error)
    assert "ended while starting with code 1 (oom: torch.OutOfMemoryError" in message
    assert "fake_server.py" in message
    assert "tensor_parallel_size" in message  # what to try
    assert message.endswith("CUDA out of memory. Tried to allocate")


def test_a_crash_while_serving_is_noticed_within_two_seconds(log: Path) -> None:
    with start(fake_adapter("ok"), log) as server:
        assert ask(server.endpoint, "POST", "/die")[0] is None
        error = failure_within(server, 2)
        assert error is not None
        assert error.cause == "crash"
        assert "ended while serving with code 3 (crash: ValueError: asked to die)" in str(error)


def test_an_engine_that_never_listens_times_out(log: Path) -> None:
    assert fails_to_start(fake_adapter("never"), log, start_s=1).cause == "start_timeout"


def test_starting_can_be_cancelled(log: Path) -> None:
    began = time.monotonic()
    with (
        pytest.raises(EngineError) as caught,
        running(
            fake_adapter("never"),
            LAUNCH,
            log,
            start_timeout_s=60,
            stop_timeout_s=1,
            cancelled=lambda: time.monotonic() > began + 0.3,
        ),
    ):
        pass
    assert caught.value.cause == "cancelled"
    assert time.monotonic() - began < 5


def test_an_interpreter_that_does_not_exist_is_a_failed_start(log: Path) -> None:
    adapter = replace(fake_adapter("ok"), command=lambda launch: ["/no/such/python", str(launch.port)])
    error = fails_to_start(adapter, log)
    assert "/no/such/python: No such file or directory" in str(error)


class _Foreign(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"data": [{"id": "fake-model"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_somebody_elses_server_on_the_port_is_not_ours(log: Path) -> None:
    servers: list[ThreadingHTTPServer] = []
    plain = fake_adapter("never")

    def command(launch: Launch) -> list[str]:
        if launch.port and not servers:
            servers.append(ThreadingHTTPServer(("127.0.0.1", launch.port), _Foreign))
            threading.Thread(target=servers[0].serve_forever, daemon=True).start()
        return plain.command(launch)

    try:
        error = fails_to_start(replace(plain, command=command), log, start_s=1.5)
        assert error.cause == "start_timeout", error
        assert servers
    finally:
        servers[0].shutdown()
        servers[0].server_close()


@pytest.mark.parametrize(("mode", "route"), [("keyless", "/v1/models"), ("keyless-metrics", "/metrics")])
def test_an_engine_that_ignores_its_key_is_refused(log: Path, mode: str, route: str) -> None:
    assert f"{route} answers without its API key" in str(fails_to_start(fake_adapter(mode), log))


def test_while_a_key_may_stand_in_the_log_only_its_owner_reads_it(log: Path) -> None:
    with drawn(LAUNCH) as own:
        server = Server(fake_adapter("never"), own, log, stop_timeout_s=1)
    try:
        assert log.stat().st_mode & 0o777 == 0o600
    finally:
        server.stop()
    for_others = log.parent.stat().st_mode & 0o666
    assert log.stat().st_mode & 0o777 == for_others != 0o600
    with start(fake_adapter("talkative"), log) as served:
        assert log.stat().st_mode & 0o777 == for_others
        assert served.launch.api_key not in log.read_text()


def test_the_port_is_not_given_to_anybody_else_while_the_engine_starts() -> None:
    with server_module.held_port("127.0.0.1") as port, socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()


def test_a_server_that_stops_answering_is_hung(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEALTH_EVERY_S", 0.2)
    monkeypatch.setattr(server_module, "HANG_S", 0.5)
    with start(fake_adapter("ok"), log) as server:
        time.sleep(0.6)
        assert server.failure() is None
        ask(server.endpoint, "POST", "/hang")
        error = failure_within(server, 5)
        assert error is not None
        assert error.cause == "hang"


def test_a_stubborn_engine_is_killed_after_its_grace(log: Path) -> None:
    with start(fake_adapter("stubborn"), log, stop_s=0.5) as server:
        pids = tree(server.pid)
        began = time.monotonic()
    assert 0.5 <= time.monotonic() - began < 3
    assert not any(map(is_alive, pids))


def test_a_grandchild_in_a_session_of_its_own_is_gone_too(log: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with start(fake_adapter("daemon", pid_file), log):
        daemon = int(pid_file.read_text())
        assert is_alive(daemon)
    assert not is_alive(daemon)


def test_a_grandchild_is_gone_when_the_engine_ends_by_itself(log: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with start(fake_adapter("daemon", pid_file), log) as server:
        ask(server.endpoint, "POST", "/die")
        assert failure_within(server, 2) is not None
        assert not is_alive(int(pid_file.read_text()))


@pytest.mark.parametrize("guards", [slice(0, 1), slice(1, 2), slice(0, 2)], ids=["outer", "inner", "both"])
def test_nothing_is_left_when_a_guard_is_killed(
    log: Path, tmp_path: Path, guards: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "KILL_MARGIN_S", 1.0)
    pid_file = tmp_path / "pid"
    with start(fake_adapter("daemon", pid_file), log, stop_s=1) as server:
        pids = tree(server.pid)
        assert int(pid_file.read_text()) in pids
        for number in pids[guards]:
            os.kill(number, signal.SIGKILL)
        assert failure_within(server, 2) is not None
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize(("mode", "empty"), [("silent", True), ("silent-held", False)])
def test_where_the_body_says_nothing_the_log_tells_whether_the_cache_was_reset(
    log: Path, mode: str, empty: bool
) -> None:
    with start(fake_adapter(mode), log) as server:
        assert server.reset_cache(patience_s=0.3) is empty


def test_the_cache_counts_as_reset_only_when_the_body_says_so(log: Path) -> None:
    with start(fake_adapter("ok"), log) as server:  # its first answer is no, its second yes
        assert server.reset_cache()
    with start(fake_adapter("held"), log) as server:
        assert not server.reset_cache(patience_s=0.3)


def test_a_stopped_server_may_be_stopped_again(log: Path) -> None:
    with start(fake_adapter("ok"), log) as server:
        server.stop()
        assert server.failure() is None
        server.stop()


def test_the_engines_environment_is_clean() -> None:
    inherited = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "HF_TOKEN": "t",
        "CUDA_VISIBLE_DEVICES": "3",
        "RAY_JOB_ID": "1",
        "PYTHONPATH": "/ours",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "WANDB_API_KEY": "w",
        "VLLM_ATTENTION_BACKEND": "X",
        "VLLM_CACHE_ROOT": "/cache",
    }
    launch = replace(LAUNCH, python="/env/bin/python", env={"PYTHONPATH": "/site", "HOME": "/else"})
    env = clean(fake_adapter("ok"), launch, inherited)
    assert env == {
        "PATH": "/env/bin:/bin",
        "HOME": "/else",
        "HF_TOKEN": "t",
        "CUDA_VISIBLE_DEVICES": "3",
        "VLLM_CACHE_ROOT": "/cache",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": "/site",
        "ENGINE_API_KEY": launch.api_key,
        "FAKE_SETTING": "1",
    }


def test_the_command_to_run_by_hand_names_secrets_without_telling_them() -> None:
    launch = replace(LAUNCH, port=81, api_key="s3cret", env={"HF_TOKEN": "hf_x", "SHOWN": "a b"})
    line = by_hand(fake_adapter("ok"), launch)
    assert 'ENGINE_API_KEY="$ENGINE_API_KEY"' in line
    assert 'HF_TOKEN="$HF_TOKEN"' in line
    assert "SHOWN='a b'" in line
    assert "s3cret" not in line
    assert "hf_x" not in line
