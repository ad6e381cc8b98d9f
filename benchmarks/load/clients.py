"""The load generators side by side: each as the command it is run by, and what it reports per request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reported:
    """What a client says of one request. ``request_id`` None: it does not tell which one it was."""

    request_id: str | None
    ttft_s: float
    e2e_s: float


@dataclass(frozen=True)
class Work:
    """``requests`` requests of ``tokens`` tokens, ``streams`` at a time, on 127.0.0.1:``port``."""

    port: int
    streams: int
    requests: int
    tokens: int
    tokenizer: str
    folder: Path
    processes: int = 1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Client:
    name: str
    command: Callable[[str, Work], list[str]]
    read: Callable[[Work], list[Reported]]


def _ours(python: str, work: Work) -> list[str]:
    numbers = [work.port, work.streams, work.requests, work.tokens, work.processes]
    return [python, "-m", "benchmarks.load.ours", *map(str, numbers), str(work.folder / "ours.json")]


def _read_ours(work: Work) -> list[Reported]:
    rows = json.loads((work.folder / "ours.json").read_text())["requests"]
    return [Reported(*row) for row in rows]


VLLM_BENCH_SERVE = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)


def _vllm(python: str, work: Work) -> list[str]:
    options = {
        "backend": "openai-chat",
        "endpoint": "/v1/chat/completions",
        "base-url": work.url,
        "model": "scripted",
        "tokenizer": work.tokenizer,
        "dataset-name": "random",
        "random-input-len": 32,
        "random-output-len": work.tokens,
        "num-prompts": work.requests,
        "max-concurrency": work.streams,
        "request-id-prefix": "vllm-",
        "ready-check-timeout-sec": 0,
        "result-dir": work.folder,
        "result-filename": "vllm.json",
    }
    return [
        python,
        "-c",
        VLLM_BENCH_SERVE,
        "--save-result",
        "--save-detailed",
        "--disable-tqdm",
        *_flags(options),
    ]


def _read_vllm(work: Work) -> list[Reported]:
    found = json.loads((work.folder / "vllm.json").read_text())
    rows = zip(found["ttfts"], found["itls"], strict=True)
    return [Reported(f"vllm-{i}", ttft, ttft + sum(gaps)) for i, (ttft, gaps) in enumerate(rows)]


def _guidellm(program: str, work: Work) -> list[str]:
    options = {
        "backend": f"kind=openai_http,target={work.url},model=scripted",
        "profile": f"kind=concurrent,streams={work.streams}",
        "constraint": f"kind=max_requests,count={work.requests}",
        "tokenizer": f"kind=hf_auto,model={work.tokenizer}",
        "data": f"kind=synthetic_text,prompt_tokens=32,output_tokens={work.tokens}",
        "output": f"kind=json,path={work.folder / 'guidellm.json'}",
    }
    return [program, "run", "--disable-console", *_flags(options)]


def _read_guidellm(work: Work) -> list[Reported]:
    found = json.loads((work.folder / "guidellm.json").read_text())["benchmarks"][0]["requests"]["successful"]
    return [Reported(None, row["time_to_first_token_ms"] / 1e3, row["request_latency"]) for row in found]


def _aiperf(program: str, work: Work) -> list[str]:
    options = {
        "model": "scripted",
        "url": work.url,
        "endpoint-type": "chat",
        "concurrency": work.streams,
        "request-count": work.requests,
        "synthetic-input-tokens-mean": 32,
        "output-tokens-mean": work.tokens,
        "extra-inputs": f"max_tokens:{work.tokens}",
        "tokenizer": AIPERF_TOKENIZER,
        "artifact-dir": work.folder / "aiperf",
        "ui": "none",
    }
    return [program, "profile", "--streaming", "--use-server-token-count", *_flags(options)]


def _read_aiperf(work: Work) -> list[Reported]:
    lines = (work.folder / "aiperf" / "profile_export.jsonl").read_text().splitlines()
    found = []
    for row in map(json.loads, lines):
        metrics, request_id = row["metrics"], row["metadata"].get("x_request_id")
        if "time_to_first_token" in metrics:
            ttft, e2e = (_seconds(metrics[name]) for name in ("time_to_first_token", "request_latency"))
            found.append(Reported(request_id, ttft, e2e))
    return found


def _seconds(metric: Mapping[str, Any]) -> float:
    return float(metric["value"]) * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}[metric["unit"]]


def _flags(options: Mapping[str, object]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


AIPERF_TOKENIZER = "bench/tokenizer"


def hub_cache(folder: Path, tokenizer: str) -> Path:
    """A Hugging Face cache with the local tokenizer as ``bench/tokenizer``: aiperf takes no folder."""
    revision = "0" * 40
    repository = folder / "hub" / "models--bench--tokenizer"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    for file in Path(tokenizer).glob("*.json"):
        shutil.copy(file, snapshot)
    return folder / "hub"


CLIENTS = {
    client.name: client
    for client in (
        Client("ours", _ours, _read_ours),
        Client("vllm", _vllm, _read_vllm),
        Client("guidellm", _guidellm, _read_guidellm),
        Client("aiperf", _aiperf, _read_aiperf),
    )
}
