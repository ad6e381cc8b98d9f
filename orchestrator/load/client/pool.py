"""The client processes of the load generator: started, given tasks, read, and kept from run to run."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orchestrator
from orchestrator.errors import MeasurementError
from orchestrator.load.client.process import LENGTH, Task


class ClientProcess:
    """A client process and what it last reported. Its standard input is a socket, so that the descriptors of
    a task's files can go with the task."""

    def __init__(self) -> None:
        self._errors = nameless_file()
        self._wire, theirs = socket.socketpair()
        with theirs:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", "-m", "orchestrator.load.client.process", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, "PYTHONPATH": _import_path()},
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        self._partial = b""
        self._reset()

    @property
    def idle(self) -> bool:
        """Whether it waits for another task. One that was told to stop does not count: it may still read the
        command, as if it were a task."""
        return self.done and not self._stopped and self.process.poll() is None

    def _reset(self) -> None:
        self.ready = self.done = self._stopped = False
        self.progress = (0, 0, 0, 0, 0)
        self.cpu_s = 0.0
        self.native = False
        self.peak_rss_bytes = 0
        self.receive_lag_s = (0.0, 0.0)  # 99th percentile, largest
        self.reads = self.stamped_reads = 0
        self.unasked_connections = self.mixed_connections = 0

    def assign(self, task: Task, fds: list[int]) -> None:
        """Send a task, with the descriptors that `orchestrator.load.client.process.Files` names."""
        self._reset()
        data = pickle.dumps(task, protocol=5)
        with contextlib.suppress(ConnectionError):  # that it has ended shows on its output
            socket.send_fds(self._wire, [LENGTH.pack(len(data))], fds)
            self._wire.sendall(data)

    def start(self, at_s: float) -> None:
        """Begin; ``at_s`` is the schedule's zero on the clock of ``perf_counter``."""
        self._command(f"start {at_s!r}")

    def stop(self, why: str) -> None:
        self._stopped = True
        self._command(f"stop {why}")

    def _command(self, line: str) -> None:
        with contextlib.suppress(ConnectionError):
            self._wire.sendall(line.encode() + b"\n")

    def fileno(self) -> int:
        """Readable when it has reported something, or has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read_reports(self) -> None:
        """Take what it has reported. Raises MeasurementError when it ended without being done."""
        data = os.read(self.fileno(), 65536)
        if not data:
            raise MeasurementError(self._exit_message())
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            word, *values = line.decode().split()
            if word == "ready":
                self.ready = True
            elif word == "progress":
                sent, finished, failed, tokens, in_flight = map(int, values)
                self.progress = (sent, finished, failed, tokens, in_flight)
            elif word == "done":
                self.done = True
                self.cpu_s, self.peak_rss_bytes = float(values[0]), int(values[1])
                self.native = values[2] == "1"
                self.receive_lag_s = float(values[3]), float(values[4])
                self.reads, self.stamped_reads = int(values[5]), int(values[6])
                self.unasked_connections, self.mixed_connections = int(values[7]), int(values[8])

    def _exit_message(self) -> str:
        status = self.process.wait()
        self._errors.seek(0)
        tail = self._errors.read().decode(errors="replace")[-2000:].strip()
        return f"a load client process ended with status {status} in the middle of the run\n{tail}"

    def end(self) -> None:
        """Kill it if it runs, and free what is its own."""
        if self.process.poll() is None:
            self.process.kill()
        self._wire.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()
        self.process.wait()


class ClientPool:
    """Client processes for one run after another, so that a run does not wait for an interpreter and its
    imports. A context manager that ends them all. Not for two runs at once.

    They also end with the thread that started them, as each client process ends with its parent.
    """

    def __init__(self) -> None:
        self._idle: list[ClientProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._idle:
            self._idle.pop().end()

    def start(self, count: int = 1) -> None:
        """Start so many of them, less those that are idle already. Does not wait until they are ready."""
        for client in [client for client in self._idle if client.process.poll() is not None]:
            self._idle.remove(client)
            client.end()
        while len(self._idle) < count:
            self._idle.append(ClientProcess())

    @contextlib.contextmanager
    def lent(self, count: int) -> Iterator[list[ClientProcess]]:
        """That many for one run; those that complete it come back, the others are ended."""
        self.start(count)
        clients, self._idle = self._idle[:count], self._idle[count:]
        try:
            yield clients
        finally:
            for client in clients:
                if client.idle:
                    self._idle.append(client)
                else:
                    client.end()


def nameless_file() -> BinaryIO:
    """A file without a name: it disappears with its last descriptor, whatever happens."""
    return tempfile.TemporaryFile()


def _import_path() -> str:
    """Where a client process finds this package: where this process found it, a checkout or a wheel."""
    package = str(Path(orchestrator.__file__).resolve().parents[1])
    return os.pathsep.join([package, *(path for path in sys.path if path)])
