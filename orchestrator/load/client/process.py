"""One client process: ``python -m orchestrator.load.client.process PARENT``, started by `pool`.

Standard input, a Unix socket: for each task the length of a pickled `Task` with the descriptors of its
`Files`, the task, then the lines ``start T`` and, if the run must end early, ``stop REASON``. End of file
means that there are no more tasks, or that the parent is gone. Standard output: for each task the lines
``ready``, ``progress …`` and ``done …``. Finished requests are written to the file ``Files.spool`` as they
end, so that memory does not grow with the run.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time
from typing import Any

import uvloop

from orchestrator.load.arrivals import Batch, Closed, Schedule
from orchestrator.load.client.client import Client
from orchestrator.load.client.connection import WINDOW_ENDED, Finished
from orchestrator.load.client.dial import Dial
from orchestrator.load.client.linux import (
    Tickets,
    allow_many_sockets,
    die_with_parent,
    exact_timers,
    go_first,
    peak_rss_bytes,
)
from orchestrator.load.client.loops import InnerLoops, choose
from orchestrator.load.client.payloads import Payloads
from orchestrator.load.client.senders import BatchSender, ClosedSender, OpenSender, Sender
from orchestrator.load.stream.timeline import Timeline
from orchestrator.records import Endpoint

LENGTH = struct.Struct("=Q")  # of a pickled task
PROGRESS_PERIOD_S = 0.5
_FDS_MAX = 253  # of one message, by the kernel
_SPOOL_PERIOD_S, _SPOOL_AT_ONCE = 0.005, 8
# How many requests an open loop will have in flight is not known beforehand.
_OPEN_CONNECTIONS, _SPARE_CONNECTIONS = 128, 32
# A turn of the loop costs some µs of CPU, and an open loop's requests are not to wait for many reads.
_SLICE_S, _OPEN_SLICE_S = 0.0005, 0.00002


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One process's part of the job.

    ``numbers`` are the requests that this process may send, whose bytes are in the file ``Files.payloads``;
    ``slots`` is its share of a closed load's concurrency.
    """

    endpoint: Endpoint
    numbers: range
    total: int
    schedule: Schedule
    slots: int
    counted: bool
    inline: bool
    opened: bool
    tags: tuple[str, str]
    acknowledge_later: bool
    request_timeout_s: float
    idle_timeout_s: float
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Files:
    """The descriptors that come with a task. ``tickets`` numbers the next request (closed) or the finished
    ones (batch) over all processes. ``payloads`` is one for all of them. The end time of a batch is written
    to all of ``barrier_writes``, a pipe to each process; ``barrier_read`` is the other end of this process's
    own."""

    spool: int
    tickets: int
    payloads: int
    barrier_read: int
    barrier_writes: tuple[int, ...]

    def close(self) -> None:
        """All but the spool, which is closed with its last request."""
        for fd in (self.tickets, self.payloads, self.barrier_read, *self.barrier_writes):
            os.close(fd)


class Worker:
    """Sends one task's requests and spools the finished ones."""

    def __init__(
        self,
        task: Task,
        files: Files,
        loop: asyncio.AbstractEventLoop,
        dial: Dial,
        loops: InnerLoops,
    ) -> None:
        self._task = task
        self._loop = loop
        self._compiled = loops.compiled
        self._spool = os.fdopen(files.spool, "wb", buffering=1 << 18)
        self._finished = self._failed = self._tokens = 0
        self._cpu_s = 0.0
        self._input = b""
        self._unspooled: deque[Finished] = deque()
        self._over = asyncio.Event()
        open_loop = not isinstance(task.schedule, (Closed, Batch))
        self.connections = min(len(task.numbers), _OPEN_CONNECTIONS if open_loop else task.slots)
        self.client = Client(
            loop,
            dial,
            Payloads(files.payloads),
            timeline=partial(
                Timeline, counted=task.counted, inline=task.inline, opened=task.opened, tags=task.tags
            ),
            request_timeout_s=task.request_timeout_s,
            idle_timeout_s=task.idle_timeout_s,
            spare=min(_SPARE_CONNECTIONS, self.connections) if open_loop else 0,
            slice_s=_OPEN_SLICE_S if open_loop else _SLICE_S,
            acknowledge_later=task.acknowledge_later,
            on_finished=self._on_finished,
            loops=loops,
        )
        self._sender = _sender(task, files, loop, self.client, self._check_over)

    async def run(self) -> None:
        await self.client.warm(self.connections)
        self._loop.add_reader(0, self._on_command)
        _write_report("ready")
        await self._over.wait()
        lag = self.client.sockets.lag
        lag.stop()
        self._sender.close()
        self._report_progress()
        while self._unspooled:
            self._spool_some()
        self._spool.close()
        self._loop.remove_reader(0)  # what comes now is another task
        reads, stamped = self.client.sockets.stamps()
        await self.client.close()
        _write_report(
            f"done {process_time() - self._cpu_s!r} {peak_rss_bytes()} {int(self._compiled)} "
            f"{lag.p99_s() or 0.0!r} {lag.max_s!r} {reads} {stamped} "
            f"{self.client.unasked_connections} {self.client.mixed_connections}"
        )

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
        self.client.sockets.lag.start(at_s)
        self._report_periodically()
        if self._task.duration_s is not None:
            why = WINDOW_ENDED.format(self._task.duration_s)
            self._loop.call_later(at_s - perf_counter() + self._task.duration_s, self._stop, why)
        self._check_over()

    def _stop(self, why: str) -> None:
        self.client.sockets.lag.stop()  # ending all calls at once takes a while, and delays no stamp
        self._sender.exhausted = True
        self.client.cancel_all(why)
        self._check_over()

    def _on_finished(self, finished: Finished) -> None:
        if not self._unspooled:
            self._loop.call_later(_SPOOL_PERIOD_S, self._spool_some)
        self._unspooled.append(finished)
        self._finished += 1
        self._failed += finished.outcome != "ok"
        self._tokens += finished.stream.output_tokens or 0
        self._sender.finished(finished.end_s)
        self._check_over()

    def _spool_some(self) -> None:
        """In small portions, so that many requests ending together delay no stamp."""
        for _ in range(min(_SPOOL_AT_ONCE, len(self._unspooled))):
            *call, stream, retries = self._unspooled.popleft()
            pickle.dump((*call, tuple(stream), retries), self._spool, protocol=5)
        if self._unspooled:
            self._loop.call_later(_SPOOL_PERIOD_S, self._spool_some)

    def _check_over(self) -> None:
        if self._sender.exhausted and self.client.pending == 0:
            self._over.set()

    def _report_progress(self) -> None:
        tokens = self._tokens + self.client.tokens_in_flight()
        client = self.client
        _write_report(f"progress {client.sent} {self._finished} {self._failed} {tokens} {client.pending}")

    def _report_periodically(self) -> None:
        self._report_progress()
        self._loop.call_later(PROGRESS_PERIOD_S, self._report_periodically)


def _sender(
    task: Task,
    files: Files,
    loop: asyncio.AbstractEventLoop,
    client: Client,
    on_exhausted: Callable[[], None],
) -> Sender:
    schedule, mine = task.schedule, task.numbers
    if isinstance(schedule, Closed):
        tickets = Tickets(files.tickets, task.total)
        return ClosedSender(loop, client.send, task.slots, tickets, on_exhausted)
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
            barrier_read_fd=files.barrier_read,
            barrier_write_fds=files.barrier_writes,
            on_exhausted=on_exhausted,
        )
    return OpenSender(loop, client.send, [(float(schedule.times_s[index]), index) for index in mine])


def _write_report(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def _work(task: Task, files: Files, loops: InnerLoops) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_fail)
    dial = Dial(loop, task.endpoint)
    await dial.resolve()
    await Worker(task, files, loop, dial, loops).run()


def _fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An unexpected exception must end the process, so that the parent reports it."""
    loop.default_exception_handler(context)
    sys.stderr.flush()
    os._exit(1)


def _next_task(wire: socket.socket) -> tuple[Task, Files] | None:
    """None when no more will come."""
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
    spool, tickets, payloads, barrier_read, *barrier_writes = fds
    return pickle.loads(data), Files(spool, tickets, payloads, barrier_read, tuple(barrier_writes))


def main(parent: int) -> None:
    die_with_parent(parent)
    exact_timers()
    go_first()
    allow_many_sockets()
    loops = choose()
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would hold up every stream
    wire = socket.socket(fileno=0)
    while (given := _next_task(wire)) is not None:
        task, files = given
        uvloop.run(_work(task, files, loops))
        files.close()
        del task, given
        gc.collect()  # what this task has left; everything older is frozen


if __name__ == "__main__":
    main(int(sys.argv[1]))
