"""What usage on every chunk costs a real server: the two modes in turns on one that runs already."""

from __future__ import annotations

import argparse
import os
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np
import psutil

from orchestrator.config.schema import SamplingConfig
from orchestrator.load.arrivals import Closed
from orchestrator.load.driver import LoadJob, run
from orchestrator.load.render import render
from orchestrator.records import Endpoint, Item, Request

_MODES = ("continuous", "final")
_COLUMNS = ("output tokens/s", "TPOT, ms", "server's CPU µs/token")


def measure(arguments: argparse.Namespace) -> None:
    """``requests`` requests of exactly ``tokens`` tokens, ``streams`` at a time, ``rounds`` times in each
    mode after one round in each that does not count. Prints the medians over the rounds with their range;
    with ``server_pid`` also the CPU that this process took per token, without its children: vLLM's API
    server, whose engine core is a process of its own."""
    parts = urlsplit(arguments.url or "")
    if parts.scheme != "http" or not parts.hostname or not arguments.model:
        raise SystemExit("usage needs --url http://HOST:PORT and --model NAME")
    key = os.environ[arguments.key_env] if arguments.key_env else None
    endpoint = Endpoint(parts.hostname, parts.port or 80, arguments.model, key, parts.path.rstrip("/"))
    server = psutil.Process(arguments.server_pid) if arguments.server_pid else None
    found: dict[str, list[tuple[float, ...]]] = {mode: [] for mode in _MODES}
    for round_ in range(arguments.rounds + 1):
        # Whoever goes second finds the prompts of this round cached, so each goes first as often.
        for mode in _MODES if round_ % 2 else _MODES[::-1]:
            before_s = _cpu_s(server)
            one: tuple[float, ...] = _run(endpoint, mode, arguments)
            if server is not None:
                spent_s = _cpu_s(server) - before_s
                one += (1e6 * spent_s / (arguments.requests * arguments.tokens),)
            if round_:
                found[mode].append(one)
                shown = (f"{what} {value:.2f}" for what, value in zip(_COLUMNS, one, strict=False))
                print(f"round {round_} {mode}: {', '.join(shown)}", flush=True)
    columns = _COLUMNS[: 2 if server is None else 3]
    print(f"\n| usage | {' | '.join(columns)} |\n{'|---' * (1 + len(columns))}|")
    for mode, values in found.items():
        cells = (
            f"{np.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"
            for each in zip(*values, strict=True)
        )
        print(f"| {mode} | " + " | ".join(cells) + " |")


def _cpu_s(process: psutil.Process | None) -> float:
    """User and system time so far, of this process alone."""
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


def _run(endpoint: Endpoint, mode: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """(output tokens per second, median TPOT in ms)"""
    result = run(
        LoadJob(
            endpoint=endpoint,
            requests=tuple(_request(endpoint, mode, i, arguments.tokens) for i in range(arguments.requests)),
            schedule=Closed(arguments.streams),
            usage=mode,
            request_timeout_s=1800.0,
            idle_timeout_s=300.0,
            duration_s=None,
            processes=arguments.processes[0],
            expected_tokens_per_s=None,
            zero=perf_counter(),
        )
    )
    tokens, tpot_ms, sent, ended = 0, [], [], []
    for record in result.records:
        if record.outcome != "ok" or record.output_tokens != arguments.tokens:
            raise ValueError(
                f"{record.request_id}: {record.outcome}, {record.output_tokens} tokens, {record.error}"
            )
        assert record.sent_s is not None
        assert record.first_token_s is not None
        assert record.last_token_s is not None
        tokens += arguments.tokens
        tpot_ms.append((record.last_token_s - record.first_token_s) / (arguments.tokens - 1) * 1e3)
        sent.append(record.sent_s)
        ended.append(record.end_s)
    return tokens / (max(ended) - min(sent)), float(np.median(tpot_ms))


def _request(endpoint: Endpoint, mode: str, number: int, tokens: int) -> Request:
    prompt = f"Question {number}: tell a long story about the number {number}."
    return render(
        Item(str(number), ({"role": "user", "content": prompt},), "", "none"),
        repeat=0,
        request_id=f"{mode}-{number}",
        model=endpoint.model,
        sampling=SamplingConfig(temperature=0.0),
        max_tokens=tokens,
        seed=0,
        usage=mode,
        extra={"ignore_eos": True, "min_tokens": tokens},
    )
