"""The measurements of docs/h200.md: each part an ordinary sweep, in order of worth.

    python -m benchmarks.h200.run OUT --parts a,b,c,d,e,f,g --vllm PYTHON --sglang PYTHON --gsm8k FILE

Each part's study goes to ``OUT/results``, what it printed to ``OUT/PART.log``, and both, packed and cut into
pieces, to ``OUT/PART.tar.xz.0`` and on. ``OUT/table.md``, the cells and the switches between deployments, is
written anew after every part. ``--rehearse`` runs the same sweeps on this machine's CPU with a small model
and a few short requests.

Time on the machine is dear: a simulated cell goes first, and a part without a single good cell is the last.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.h200 import switches, table
from orchestrator.store.read import read_cells

ROOT = Path(__file__).parents[2]
CONF = Path(__file__).with_name("conf")
PIECE_BYTES = 15_000_000

RANDOM = ("weights=dummy", "dataset=random", "dataset.prompt_tokens=256", "max_tokens=512", "repeats=2")
SLO = ("slo.ttft_s=1", "slo.tpot_s=0.025")
COMMON = (
    *("tracker=none", "ray.dashboard=false", "timeout.engine_start_s=400", "tensor_parallel_size=1"),
    *SLO,
)
FIVE = "opt=none,fp8,kv-fp8,prefix-cache,spec-ngram"
ALL_LOADS = "load=closed-64,closed-256,gamma-16"
# What the host lacks: FlashInfer, and for SGLang its FA3 kernels.
ON_HOST = {
    "vllm": ("+engine.env.VLLM_USE_FLASHINFER_SAMPLER=0",),
    "sglang": (
        "+engine.args.attention-backend=triton",
        "+engine.args.sampling-backend=pytorch",
        "+engine.args.cuda-graph-backend-prefill=disabled",
    ),
}
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
        (*RANDOM, "model=r1-7b", FIVE, ALL_LOADS),
    ),
    "b": Part("r1-7b on SGLang, the same", "sglang", 600, (*RANDOM, "model=r1-7b", FIVE, ALL_LOADS)),
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
            *("model=smollm2-135m", "dataset=gsm8k-file,arithmetic", "dataset.prompt=plain"),
            *("load=closed", "load.concurrency=16", "limit=256", "max_tokens=256"),
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
    "g": Part(
        "what bounds 256 streams: usage on every chunk, top-p sampling",
        "vllm",
        150,
        (
            *(*RANDOM, "model=r1-7b", "opt=none", "load=closed-256"),
            *("repeats=1", "load.usage=continuous,final", "sampling.top_p=0.95,1"),
        ),
    ),
}


def command(name: str, out: Path, python: str, rehearse: bool, more: Sequence[str] = ()) -> list[str]:
    """The sweep's command line; ``more`` are further overrides, which win."""
    part = PARTS[name]
    own = [f"study_name=h200-{name}", f"results_dir={out / 'results'}", f"engine={part.engine}"]
    own += [f"engine.python={python}"] if python else []
    words = [*COMMON, *own, *part.overrides]
    words = _rehearsed(words) if rehearse else [*words, *ON_HOST[part.engine], "hardware=auto"]
    return [sys.executable, "-m", "orchestrator.sweep", "--config-dir", str(CONF), "-m", *words, *more]


def _rehearsed(words: Sequence[str]) -> list[str]:
    """The same with a small model, few requests, and without what the CPU's engines lack."""
    small = {"model": "smollm2-135m", "max_tokens": "16", "limit": "8", "dataset.prompt_tokens": "64"}
    made = ["hardware=cpu"]
    for key, value in (word.split("=", 1) for word in words if "api-server-count" not in word):
        if key == "load":
            value = ",".join(dict.fromkeys(REHEARSED.get(one, one) for one in value.split(",")))
        made.append(f"{key}={small.get(key, value)}")
    if "weights=dummy" in words:  # as the models that it stands in for
        made += ["+model.reasoning_parser.vllm=deepseek_r1", "+model.reasoning_parser.sglang=deepseek-r1"]
    return made


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


def preflight(out: Path) -> bool:
    """Whether this checkout measures at all: one simulated cell, in seconds."""
    cell = ("engine=simulated", "+engine.args.speed=20", "dataset=random", "limit=8", "max_tokens=16")
    where = (
        "study_name=preflight",
        f"results_dir={out / 'preflight'}",
        "tracker=none",
        "ray.dashboard=false",
    )
    words = [sys.executable, "-m", "orchestrator.sweep", "model=r1-7b", "weights=dummy", *cell, *where]
    return subprocess.run(words, cwd=ROOT, check=False).returncode == 0


def run(
    names: Sequence[str], out: Path, pythons: Mapping[str, str], rehearse: bool, more: Sequence[str]
) -> bool:
    """Runs the parts one after another, as long as each has a cell that is done; whether all had."""
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        part, began_s = PARTS[name], time.monotonic()
        words = command(name, out, pythons[part.engine], rehearse, more)
        expected = "" if rehearse else f", about {part.estimated_s:.0f} s"
        print(f"part {name}: {part.what}{expected}\n  {' '.join(words[1:])}", flush=True)
        with (out / f"{name}.log").open("wb") as log:
            done = subprocess.run(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
        took_s = time.monotonic() - began_s
        print(f"part {name}: exit code {done.returncode} after {took_s:.0f} s", flush=True)
        pack(name, out)
        results = out / "results"
        (out / "table.md").write_text(f"{table.markdown(results)}\n{switches.markdown(results)}")
        if "done" not in read_cells(out / f"results/h200-{name}")["status"].to_pylist():
            print(f"part {name}: no cell is done; see {out / name}.log", flush=True)
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure on one H200.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--vllm", default="", help="the interpreter that has vLLM")
    parser.add_argument("--sglang", default="", help="the interpreter that has SGLang")
    parser.add_argument("--gsm8k", type=Path, default=None, help="GSM8K's test questions, JSON lines")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("overrides", nargs="*", help="further overrides of every part's sweep")
    chosen = parser.parse_intermixed_args()
    names = chosen.parts.split(",")
    if unknown := set(names) - PARTS.keys():
        parser.error(f"--parts: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    if "d" in names:
        if chosen.gsm8k is None:
            parser.error("--gsm8k: part d needs it")
        os.environ["GSM8K_FILE"] = str(chosen.gsm8k.absolute())
    out = chosen.out.absolute()
    if not preflight(out):
        raise SystemExit("the simulated cell failed: nothing was started on the GPU")
    if not chosen.rehearse:
        print(f"about {sum(PARTS[name].estimated_s for name in names) / 60:.0f} minutes", flush=True)
    pythons = {"vllm": chosen.vllm, "sglang": chosen.sglang}
    if not run(names, out, pythons, chosen.rehearse, chosen.overrides):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
