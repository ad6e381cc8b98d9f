"""Runs a load against an endpoint in client processes, and brings back one record per request.

The clients are processes of their own, so that neither the caller's threads nor its interpreter lock stand
between a byte's arrival and its stamp. They share one pre-drawn schedule and one clock (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import selectors
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import BinaryIO

from orchestrator.errors import MeasurementError
from orchestrator.load.arrivals import Batch, Closed, Open, Schedule
from orchestrator.load.client.connection import WINDOW_ENDED, Finished
from orchestrator.load.client.linux import Tickets
from orchestrator.load.client.payloads import payload_file
from orchestrator.load.client.pool import ClientPool, ClientProcess, nameless_file
from orchestrator.load.client.process import Task
from orchestrator.load.result import record, unsent
from orchestrator.load.stream.response import request_bytes
from orchestrator.load.stream.think import TAGS
from orchestrator.load.stream.timeline import Stream
from orchestrator.records import Endpoint, Record, Request

TOKENS_PER_S_PER_PROCESS = 30_000.0
"""What one client process is given: about a quarter of a core, so that it is mostly waiting."""

DUE_AT_ONCE_PER_PROCESS, PROCESSES_FOR_BURSTS = 16, 4
"""Requests that may become due together, as they do when equal answers end in one step of the engine, and how
many processes share them at most. On a host of 16 cores with vLLM beside, one process sent 64 up to 9 ms late
and 256 up to 18; four sent 256 within 1.2 ms (p99)."""

MIN_STAMPED = 0.99
"""A kernel that stamps reads misses only the first ones on a host, and those around a change of the wall
clock do not count."""

_POLL_S = 0.1
_PROGRESS_S = 0.5
_START_AFTER_S = 0.003  # for the word to reach every process; what is later shows as send lag


@dataclass(frozen=True, slots=True, eq=False)
class LoadJob:
    """One load on one endpoint. ``zero`` is the ``perf_counter`` value that records count their times from.

    ``usage`` is ``continuous`` or ``final``, as the requests were rendered. After ``duration_s`` nothing more
    is sent and what is in flight is cancelled. ``processes`` None: chosen from ``expected_tokens_per_s``.
    Reasoning is found by what arrives (`stream.timeline`); ``reasoning_inline``: the server is known to have
    no parser for it; ``think_tags``: the model's; ``think_opened``: its prompt has the opening one already.
    ``acknowledge_later``: the server is known to set TCP_NODELAY, so that it does not wait for
    acknowledgements (`receive.receiver.NewReceiver`).
    """

    endpoint: Endpoint
    requests: tuple[Request, ...]
    schedule: Schedule
    usage: str
    request_timeout_s: float
    idle_timeout_s: float
    duration_s: float | None
    processes: int | None
    expected_tokens_per_s: float | None
    zero: float
    reasoning_inline: bool = False
    think_opened: bool = False
    think_tags: tuple[str, str] = TAGS
    acknowledge_later: bool = False


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Over all processes. ``output_tokens`` as the server counted them, where it counts per chunk."""

    elapsed_s: float
    sent: int
    finished: int
    failed: int
    in_flight: int
    output_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class LoadResult:
    """``records`` in the order of the job's requests, one for each. ``started_s`` is the schedule's zero on
    the cell's clock. ``cpu_s`` and ``peak_rss_bytes`` are of the client processes, summed; the peak is since
    they were started, and memory that several have counts in each. ``native``: their inner loops were
    compiled (`client.loops`). ``receive_lag_s_p99`` and ``_max``: of the process that was latest to read
    (`receive.lag`); None where there was none. ``stamp_source`` is ``kernel`` when it stamped at least 99 %
    of the reads, else ``clock``: the time of reading; None when nothing was read.
    ``unasked_connections``: those on which the server sent bytes that nobody had asked for;
    ``mixed_connections``: those of them whose answers may therefore be those of other requests."""

    records: tuple[Record, ...]
    processes: int
    started_s: float
    cpu_s: float
    peak_rss_bytes: int
    native: bool
    receive_lag_s_p99: float | None = None
    receive_lag_s_max: float | None = None
    stamp_source: str | None = None
    unasked_connections: int = 0
    mixed_connections: int = 0


def choose_processes(
    expected_tokens_per_s: float | None,
    *,
    asked: int | None = None,
    at_most: int = sys.maxsize,
    due_at_once: int = 1,
    cores: int | None = None,
) -> int:
    """How many client processes: ``asked`` if given, else as the expected rate needs and as ``due_at_once``
    requests do, leaving one core to the server. Never more than ``at_most`` (the load's concurrency, say)."""
    if asked is not None:
        return max(1, min(asked, at_most))
    cores = cores or len(os.sched_getaffinity(0))
    for_tokens = math.ceil((expected_tokens_per_s or 0.0) / TOKENS_PER_S_PER_PROCESS)
    for_bursts = min(PROCESSES_FOR_BURSTS, math.ceil(due_at_once / DUE_AT_ONCE_PER_PROCESS))
    return max(1, min(max(for_tokens, for_bursts), cores - 1, at_most))


def run(
    job: LoadJob,
    on_progress: Callable[[LoadProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    clients: ClientPool | None = None,
) -> LoadResult:
    """Send every request of ``job`` and wait for all of them.

    ``on_progress`` is called about twice a second. ``should_stop`` is asked ten times a second: once it says
    yes, what is in flight or unsent becomes ``cancelled``. Raises MeasurementError when a client process
    fails. Whatever happens, no process and no file is left behind, but for the processes of ``clients``.
    """
    at_most, due_at_once = len(job.requests), 1
    if isinstance(job.schedule, Closed):
        at_most = due_at_once = min(at_most, job.schedule.concurrency)
    elif isinstance(job.schedule, Batch):
        at_most = due_at_once = min(at_most, job.schedule.size)
    elif len(job.schedule.times_s) != len(job.requests):
        raise ValueError(f"{len(job.schedule.times_s)} arrivals for {len(job.requests)} requests")
    if not job.requests:
        return LoadResult((), 0, perf_counter() - job.zero, 0.0, 0, False)
    processes = choose_processes(
        job.expected_tokens_per_s, asked=job.processes, at_most=at_most, due_at_once=due_at_once
    )

    with contextlib.ExitStack() as stack:
        pool = clients or stack.enter_context(ClientPool())
        lent = stack.enter_context(pool.lent(processes))
        spools = _assign(job, lent, stack)
        started, reason = _supervise(job, lent, on_progress, should_stop)
        records = _collect(job, spools, started, reason or "the run ended before it was sent")
    return LoadResult(
        records=records,
        processes=processes,
        started_s=started - job.zero,
        cpu_s=sum(client.cpu_s for client in lent),
        peak_rss_bytes=sum(client.peak_rss_bytes for client in lent),
        native=all(client.native for client in lent),
        receive_lag_s_p99=max(client.receive_lag_s[0] for client in lent),
        receive_lag_s_max=max(client.receive_lag_s[1] for client in lent),
        stamp_source=_stamp_source(lent),
        unasked_connections=sum(client.unasked_connections for client in lent),
        mixed_connections=sum(client.mixed_connections for client in lent),
    )


def _stamp_source(clients: Sequence[ClientProcess]) -> str | None:
    reads = sum(client.reads for client in clients)
    stamped = sum(client.stamped_reads for client in clients)
    return None if not reads else "kernel" if stamped >= MIN_STAMPED * reads else "clock"


def _assign(job: LoadJob, clients: Sequence[ClientProcess], stack: contextlib.ExitStack) -> list[BinaryIO]:
    """Assign each client process its part of the job. Returns the files that they spool to."""
    tickets = Tickets.create(len(job.requests))
    stack.callback(os.close, tickets.fd)
    payloads = payload_file(request_bytes(job.endpoint, request) for request in job.requests)
    stack.callback(os.close, payloads)
    pipes = [os.pipe() for _ in clients]
    for fd in (fd for pipe in pipes for fd in pipe):
        stack.callback(os.close, fd)

    spools: list[BinaryIO] = []
    for number, client in enumerate(clients):
        spools.append(stack.enter_context(nameless_file()))
        task = Task(
            endpoint=job.endpoint,
            numbers=_share(job, number, len(clients)),
            total=len(job.requests),
            schedule=job.schedule,
            slots=_slots(job, number, len(clients)),
            counted=job.usage == "continuous",
            inline=job.reasoning_inline,
            opened=job.think_opened,
            tags=job.think_tags,
            acknowledge_later=job.acknowledge_later,
            request_timeout_s=job.request_timeout_s,
            idle_timeout_s=job.idle_timeout_s,
            duration_s=job.duration_s,
        )
        writes = (write for _, write in pipes)
        files = (spools[number].fileno(), tickets.fd, payloads, pipes[number][0], *writes)
        client.assign(task, list(files))
    return spools


def _share(job: LoadJob, number: int, processes: int) -> range:
    """What a process may send: all of a closed load, whose next request goes to whoever is free first; every
    n-th of the others."""
    total = len(job.requests)
    return range(total) if isinstance(job.schedule, Closed) else range(number, total, processes)


def _slots(job: LoadJob, number: int, processes: int) -> int:
    schedule = job.schedule
    if isinstance(schedule, Open):
        return 0
    most = schedule.concurrency if isinstance(schedule, Closed) else schedule.size
    whole = min(most, len(job.requests))
    return whole // processes + (number < whole % processes)


def _supervise(
    job: LoadJob,
    clients: Sequence[ClientProcess],
    on_progress: Callable[[LoadProgress], None] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[float, str | None]:
    """Start all at one moment and wait for them. Returns that moment and why the run was cut short."""
    started: float | None = None
    reason: str | None = None
    reported = 0.0
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ, client)
        while not all(client.done for client in clients):
            for key, _ in selector.select(_POLL_S):
                client = key.data
                client.read_reports()
                if client.done:
                    selector.unregister(key.fileobj)
            now = perf_counter()
            if started is None:
                if not all(client.ready for client in clients):
                    continue
                started = now + _START_AFTER_S
                for client in clients:
                    client.start(started)
            if reason is None and should_stop is not None and should_stop():
                reason = "the run was stopped"
                for client in clients:
                    client.stop(reason)
            if on_progress is not None and now - reported >= _PROGRESS_S:
                reported = now
                on_progress(_progress(clients, max(0.0, now - started)))
    assert started is not None
    if on_progress is not None:
        on_progress(_progress(clients, perf_counter() - started))
    if reason is None and job.duration_s is not None:
        reason = f"{WINDOW_ENDED.format(job.duration_s)} before it was sent"
    return started, reason


def _progress(clients: Sequence[ClientProcess], elapsed_s: float) -> LoadProgress:
    sent, finished, failed, tokens, in_flight = map(sum, zip(*(c.progress for c in clients), strict=True))
    return LoadProgress(elapsed_s, sent, finished, failed, in_flight, tokens)


def _collect(job: LoadJob, spools: Sequence[BinaryIO], started: float, why: str) -> tuple[Record, ...]:
    found: dict[int, Record] = {}
    for spool in spools:
        spool.seek(0)
        with contextlib.suppress(EOFError):
            while True:
                *call, stream, retries = pickle.load(spool)
                finished = Finished._make([*call, Stream._make(stream), retries])
                if finished.number in found:
                    raise MeasurementError(f"request {finished.number} was sent twice by the load clients")
                found[finished.number] = record(job.requests[finished.number], finished, job.zero)
    now = perf_counter()
    for index, request in enumerate(job.requests):
        if index not in found:
            due = started + job.schedule.times_s[index] if isinstance(job.schedule, Open) else None
            found[index] = unsent(request, scheduled_s=due, end_s=now, why=why, zero=job.zero)
    return tuple(found[index] for index in range(len(job.requests)))
