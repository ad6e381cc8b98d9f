from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engines import standby
from orchestrator.engines.adapter import Adapter, Launch
from orchestrator.engines.standby_process import Standby, started
from orchestrator.errors import EngineError
from tests.engines.fake import LAUNCH, SCRIPT, all_gone, fake_adapter, is_alive, tree

pytestmark = pytest.mark.slow

DUMMY = replace(LAUNCH, weights="dummy")


def adapter_of(mode: str, *, preload: tuple[str, ...] = ("json.tool", "no.such.module")) -> Adapter:
    code = f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"

    def command(launch: Launch) -> list[str]:
        return [launch.python, "-c", code, str(launch.port), mode]

    return replace(
        fake_adapter(mode),
        command=command,
        preload=preload,
        preload_fork={"PRELOADED": "1", "FAKE_SETTING": "2"},
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "engine.log"


def begun(log: Path, mode: str = "ok") -> Standby:
    return Standby(adapter_of(mode), DUMMY, log, stop_timeout_s=1)


def start(log: Path, waiting: Standby | None, mode: str = "ok") -> Any:
    return started(adapter_of(mode), DUMMY, log, waiting=waiting, start_timeout_s=10, stop_timeout_s=1)


def test_a_standby_becomes_the_engine_in_the_process_it_has(log: Path) -> None:
    waiting = begun(log)
    assert waiting.wait(20)
    pids = tree(waiting.server.pid)
    with start(log, waiting) as (server, prepared):
        assert prepared
        assert tree(server.pid) == pids
        assert server.started_in_s is not None
        assert server.started_in_s < 10
    assert not any(map(is_alive, pids))
    lines = log.read_text().splitlines()
    assert lines[0].startswith("$ ENGINE_API_KEY=")
    assert "standby" not in lines[0]
    assert server.launch.api_key not in log.read_text()


def test_it_may_be_wanted_before_it_is_ready(log: Path) -> None:
    with start(log, begun(log)) as (_, prepared):
        assert prepared


def test_the_engine_gets_the_environment_of_a_plain_start(log: Path, tmp_path: Path) -> None:
    seen = []
    for name, waiting in (("plain", None), ("prepared", begun(tmp_path / "prepared"))):
        with start(tmp_path / name, waiting):
            pass
        line = next(x for x in (tmp_path / name).read_text().splitlines() if x.startswith("listening"))
        seen.append(json.loads(line.removeprefix("listening ").replace("'", '"')))
    assert seen[1].pop("PRELOADED") == "1"
    assert seen[0] == seen[1]


def test_while_it_waits_its_port_is_taken_and_silent(log: Path) -> None:
    with closing(begun(log)) as waiting, socket.socket() as other:
        assert waiting.wait(20)
        port = waiting.server.launch.port
        assert other.connect_ex(("127.0.0.1", port)) != 0
        with pytest.raises(OSError, match="in use"), socket.socket() as second:
            second.bind(("127.0.0.1", port))


def test_one_that_was_never_wanted_leaves_nothing(log: Path) -> None:
    waiting = begun(log)
    assert waiting.wait(20)
    pids = tree(waiting.server.pid)
    waiting.close()
    assert not any(map(is_alive, pids))
    assert not log.exists()


def test_one_that_has_died_is_replaced_by_a_plain_start(log: Path) -> None:
    waiting = begun(log)
    assert waiting.wait(20)
    os.kill(tree(waiting.server.pid)[-1], signal.SIGKILL)
    with start(log, waiting) as (server, prepared):
        assert not prepared
        assert server is not waiting.server
    lines = log.read_text().splitlines()
    (note,) = [number for number, line in enumerate(lines) if line.startswith("# the prepared start failed")]
    assert "ended while starting with code 137" in lines[note]
    assert lines[note + 1].startswith("$ ENGINE_API_KEY=")


def test_one_that_dies_while_importing_is_not_ready(log: Path) -> None:
    (log.parent / "package").mkdir(parents=True)
    (log.parent / "package" / "deadly.py").write_text("import os; os._exit(3)")
    launch = replace(DUMMY, env={"PYTHONPATH": str(log.parent / "package")})
    waiting = Standby(adapter_of("ok", preload=("deadly",)), launch, log, stop_timeout_s=1)
    assert not waiting.wait(20)
    waiting.close()
    assert log.exists()  # it says why


def test_what_the_engine_itself_does_wrong_is_told_by_the_plain_start(log: Path) -> None:
    with pytest.raises(EngineError) as caught, start(log, begun(log, "dies"), "dies"):
        pass
    assert caught.value.cause == "oom"
    assert "# the prepared start failed" in log.read_text()


def test_an_error_in_the_block_starts_no_second_engine(log: Path) -> None:
    with pytest.raises(EngineError, match="mine"), start(log, begun(log)):
        raise EngineError("mine")
    assert "# the prepared" not in log.read_text()


def test_a_command_that_is_no_module_no_code_and_no_file_is_not_prepared(log: Path) -> None:
    other = replace(fake_adapter("ok"), command=lambda _: [sys.executable, "-X", "dev", "serve"])
    with pytest.raises(EngineError, match="-X is not run by a standby"):
        Standby(other, DUMMY, log, stop_timeout_s=1)


_PARENT = """
import sys, time
from pathlib import Path
from tests.engines.fake import tree
from tests.engines.test_standby_process import begun
waiting = begun(Path(sys.argv[1]))
assert waiting.wait(20)
print(*tree(waiting.server.pid), flush=True)
time.sleep(300)
"""


def test_it_is_gone_with_its_worker(log: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(log)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as said:
        pids = [int(word) for word in said.readline().split()]
    assert len(pids) == 3
    parent.kill()
    parent.wait()
    assert all_gone(pids, within_s=4)


_MODULE = """
import json, multiprocessing, os, sys

def child(queue):
    queue.put([__name__, os.getpriority(os.PRIO_PROCESS, 0)])

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    process = spawn.Process(target=child, args=(queue,))
    process.start()
    found = queue.get(timeout=60)
    process.join()
    main = sys.modules["__main__"]
    print(json.dumps([sys.argv[1:], sys.path[0], __name__, main.__spec__.name, found,
                      os.getpriority(os.PRIO_PROCESS, 0), len(os.sched_getaffinity(0))]))
"""


def as_standby(words: list[str], cwd: Path, modules: tuple[str, ...] = ()) -> str:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        task = json.dumps({"modules": modules, "fork": {}, "model": None, "revision": None})
        process = subprocess.Popen(
            [sys.executable, standby.__file__, str(theirs.fileno()), task, *words],
            cwd=cwd,
            pass_fds=(theirs.fileno(),),
            stdout=subprocess.PIPE,
            text=True,
        )
        ours.sendall(b"go\n")
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return "\n".join(line for line in said.splitlines() if not line.startswith("standby:"))


def test_a_module_runs_as_it_does_by_itself_its_spawned_children_too(tmp_path: Path) -> None:
    (tmp_path / "engine_module.py").write_text(_MODULE)
    words = ["-m", "engine_module", "--flag", "a b"]
    plain = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    # Imported beforehand, as an engine's server module is.
    assert as_standby(words, tmp_path, modules=("engine_module",)) == plain.stdout.strip()


def test_code_runs_as_it_does_by_itself(tmp_path: Path) -> None:
    code = "import json, sys; print(json.dumps([sys.argv, sys.path, __name__, '__file__' in globals()]))"
    words = ["-c", code, "--flag"]
    plain = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert as_standby(words, tmp_path) == plain.stdout.strip()


@given(st.lists(st.integers(0, 3000), max_size=5), st.integers(0, 8000))
def test_weights_are_read_as_far_as_the_budget_goes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], budget: int
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    files = [folder / str(number) for number, _ in enumerate(sizes)]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(bytes(size))
    assert standby.read_ahead(files, budget) == min(sum(sizes), budget)


def test_it_is_ready_when_its_weights_have_been_read(log: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1 << 20))
    launch = replace(LAUNCH, model=str(tmp_path))
    with closing(Standby(adapter_of("ok"), launch, log, stop_timeout_s=1)) as waiting:
        assert waiting.wait(20)
        assert len(tree(waiting.server.pid)) == 3  # the process that read them has ended


_STATE = """
import ctypes, sys
from orchestrator.engines.standby import cuda_state
before = cuda_state()
ctypes.CDLL(sys.argv[1])
print(before, cuda_state())
"""

_DRIVER = """
int cuDeviceGetCount(int *count) { *count = 2; return INITIALISED ? 0 : 3; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *active = ACTIVE && device == 1; return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    ("initialised", "active", "state"), [(0, 0, "untouched"), (1, 0, "initialised"), (1, 1, "context")]
)
def test_the_driver_tells_what_was_done_to_the_gpus(
    tmp_path: Path, initialised: int, active: int, state: str
) -> None:
    source, library = tmp_path / "driver.c", tmp_path / "libcuda.so.1"
    source.write_text(_DRIVER)
    defined = [f"-DINITIALISED={initialised}", f"-DACTIVE={active}"]
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", *defined, "-o", library, source], check=True
    )
    told = subprocess.run([sys.executable, "-c", _STATE, library], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["untouched", state]


def test_the_imports_give_way_where_that_can_be_undone(log: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with closing(begun(log)) as waiting:
        assert waiting.wait(20)
        process = psutil.Process(tree(waiting.server.pid)[-1])
        assert process.nice() == (19 if standby._may_lower_again(own) else own)
        waiting.go()
        deadline = time.monotonic() + 5
        while process.nice() != own:
            assert time.monotonic() < deadline
            time.sleep(0.02)
