"""One client process: ``python -m orchestrator.load.client.process PARENT``, spoken to by `pool` only.

Standard input, a Unix socket: for each task the length of a pickled `Task` with the descriptors of its
`Files`, the task, then the lines ``start T`` and, if the run must end early, ``stop REASON``; its end means
that no more comes, or that the parent is gone. Standard output: for each task the lines ``ready``,
``progress …`` and ``done …``. Finished requests go to the file ``Files.spool`` as they end, so that memory
does not grow with the run.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import pickle
import resource
import socket
import struct
import sys
from collections import deque
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time
from typing import Any

import uvloop

from orchestrator.load.arrivals import Batch, Closed, Schedule
from orchestrator.load.client.client import Client
from orchestrator.load.client.connection import Finished
from orchestrator.load.client.linux import (
    Tickets,
    allow_many_sockets,
    die_with_parent,
    exact_timers,
    go_first,
)
from orchestrator.load.client.senders import BatchSender, ClosedSender, OpenSender, Sender
from orchestrator.load.receive import native
from orchestrator.load.stream.response import request_bytes
from orchestrator.load.stream.timeline import Timeline
from orchestrator.records import Endpoint, Request

LENGTH = struct.Struct("=Q")  # of a pickled task
PROGRESS_PERIOD_S = 0.5
_FDS_MAX = 253  # of one message, by the kernel
_SPOOL_PERIOD_S, _SPOOL_AT_ONCE = 0.005, 8
# An open loop's number of requests in flight is known to nobody beforehand.
_OPEN_CONNECTIONS, _SPARE_CONNECTIONS = 128, 32
# A turn of the loop costs some µs of CPU, and an open loop's requests are not to wait for many reads.
_SLICE_S, _OPEN_SLICE_S = 0.0005, 0.00002


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One process's part of the job.

    ``requests`` maps index → request for all that this process may send, ``slots`` is its share of a closed
    load's concurrency.
    """

    endpoint: Endpoint
    requests: dict[int, Request]
    total: int
    schedule: Schedule
    slots: int
    counted: bool
    inline: bool
    opened: bool
    request_timeout_s: float
    idle_timeout_s: float
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Files:
    """The descriptors that come with a task. ``tickets`` numbers the next request (closed) or the finished
    ones (batch) over all processes; ``listen`` and ``tell`` are the batch barrier's pipes."""

    spool: int
    tickets: int
    listen: int
    tell: tuple[int, ...]

    def close(self) -> None:
        """All but the spool, which is closed with its last request."""
        for fd in (self.tickets, self.listen, *self.tell):
            os.close(fd)


class Worker:
    """Sends one task's requests and spools what became of them."""

    def __init__(
        self,
        task: Task,
        files: Files,
        loop: asyncio.AbstractEventLoop,
        address: tuple[str, int],
        library: ctypes.CDLL | None,
    ) -> None:
        self._task = task
        self._loop = loop
        self._spool = os.fdopen(files.spool, "wb", buffering=1 << 18)
        self._finished = self._failed = self._tokens = 0
        self._cpu_s = 0.0
        self._input = b""
        self._unspooled: deque[Finished] = deque()
        self._over = asyncio.Event()
        open_loop = not isinstance(task.schedule, (Closed, Batch))
        self.connections = min(len(task.requests), _OPEN_CONNECTIONS if open_loop else task.slots)
        self.client = Client(
            loop,
            address,
            {index: request_bytes(task.endpoint, request) for index, request in task.requests.items()},
            timeline=partial(Timeline, counted=task.counted, inline=task.inline, opened=task.opened),
            request_timeout_s=task.request_timeout_s,
            idle_timeout_s=task.idle_timeout_s,
            spare=min(_SPARE_CONNECTIONS, self.connections) if open_loop else 0,
            slice_s=_OPEN_SLICE_S if open_loop else _SLICE_S,
            on_finished=self._on_finished,
            library=library,
        )
        self._sender = _sender(task, files, loop, self.client)

    async def run(self) -> None:
        await self.client.warm(self.connections)
        self._loop.add_reader(0, self._on_command)
        _say("ready")
        await self._over.wait()
        self._report()
        while self._unspooled:
            self._spool_some()
        self._spool.close()
        self._loop.remove_reader(0)  # what comes now is another task
        await self.client.close()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        _say(f"done {process_time() - self._cpu_s!r} {peak} {int(self.client.native)}")

    def _on_command(self) -> None:
        data = os.read(0, 65536)
        if not data:
            os._exit(1)  # the parent is gone
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "start":
                self._start(float(rest))
            else:
                self._stop(rest)

    def _start(self, at_s: float) -> None:
        self._cpu_s = process_time()
        self._sender.start(at_s)
        self._report_again()
        if self._task.duration_s is not None:
            why = f"the window of {self._task.duration_s:g} s ended"
            self._loop.call_later(at_s - perf_counter() + self._task.duration_s, self._stop, why)
        self._check()

    def _stop(self, why: str) -> None:
        self._sender.exhausted = True
        self.client.cancel_all(why)
        self._check()

    def _on_finished(self, finished: Finished) -> None:
        if not self._unspooled:
            self._loop.call_later(_SPOOL_PERIOD_S, self._spool_some)
        self._unspooled.append(finished)
        self._finished += 1
        self._failed += finished.outcome != "ok"
        self._tokens += finished.stream.output_tokens or 0
        self._sender.finished(finished.end_s)
        self._check()

    def _spool_some(self) -> None:
        """In small portions, so that many requests ending together delay no stamp."""
        for _ in range(min(_SPOOL_AT_ONCE, len(self._unspooled))):
            finished = self._unspooled.popleft()
            pickle.dump((*finished[:-1], tuple(finished.stream)), self._spool, protocol=5)
        if self._unspooled:
            self._loop.call_later(_SPOOL_PERIOD_S, self._spool_some)

    def _check(self) -> None:
        if self._sender.exhausted and self.client.pending == 0:
            self._over.set()

    def _report(self) -> None:
        tokens = self._tokens + self.client.tokens_in_flight()
        client = self.client
        _say(f"progress {client.sent} {self._finished} {self._failed} {tokens} {client.pending}")

    def _report_again(self) -> None:
        self._report()
        self._loop.call_later(PROGRESS_PERIOD_S, self._report_again)


def _sender(task: Task, files: Files, loop: asyncio.AbstractEventLoop, client: Client) -> Sender:
    schedule, mine = task.schedule, sorted(task.requests)
    if isinstance(schedule, Closed):
        return ClosedSender(loop, client.send, task.slots, Tickets(files.tickets, task.total))
    if isinstance(schedule, Batch):
        groups: list[list[int]] = [[] for _ in range(-(-task.total // schedule.size))]
        for index in mine:
            groups[index // schedule.size].append(index)
        return BatchSender(
            loop,
            client.send,
            groups,
            size=schedule.size,
            total=task.total,
            tickets=Tickets(files.tickets, task.total),
            listen_fd=files.listen,
            tell_fds=files.tell,
        )
    return OpenSender(loop, client.send, [(float(schedule.times_s[index]), index) for index in mine])


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def _resolve(loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> tuple[str, int]:
    """A numeric address, so that no look-up happens during the run. An unknown name is left as it is: each
    request then says so."""
    try:
        found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError:
        return endpoint.host, endpoint.port
    return str(found[0][4][0]), endpoint.port


async def _work(task: Task, files: Files, library: ctypes.CDLL | None) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_fail)
    await Worker(task, files, loop, await _resolve(loop, task.endpoint), library).run()


def _fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of ours must end the process, not go unseen: the parent then reports it."""
    loop.default_exception_handler(context)
    sys.stderr.flush()
    os._exit(1)


def _next_task(wire: socket.socket) -> tuple[Task, Files] | None:
    """None when there is none any more."""
    wire.setblocking(True)  # the loop of the task before has changed it
    head, fds, _, _ = socket.recv_fds(wire, LENGTH.size, _FDS_MAX)
    if not head:
        return None
    data = bytearray()
    (length,) = LENGTH.unpack(head)
    while len(data) < length:
        part = wire.recv(min(1 << 20, length - len(data)))
        if not part:
            return None
        data += part
    spool, tickets, listen, *tell = fds
    return pickle.loads(data), Files(spool, tickets, listen, tuple(tell))


def main(parent: int) -> None:
    die_with_parent(parent)
    exact_timers()
    go_first()
    allow_many_sockets()
    library = native.library()
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would hold up every stream
    wire = socket.socket(fileno=0)
    while (given := _next_task(wire)) is not None:
        task, files = given
        uvloop.run(_work(task, files, library))
        files.close()
        del task, given
        gc.collect()  # what this task has left: all before it is frozen


if __name__ == "__main__":
    main(int(sys.argv[1]))
