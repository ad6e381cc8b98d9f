"""A long closed loop: memory must stay flat and no request may be lost."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import psutil

from benchmarks.load.ours import measure as send
from benchmarks.load.scripted import serve
from orchestrator.load.arrivals import Closed

_TOKENS, _PERIOD_S, _SETTLED_AFTER = 500, 5.0, 0.1


def measure(binary: Path, streams: int, gap_s: float, seconds: float) -> None:
    """Prints the resident memory of the clients and of this process, and what became of the requests."""
    count = streams * max(1, round(seconds / (_TOKENS * gap_s)))
    samples: list[tuple[int, int]] = []
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(samples, over))
    with serve(binary, ttft_s=0.1, gap_s=gap_s, together=False, core=None) as server:
        watcher.start()
        result = send(server.port, Closed(streams), count, _TOKENS, processes=None)
        over.set()
        watcher.join()
        truth = server.truth()
    ok = sum(record.outcome == "ok" for record in result.records)
    tokens = sum(record.output_tokens or 0 for record in result.records)
    span_s = max(record.end_s for record in result.records) - result.started_s
    print(f"{count} requests, {ok} ok, {len(truth)} seen by the server; {tokens} tokens of {count * _TOKENS}")
    cpu_us = result.cpu_s / tokens * 1e6
    print(f"{span_s:.0f} s, {tokens / span_s:.0f} tokens/s, {cpu_us:.1f} µs of CPU per token")
    for name, values in zip(("client processes", "caller"), np.array(samples).T / 1e6, strict=True):
        settled = values[max(1, round(len(values) * _SETTLED_AFTER)) :]
        tenth = max(1, len(settled) // 10)
        first, last = settled[:tenth].mean(), settled[-tenth:].mean()
        print(
            f"{name}: {first:.1f} MB after {_SETTLED_AFTER:.0%} of the run, {last:.1f} MB at its end "
            f"({last / first - 1:+.1%}), {settled.max():.1f} at most; {len(values)} samples"
        )


def _watch(samples: list[tuple[int, int]], over: threading.Event) -> None:
    """Resident bytes of (client processes, this process) while there are clients."""
    while not over.wait(_PERIOD_S):
        caller = psutil.Process(os.getpid())
        clients = [p for p in caller.children() if "orchestrator.load.client.process" in p.cmdline()]
        if clients:
            samples.append((sum(p.memory_info().rss for p in clients), caller.memory_info().rss))
