"""The measurements of docs/h200.md: each part an ordinary sweep, in order of worth.

    python -m benchmarks.h200.run OUT --parts a,b,c,d,e,f --vllm PYTHON --sglang PYTHON --gsm8k FILE

Each part's study goes to ``OUT/results``, what it printed to ``OUT/PART.log``, and both, packed and cut into
pieces, to ``OUT/PART.tar.xz.0`` and on. ``OUT/table.md`` is written anew after every part. ``--rehearse``
runs the same sweeps on this machine's CPU with a small model and a few short requests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.h200 import table

ROOT = Path(__file__).parents[2]
CONF = Path(__file__).with_name("conf")
PIECE_BYTES = 15_000_000

RANDOM = ("weights=dummy", "dataset=random", "dataset.prompt_tokens=256", "max_tokens=512", "repeats=2")
SLO = ("slo.ttft_s=1", "slo.tpot_s=0.025")
COMMON = (
    *("tracker=none", "ray.dashboard=false", "timeout.engine_start_s=400", "tensor_parallel_size=1"),
    *SLO,
)
ALL_LOADS = "load=closed-64,closed-256,gamma-16"
# SGLang without its FA3 kernels.
TRITON = (
    "engine.args.attention-backend=triton",
    "engine.args.sampling-backend=pytorch",
    "engine.args.cuda-graph-backend-prefill=disabled",
)
REHEARSED = {"closed-64": "tiny-4", "closed-256": "tiny-4", "short-64": "tiny-4", "short-256": "tiny-4"}
REHEARSED |= {"gamma-16": "tiny-gamma"}


@dataclass(frozen=True)
class Part:
    """``estimated_s`` on one H200: about 110 s for the first start of an engine and 65 for others, and what
    its requests take at the throughput seen there before."""

    what: str
    engine: str
    estimated_s: float
    overrides: tuple[str, ...]


PARTS = {
    "a": Part(
        "r1-7b on vLLM, optimizations",
        "vllm",
        680,
        (*RANDOM, "model=r1-7b", "opt=none,fp8,kv-fp8,prefix-cache,spec-ngram", ALL_LOADS),
    ),
    "b": Part("r1-7b on SGLang", "sglang", 310, (*RANDOM, *TRITON, "model=r1-7b", "opt=none,fp8", ALL_LOADS)),
    "c": Part(
        "r1-32b on vLLM",
        "vllm",
        360,
        (*RANDOM, "model=r1-32b", "opt=none,fp8", "load=short-64,short-256"),
    ),
    "d": Part(
        "SmolLM2 with its own weights and real questions",
        "vllm",
        110,
        (
            *("model=smollm2-135m", "dataset=gsm8k-file,arithmetic", "dataset.prompt=boxed"),
            *("load=closed", "load.concurrency=16", "limit=128", "max_tokens=256"),
        ),
    ),
    "e": Part("4-bit weights", "vllm", 180, (*RANDOM, "model=r1-7b", "opt=awq,gptq", "load=closed-64")),
    "f": Part(
        "four API servers",
        "vllm",
        180,
        (
            *(*RANDOM, "model=r1-7b", "opt=none,fp8", "load=closed-256"),
            *("+engine.args.api-server-count=4", "load.processes=4"),
        ),
    ),
}


def command(name: str, out: Path, python: str, rehearse: bool) -> list[str]:
    """The sweep's command line."""
    part = PARTS[name]
    own = [f"study_name=h200-{name}", f"results_dir={out / 'results'}", f"engine={part.engine}"]
    own += [f"engine.python={python}"] if python else []
    if part.engine == "vllm" and not rehearse:
        own.append("+engine.env.VLLM_USE_FLASHINFER_SAMPLER=0")
    words = [
        *COMMON,
        *own,
        *("+" + word if word.startswith("engine.args") else word for word in part.overrides),
    ]
    words += ["hardware=cpu"] if rehearse else ["hardware=auto"]
    if rehearse:
        words = [
            _rehearsed(word) for word in words if "api-server-count" not in word and word not in _triton()
        ]
    return [sys.executable, "-m", "orchestrator.sweep", "--config-dir", str(CONF), "-m", *words]


def _triton() -> list[str]:
    return ["+" + word for word in TRITON]


def _rehearsed(word: str) -> str:
    key, _, value = word.partition("=")
    if key == "load":
        return "load=" + ",".join(dict.fromkeys(REHEARSED.get(one, one) for one in value.split(",")))
    small = {"model": "smollm2-135m", "max_tokens": "16", "limit": "8", "dataset.prompt_tokens": "64"}
    return f"{key}={small.get(key, value)}"


def pack(name: str, out: Path) -> None:
    """``OUT/PART.tar.xz.N``: the part's study and log, in pieces that a file limit lets through."""
    for old in out.glob(f"{name}.tar.xz.*"):
        old.unlink()
    study = f"results/h200-{name}"
    packed = [f"{name}.log", *([study] if (out / study).is_dir() else [])]
    tar = subprocess.Popen(["tar", "-C", str(out), "-cJf", "-", *packed], stdout=subprocess.PIPE)
    split = ["split", "-b", str(PIECE_BYTES), "-d", "-a", "1", "-", str(out / f"{name}.tar.xz.")]
    subprocess.run(split, stdin=tar.stdout, check=True)
    tar.wait()


def run(names: Sequence[str], out: Path, pythons: dict[str, str], rehearse: bool) -> None:
    """Runs the parts one after another; one that fails does not keep the next from running."""
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        part, began_s = PARTS[name], time.monotonic()
        words = command(name, out, pythons[part.engine], rehearse)
        expected = "" if rehearse else f", about {part.estimated_s:.0f} s"
        print(f"part {name}: {part.what}{expected}\n  {' '.join(words[1:])}", flush=True)
        with (out / f"{name}.log").open("wb") as log:
            done = subprocess.run(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
        took_s = time.monotonic() - began_s
        print(f"part {name}: exit code {done.returncode} after {took_s:.0f} s", flush=True)
        (out / "table.md").write_text(table.markdown(out / "results"))
        pack(name, out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure on one H200.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--vllm", default="", help="the interpreter that has vLLM")
    parser.add_argument("--sglang", default="", help="the interpreter that has SGLang")
    parser.add_argument("--gsm8k", type=Path, default=None, help="GSM8K's test questions, JSON lines")
    parser.add_argument("--rehearse", action="store_true")
    chosen = parser.parse_args()
    names = chosen.parts.split(",")
    if unknown := set(names) - PARTS.keys():
        parser.error(f"--parts: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    if "d" in names:
        if chosen.gsm8k is None:
            parser.error("--gsm8k: part d needs it")
        os.environ["GSM8K_FILE"] = str(chosen.gsm8k.absolute())
    if not chosen.rehearse:
        print(f"about {sum(PARTS[name].estimated_s for name in names) / 60:.0f} minutes", flush=True)
    run(names, chosen.out.absolute(), {"vllm": chosen.vllm, "sglang": chosen.sglang}, chosen.rehearse)


if __name__ == "__main__":
    main()
