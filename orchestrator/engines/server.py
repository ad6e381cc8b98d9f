"""One lifecycle for every engine: a server that is surely ours, and surely gone afterwards."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil

from orchestrator.engines import environment, failures, guard, sleep
from orchestrator.engines.adapter import Adapter, Launch
from orchestrator.engines.http import ask
from orchestrator.engines.inside import entry
from orchestrator.errors import EngineError
from orchestrator.records import Endpoint
from orchestrator.secrets import hidden, is_secret, known

POLL_S = 0.25
HEALTH_EVERY_S = 5.0
HANG_S = 60.0
KILL_MARGIN_S = 10.0
KEYED = ("/v1/models", "/metrics", "/invocations", "/no-such-route")  # of every kind, asked without the key
# On a CPU the engine would keep the client off the cores, and its lateness be taken for the server's.
YIELD_TO_CLIENT = ("nice", "-n", "10")


def by_hand(adapter: Adapter, launch: Launch) -> str:
    """A shell line that runs the same engine. Secrets stand in it by name only. An engine with a command of
    its own, `vllm serve` say, is run by that, but for vLLM's CPU build, where that command fails."""
    env = adapter.environment(launch) | dict(launch.env)
    words = adapter.command(launch)
    key = ""
    cpu_build = launch.engine == "vllm" and launch.hardware == "cpu"
    if words[1] == entry.__file__ and not cpu_build and "@" not in str(launch.args.get("tokenizer-path")):
        words = [str(Path(words[0]).with_name(words[2])), *words[3:]]
        key = ' --api-key "$API_KEY"'
        env.pop("ENGINE_API_KEY", None)
    settings = [
        f'{name}="${name}"' if is_secret(name) else f"{name}={shlex.quote(value)}"
        for name, value in env.items()
    ]
    line = (" ".join([*settings, shlex.join(words)]) + key).replace(launch.api_key, "$API_KEY")
    return hidden(line, known(env))


class Server:
    """A live engine. ``pid`` is that of its guard, the root of all its processes; ``started_in_s`` the
    seconds from the command, or from a standby's go, to readiness; ``asleep`` whether it was put to sleep.
    Made by `running`.

    ``command``, with ``pass_fds`` for it, is what runs in place of the adapter's command.
    """

    def __init__(
        self,
        adapter: Adapter,
        launch: Launch,
        log_path: Path,
        *,
        stop_timeout_s: float,
        command: Sequence[str] = (),
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.adapter = adapter
        self.launch = launch
        self.log_path = log_path
        self.endpoint = Endpoint(launch.host, launch.port, launch.served_name, launch.api_key)
        self.started_in_s: float | None = None
        self.asleep = self.dormant = False  # dormant: asleep, or on the way there or back
        self.sleeps = 0
        self._stop_timeout_s = stop_timeout_s
        self._failure: EngineError | None = None
        self._is_serving = False
        self._stopping = threading.Event()
        self._tree: dict[int, psutil.Process] = {}
        self._oom_kills = _oom_kills()
        env = environment.clean(adapter, launch, os.environ)
        self._secrets = known(env)

        log_path.parent.mkdir(parents=True, exist_ok=True)
        with open(_private(log_path), "ab") as log:
            log.write(f"$ {by_hand(adapter, launch)}\n".encode())
            log.flush()
            self._starting_from = self._serving_from = log.tell()
            life_fd, self._life_write_fd = os.pipe()
            self._shared_fd = os.memfd_create("shared-memory")
            fds = (life_fd, self._shared_fd)
            guarded = [sys.executable, "-I", "-S", guard.__file__, *map(str, fds), str(stop_timeout_s)]
            if launch.hardware == "cpu":
                guarded = [*YIELD_TO_CLIENT, *guarded]
            try:
                self._guard = subprocess.Popen(
                    [*guarded, *(command or adapter.command(launch))],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    pass_fds=(*fds, *pass_fds),
                    start_new_session=True,  # Ctrl-C is the driver's to handle
                )
            except BaseException:
                os.close(self._life_write_fd)
                os.close(self._shared_fd)
                raise
            finally:
                os.close(life_fd)
        self.pid = self._guard.pid

    def poll(self) -> int | None:
        """The engine's exit code, None while it runs."""
        return self._guard.poll()

    def failure(self) -> EngineError | None:
        """Why the engine does not serve any more, None while it does. Never blocks; a crash shows at once, a
        server that stops answering after a minute."""
        if self._failure is None and not self._stopping.is_set() and self.poll() is not None:
            self._failure = self._crashed()
        return self._failure

    def log_tail(self, lines: int = 30) -> str:
        return failures.tail(self.log_since(self._starting_from), lines)

    def error(self, cause: failures.Cause, what: str) -> EngineError:
        """An EngineError with what to try, the command to run by hand and the log's tail."""
        message = (
            f"{self.adapter.name} serving {self.launch.served_name}: {what}\n"
            f"  try: {failures.TRY[cause]}\n"
            f"  by hand: {by_hand(self.adapter, self.launch)}\n"
            f"  the end of {self.log_path}:\n{self.log_tail()}"
        )
        return EngineError(hidden(message, self._secrets), cause)

    def reset_cache(self, patience_s: float = 5.0) -> bool:
        """Whether the prefix cache is empty now, as it always is where there is none. Blocks are held for a
        moment after a request has ended, so it is asked again until ``patience_s`` have passed."""
        reset = self.adapter.reset_cache
        if not reset.needed(self.launch):
            return True
        deadline = time.perf_counter() + patience_s
        while True:
            asked_at = self.log_path.stat().st_size
            status, body = ask(self.endpoint, reset.method, reset.path, timeout_s=30.0)
            if status == 200:
                succeeded = reset.succeeded(body)
                if succeeded is None and reset.logged is not None:
                    succeeded = reset.logged in self.log_since(asked_at)
                if succeeded:
                    return True
            if time.perf_counter() > deadline or self.poll() is not None:
                return False
            time.sleep(POLL_S)

    def sleep(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """`sleep.fall_asleep`."""
        sleep.fall_asleep(self, cancelled)

    def wake(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """`sleep.wake`."""
        sleep.wake(self, cancelled)

    def stop(self) -> None:
        """Ends the engine and everything it started: SIGTERM, ``stop_timeout_s``, SIGKILL. Returns when all
        of it is gone; may be called again."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._remember_tree()
        with suppress(OSError):  # both guards may be gone
            os.write(self._life_write_fd, b".")
        os.close(self._life_write_fd)
        try:
            self._guard.wait(self._stop_timeout_s + KILL_MARGIN_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        # Where the outer guard was killed, the inner one is at it; where both were, nobody is.
        left = [process for process in self._tree.values() if process.is_running()]
        _, left = psutil.wait_procs(left, timeout=self._stop_timeout_s + KILL_MARGIN_S)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=KILL_MARGIN_S)
        guard.remove_unused(self._shared_fd)
        os.close(self._shared_fd)
        self._cover_secrets()

    def wait_until_ready(self, timeout_s: float, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Raises EngineError when the engine ends first, is not ready in ``timeout_s``, or is not wanted any
        more; ``cancelled`` may raise one of its own."""
        began_s = time.perf_counter()
        deadline = began_s + timeout_s
        while not self._ready():
            if self.poll() is not None:
                raise self._crashed()
            if cancelled():
                raise EngineError("cancelled while the engine was starting", "cancelled")
            if time.perf_counter() > deadline:
                raise self.error("start_timeout", f"not ready after {timeout_s:.0f} s")
            time.sleep(POLL_S)
        self.started_in_s = time.perf_counter() - began_s
        self.serves()
        threading.Thread(target=self._watch, name="engine-health", daemon=True).start()

    def serves(self) -> None:
        """Takes note that the engine is ready (where this is a rank beyond the first, rank 0 sees that): an
        end from now on is one while serving."""
        self._is_serving = True
        self._cover_secrets()
        self._serving_from = self.log_path.stat().st_size

    def _ready(self) -> bool:
        """Ready, and ours: the listening socket belongs to our process tree, and the key is in force."""
        if ask(self.endpoint, "GET", self.adapter.ready_path)[0] != 200:
            return False
        self._remember_tree()
        if not any(_listens(process, self.launch.port) for process in self._tree.values()):
            return False
        status, body = ask(self.endpoint, "GET", "/v1/models")
        if status != 200:
            return False
        if self.launch.served_name not in {entry.get("id") for entry in json.loads(body).get("data", [])}:
            return False
        for path in (*KEYED, self.adapter.health_path):
            if ask(self.endpoint, "GET", path, key="not-" + self.launch.api_key)[0] not in (401, 403):
                raise self.error("crash", f"{path} answers without its API key")
        return True

    def _watch(self) -> None:
        answered_s = time.perf_counter()
        while not self._stopping.wait(HEALTH_EVERY_S) and self.poll() is None:
            self._remember_tree()
            path = self.adapter.health_path
            if self.dormant or ask(self.endpoint, "GET", path, timeout_s=HEALTH_EVERY_S)[0] == 200:
                answered_s = time.perf_counter()
            elif time.perf_counter() - answered_s > HANG_S and not self._stopping.is_set():
                silent_s = time.perf_counter() - answered_s
                what = f"runs but has not answered {self.adapter.health_path} for {silent_s:.0f} s"
                self._failure = self.error("hang", what)
                return

    def _crashed(self) -> EngineError:
        serving = self._is_serving
        said = self.log_since(
            self._serving_from
        )  # complaints that did not keep it from starting are no cause
        found = failures.classify(said, serving=serving, oom_killed=_oom_kills() > self._oom_kills)
        phase = "while serving" if serving else "while starting"
        what = f"ended {phase} with code {self.poll()} ({found.cause}"
        return self.error(found.cause, f"{what}: {found.line})" if found.line else f"{what})")

    def _remember_tree(self) -> None:
        with suppress(psutil.Error):
            root = psutil.Process(self.pid)
            self._tree.update((child.pid, child) for child in root.children(recursive=True))

    def log_since(self, start: int) -> str:
        with suppress(OSError), self.log_path.open("rb") as log:
            log.seek(start)
            said = log.read().decode(errors="replace").replace(self.launch.api_key, "$API_KEY")
            return hidden(said, self._secrets)
        return ""

    def _cover_secrets(self) -> None:
        """Some engines log their arguments, the key among them, or say a token that was refused. They are
        covered in place, at their own length, which is safe beside an engine that appends. Then others may
        read the log."""
        with suppress(OSError), self.log_path.open("r+b") as log:
            guard.cover(log, self._starting_from, (self.launch.api_key, *self._secrets))
            os.fchmod(log.fileno(), guard.others_may(self.log_path))


def _private(log_path: Path) -> int:
    """The log, to append to, and for its owner's eyes until the key in it is covered."""
    fd = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


@contextmanager
def running(
    adapter: Adapter,
    launch: Launch,
    log_path: Path,
    *,
    start_timeout_s: float,
    stop_timeout_s: float,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Server]:
    """The engine of ``launch``, ready to serve on a port and with an API key drawn here; gone on leaving.

    Of a launch over several nodes only rank 0 serves; of the others nothing is waited for.
    The engine's output is appended to ``log_path``. Raises EngineError when it does not become ready.
    """
    with drawn(launch) as own:
        server = Server(adapter, own, log_path, stop_timeout_s=stop_timeout_s)
        try:
            if launch.node_rank == 0:
                server.wait_until_ready(start_timeout_s, cancelled)
            yield server
        finally:
            server.stop()


@contextmanager
def drawn(launch: Launch) -> Iterator[Launch]:
    """``launch`` with a port, held while the block lasts, and an API key of its own."""
    with held_port(launch.host) as port:
        # In hex: a key that began with a dash would be taken for a flag.
        yield replace(launch, port=port, api_key=secrets.token_hex(24))


@contextmanager
def held_port(host: str) -> Iterator[int]:
    """A free port, held by a socket that is bound but never listens: nobody is given it, and the engine,
    which sets SO_REUSEADDR as servers do, can still bind it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, 0))
        yield held.getsockname()[1]


def _listens(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error):
        return any(
            found.status == psutil.CONN_LISTEN and found.laddr.port == port
            for found in process.net_connections(kind="tcp")
        )
    return False


def _oom_kills() -> int:
    """How many processes this machine's kernel has killed for memory since it booted."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
