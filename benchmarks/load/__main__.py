"""The load client beside its peers, on a server whose every token time is known.

``python -m benchmarks.load`` compares; ``… open`` measures an open loop's lateness; ``… soak`` runs for long;
``… scaling`` adds client processes; ``… end-to-end`` holds a whole sweep to the truth; ``… usage`` asks a
real server what usage on every chunk costs it.
Everything that is printed was measured in that run. Described in docs/load.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.load import account, end_to_end, lateness, scaling, soak, usage
from benchmarks.load.clients import CLIENTS, Reported, Work, hub_cache
from benchmarks.load.scripted import Truth, compiled, serve


@dataclass(frozen=True)
class Run:
    """One client, once. CPU in µs per token from the first request's arrival: until the last token left the
    server, and until the client's processes had ended. Errors: reported minus true, (median, p99) in ms."""

    streaming_us: float
    whole_us: float
    ttft_ms: tuple[float, float]
    e2e_ms: tuple[float, float]
    token_per_s: float
    peak_mb: float


def compare(arguments: argparse.Namespace, binary: Path) -> None:
    programs = {"ours": sys.executable, **dict(each.split("=", 1) for each in arguments.client)}
    print(f"{os.cpu_count()} cores, {platform.platform()}, load average {os.getloadavg()[0]:.2f}")
    print(
        f"{arguments.streams} streams, {arguments.requests} requests of {arguments.tokens} tokens,", end=" "
    )
    print(f"one every {arguments.gap_s * 1e3:g} ms{', all together' if arguments.together else ''}\n")
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for round_ in range(arguments.rounds):
        for name, program in programs.items():
            try:
                one = _run(name, program, arguments, binary)
            except (OSError, LookupError, ValueError) as error:
                print(f"round {round_ + 1} {name}: no result ({type(error).__name__}: {error})", flush=True)
                continue
            runs[name].append(one)
            print(f"round {round_ + 1} {name}: {one}", flush=True)
    _table(runs)


def _run(name: str, program: str, arguments: argparse.Namespace, binary: Path) -> Run:
    client = CLIENTS[name]
    server_core, client_cores = (None, None) if arguments.unpinned else (1, [0])
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(
            binary,
            ttft_s=arguments.ttft_s,
            gap_s=arguments.gap_s,
            together=arguments.together,
            core=server_core,
            first=arguments.first,
        ) as server,
    ):
        work = Work(
            port=server.port,
            streams=arguments.streams,
            requests=arguments.requests,
            tokens=arguments.tokens,
            tokenizer=arguments.tokenizer,
            folder=Path(folder),
            processes=arguments.processes[0],
        )
        env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        if name == "aiperf":
            env["HF_HUB_CACHE"] = str(hub_cache(work.folder, arguments.tokenizer))
        log = work.folder / "log"
        cost = account.run(
            client.command(program, work), cores=client_cores, first=arguments.first, env=env, log=log
        )
        if cost.status != 0:
            raise ValueError(f"status {cost.status}: {log.read_text(errors='replace')[-800:]}")
        return _judge(cost, server.truth(), client.read(work), arguments.tokens)


def _judge(cost: account.Cost, truth: Sequence[Truth], reported: Sequence[Reported], tokens: int) -> Run:
    first, last = min(t.received_s for t in truth), max(t.last_s for t in truth)
    total = len(truth) * tokens
    pairs = _matched(truth, reported)
    return Run(
        streaming_us=cost.cpu_s(first, last) / total * 1e6,
        whole_us=cost.cpu_s(first) / total * 1e6,
        ttft_ms=_quantiles([r.ttft_s - t.ttft_s for t, r in pairs]),
        e2e_ms=_quantiles([r.e2e_s - t.e2e_s for t, r in pairs]),
        token_per_s=total / (last - first),
        peak_mb=cost.peak_bytes / 1e6,
    )


def _matched(truth: Sequence[Truth], reported: Sequence[Reported]) -> list[tuple[Truth, Reported]]:
    """By request id; a client that sends none is matched by rank, which can only flatter it."""
    by_id = {t.request_id: t for t in truth}
    if all(r.request_id in by_id for r in reported):
        return [(by_id[str(r.request_id)], r) for r in reported]
    ranked = zip(sorted(truth, key=lambda t: t.e2e_s), sorted(reported, key=lambda r: r.e2e_s), strict=True)
    return list(ranked)


def _quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    median, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
    return round(float(median), 3), round(float(p99), 3)


def _table(runs: dict[str, list[Run]]) -> None:
    """Medians over the rounds, as Markdown."""
    columns = (
        "client",
        "rounds",
        "CPU µs/token streaming",
        "whole",
        "×ours",
        "TTFT error, ms",
        "E2E error, ms",
    )
    print("\nmedians over the rounds; errors as median / p99\n")
    print("| " + " | ".join((*columns, "peak MB")) + " |")
    print("|---" * (len(columns) + 1) + "|")
    ours = statistics.median(run.whole_us for run in runs["ours"]) if runs["ours"] else None
    for name, found in runs.items():
        if not found:
            print(f"| {name} | 0 | | | | | | |")
            continue
        streaming = statistics.median(run.streaming_us for run in found)
        whole = statistics.median(run.whole_us for run in found)
        cells = [
            name,
            str(len(found)),
            f"{streaming:.1f}",
            f"{whole:.1f}",
            "" if ours is None else f"{whole / ours:.1f}",
            _pair([run.ttft_ms for run in found]),
            _pair([run.e2e_ms for run in found]),
            f"{statistics.median(run.peak_mb for run in found):.0f}",
        ]
        print("| " + " | ".join(cells) + " |")


def _pair(values: Sequence[tuple[float, float]]) -> str:
    return " / ".join(f"{statistics.median(each):.2f}" for each in zip(*values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        default="compare",
        choices=["compare", "open", "soak", "scaling", "end-to-end", "usage"],
    )
    parser.add_argument("--client", action="append", default=[], metavar="NAME=PROGRAM",
                        help="a peer: vllm=PYTHON, guidellm=COMMAND, aiperf=COMMAND")  # fmt: skip
    parser.add_argument("--tokenizer", default="", help="a folder with a tokenizer, for the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=512)
    parser.add_argument("--requests", type=int, help="default: as many as streams")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--ttft-s", type=float, default=0.1)
    parser.add_argument("--gap-s", type=float, default=0.02, help="0: as fast as they are taken")
    parser.add_argument("--together", action="store_true", help="all streams' tokens at the same moments")
    parser.add_argument("--processes", type=int, nargs="+", default=[1],
                        help="client processes of ours; scaling takes several numbers")  # fmt: skip
    parser.add_argument(
        "--unpinned", action="store_true", help="else the client has core 0, the server core 1"
    )
    parser.add_argument("--first", action="store_true",
                        help="server and clients under SCHED_RR, as ours asks to be; root only")  # fmt: skip
    parser.add_argument("--rates", type=float, nargs="+", default=[200.0, 1000.0], help="open: requests/s")
    parser.add_argument("--seconds", type=float, help="open: 20, soak: 600")
    parser.add_argument("--url", help="usage: http://HOST:PORT of the server")
    parser.add_argument("--model", help="usage: the model's name there")
    parser.add_argument("--server-pid", type=int, help="usage: its process, to tell its CPU per token")
    parser.add_argument("--key-env", help="usage: the environment variable that holds its key")
    arguments = parser.parse_args()
    arguments.requests = arguments.requests or arguments.streams
    if arguments.what == "usage":
        usage.measure(arguments)
        return
    with compiled() as binary:
        if arguments.what == "compare":
            compare(arguments, binary)
        elif arguments.what == "open":
            for rate in arguments.rates:
                lateness.measure(binary, rate, arguments.seconds or 20.0, arguments.rounds)
        elif arguments.what == "scaling":
            scaling.measure(binary, arguments)
        elif arguments.what == "end-to-end":
            end_to_end.measure(binary, arguments)
        else:
            soak.measure(binary, arguments.streams, arguments.gap_s, arguments.seconds or 600.0)


if __name__ == "__main__":
    main()
