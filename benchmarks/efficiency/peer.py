"""`vllm bench sweep serve` over the same points: one engine for each deployment, a client process a run."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.efficiency.plans import Planned
from benchmarks.load.clients import VLLM_BENCH_SERVE
from orchestrator.engines import ADAPTERS, guard
from orchestrator.engines.adapter import Launch, to_flags
from orchestrator.engines.environment import clean

GRACE_S = 10.0
VLLM_BENCH_SWEEP_SERVE = (
    "import argparse; from vllm.benchmarks.sweep.serve import SweepServeArgs, main; "
    "parser = argparse.ArgumentParser(); SweepServeArgs.add_cli_args(parser); main(parser.parse_args())"
)


@dataclass(frozen=True)
class Run:
    """What the peer says of one point: ``duration_s`` from its first request to its last answer."""

    completed: int
    output_tokens: int
    duration_s: float


def check(planned: Planned) -> None:
    """Exits where the peer cannot run: it needs vLLM, and pandas beside it, and knows one budget a run."""
    if planned.launch.engine != "vllm" or planned.config.output_length is not None:
        raise SystemExit("vllm-bench-sweep: needs engine=vllm, and no output_length")
    probe = [planned.launch.python, "-c", "import pandas, vllm.benchmarks.sweep.serve"]
    done = subprocess.run(
        probe, env=_environment(planned.launch), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        raise SystemExit(f"vllm-bench-sweep: {planned.launch.python} cannot run it ({last})")


def run(
    deployments: Sequence[Planned], concurrency: Sequence[int], seeds: Sequence[int], folder: Path
) -> tuple[list[Run], float]:
    """Every point's run, and the seconds that the peer's engines were held: from its "[BEGIN SERVER]" to its
    "[END SERVER]", when it has just killed the engine."""
    first, port = deployments[0], _free_port()
    common, serve_params = split([one.launch.args for one in deployments])
    base = replace(first.launch, args=common, port=port)
    # It empties the caches between runs only of a server whose command ends in "vllm".
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(base.python)} "$@"\n')
    program.chmod(0o755)
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in first.questions()))
    bench_params = [
        {"max-concurrency": streams, "num-warmups": streams, "seed": seed}
        for streams in concurrency
        for seed in seeds
    ]
    for name, params in (("serve", serve_params), ("bench", bench_params)):
        (folder / f"{name}.json").write_text(json.dumps(params))
    bench = [base.python, "-c", VLLM_BENCH_SERVE, *to_flags(bench_options(first, base, questions))]
    words = {
        "serve-cmd": shlex.join([str(program), *ADAPTERS["vllm"].command(base)[1:]]),
        "bench-cmd": shlex.join(bench),
        "serve-params": folder / "serve.json",
        "bench-params": folder / "bench.json",
        "num-runs": 1,
        "server-ready-timeout": 1200,
        "output-dir": folder / "peer",
        "experiment-name": "efficiency",
    }
    command = [base.python, "-u", "-c", VLLM_BENCH_SWEEP_SERVE, *to_flags(words)]
    held_s = seconds_with_servers(command, _environment(base), folder / "peer.log")
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("peer/efficiency/*/run=0.json"))]
    return [Run(one["completed"], one["total_output_tokens"], one["duration"]) for one in found], held_s


def split(args: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The flags that all engines share, and each one's own, which the peer puts in."""
    first = args[0]
    common = {
        flag: value
        for flag, value in first.items()
        if all(flag in one and one[flag] == value for one in args)
    }
    return common, [{flag: value for flag, value in one.items() if flag not in common} for one in args]


def bench_options(planned: Planned, launch: Launch, questions: Path) -> dict[str, Any]:
    """The flags of `vllm bench serve`: what our client would send."""
    config, sampling = planned.config, planned.sampling
    return {
        "backend": "openai-chat",
        "endpoint": "/v1/chat/completions",
        "base-url": f"http://{launch.host}:{launch.port}",
        "model": launch.served_name,
        "tokenizer": launch.model,
        "dataset-name": "custom",
        "dataset-path": questions,
        "skip-chat-template": True,  # the server applies it
        "custom-output-len": config.max_tokens,
        "num-prompts": config.limit,
        "ignore-eos": True if config.weights == "dummy" else None,
        "temperature": sampling.temperature,
        "top-p": sampling.top_p,
        "top-k": sampling.top_k,
        "ready-check-timeout-sec": 0,
        "disable-tqdm": True,
    }


def _environment(launch: Launch) -> dict[str, str]:
    """That of our engines, without a key: the peer's client sends none."""
    environment = clean(ADAPTERS["vllm"], launch, os.environ)
    return {name: value for name, value in environment.items() if name != "ENGINE_API_KEY"}


def seconds_with_servers(command: Sequence[str], environment: Mapping[str, str], log: Path) -> float:
    """Runs the peer below a guard: it kills its engines, and would leave their shared memory behind. Raises
    SystemExit with the log's end when it fails."""
    began_s = held_s = 0.0
    life, ours = os.pipe()
    shared = os.memfd_create("shared")
    guarded = [sys.executable, "-I", "-S", guard.__file__, str(life), str(shared), f"{GRACE_S}", *command]
    with (
        log.open("w") as file,
        subprocess.Popen(
            guarded,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environment),
            cwd=log.parent,
            pass_fds=(life, shared),
        ) as process,
        ExitStack() as stack,
    ):
        for fd in (life, shared, ours):  # without ours the guard knows that this process is gone
            stack.callback(os.close, fd)
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if line.startswith("[BEGIN SERVER]"):
                began_s = time.monotonic()
            elif line.startswith("[END SERVER]"):
                held_s += time.monotonic() - began_s
    if process.returncode:
        tail = "\n".join(log.read_text().splitlines()[-30:])
        raise SystemExit(f"vllm bench sweep serve ended with {process.returncode}:\n{tail}")
    return held_s


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
