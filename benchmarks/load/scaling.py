"""What several client processes take together, from as many servers as it needs."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import socket
from pathlib import Path

import numpy as np

from benchmarks.load.ours import measure as send
from benchmarks.load.scripted import serve
from orchestrator.load.arrivals import Closed

_COLUMNS = (
    "processes",
    "streams",
    "tokens/s offered",
    "taken",
    "CPU µs/token",
    "TTFT error, ms",
    "E2E error, ms",
)


def measure(binary: Path, arguments: argparse.Namespace) -> None:
    """For each number of client processes, that many times ``streams`` streams from as many servers, on one
    port. Prints a table; errors are reported minus true, median / p99."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    print(f"{os.cpu_count()} cores ({model}), Python {platform.python_version()},", end=" ")
    print(f"load average {os.getloadavg()[0]:.2f}; {arguments.tokens} tokens a request,", end=" ")
    print(f"one every {arguments.gap_s * 1e3:g} ms, {arguments.streams} streams for each process\n")
    print("| " + " | ".join(_COLUMNS) + " |\n" + "|---" * len(_COLUMNS) + "|")
    for processes in arguments.processes:
        print(_row(binary, processes, arguments), flush=True)


def _row(binary: Path, processes: int, arguments: argparse.Namespace) -> str:
    streams, tokens = arguments.streams * processes, arguments.tokens
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(socket.socket())  # bound, not listening: the number is ours
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        servers = [
            stack.enter_context(
                serve(
                    binary,
                    ttft_s=arguments.ttft_s,
                    gap_s=arguments.gap_s,
                    together=arguments.together,
                    core=None,
                    shared_port=port,
                )
            )
            for _ in range(processes)
        ]
        result = send(port, Closed(streams), streams, tokens, processes)
        truth = {each.request_id: each for server in servers for each in server.truth()}
    lost = sum(record.outcome != "ok" or record.output_tokens != tokens for record in result.records)
    if lost or len(truth) != streams:
        raise ValueError(f"{lost} of {streams} requests failed, the servers saw {len(truth)}")
    span_s = max(each.last_s for each in truth.values()) - min(each.received_s for each in truth.values())
    ttft, e2e = [], []
    for record in result.records:
        assert record.sent_s is not None
        assert record.first_token_s is not None
        assert record.last_token_s is not None
        true = truth[record.request_id]
        ttft.append(record.first_token_s - record.sent_s - true.ttft_s)
        e2e.append(record.last_token_s - record.sent_s - true.e2e_s)
    offered = f"{streams / arguments.gap_s:,.0f}" if arguments.gap_s else "all"
    cells = [str(processes), str(streams), offered, f"{streams * tokens / span_s:,.0f}"]
    cells += [f"{result.cpu_s / streams / tokens * 1e6:.1f}", *map(_errors, (ttft, e2e))]
    return "| " + " | ".join(cells) + " |"


def _errors(seconds: list[float]) -> str:
    return " / ".join(f"{each:.2f}" for each in np.quantile(seconds, [0.5, 0.99]) * 1e3)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
