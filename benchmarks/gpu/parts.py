"""The parts of the measurements on GPUs: each an ordinary command, `orchestrator.sweep` or a benchmark."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CONF = Path(__file__).with_name("conf")
SWEEP = "orchestrator.sweep"

RANDOM = (
    *("weights=dummy", "dataset=random", "dataset.prompt_tokens=256", "max_tokens=512", "repeats=2"),
    "model.context=8192",
)
SLO = ("slo.ttft_s=1", "slo.tpot_s=0.025")
COMMON = ("tracker=none", "ray.dashboard=false", "timeout.engine_start_s=240", *SLO)
ONE = "tensor_parallel_size=1"
FIVE = "opt=none,fp8,kv-fp8,prefix-cache,spec-ngram"
ALL_LOADS = "load=closed-64,closed-256,gamma-16"
# What the host lacks: FlashInfer, and for SGLang its FA3 kernels; and NVLink multicast, which is left off.
NO_MULTICAST = (
    "+engine.env.NCCL_NVLS_ENABLE=0",
    "+engine.env.TORCH_SYMM_MEM_DISABLE_MULTICAST=1",
    "+engine.env.NVSHMEM_DISABLE_NVLS=1",
)
ON_HOST = {
    "vllm": (
        "+engine.env.VLLM_USE_FLASHINFER_SAMPLER=0",
        "+engine.env.VLLM_ALLREDUCE_USE_SYMM_MEM=0",
        *NO_MULTICAST,
    ),
    "sglang": (
        "+engine.args.attention-backend=triton",
        "+engine.args.sampling-backend=pytorch",
        "+engine.args.cuda-graph-backend-prefill=disabled",
        *NO_MULTICAST,
    ),
}
Where = Literal["gpus", "cpu", "simulated"]
SIMULATED_START_S = 100
SMALL = {"model": "smollm2-135m", "max_tokens": "16", "limit": "8", "dataset.prompt_tokens": "64"}
SMALL_OPTIONS = {"opt=fp8": "opt=prefix-cache", "32,64,128": "1,2,4", "128": "6"}
SMALL_LOAD = {"gamma-16": "tiny-gamma", "closed": "closed"}


@dataclass(frozen=True)
class Part:
    """Sweeps of one ``study`` share their cells: what one has measured the other takes as done. ``options``
    come before the ``overrides`` on the command line of ``module``; OUT in them is the folder of all results.
    ``estimated_s`` is on a host with ``gpus`` GPUs."""

    what: str
    engine: str
    estimated_s: float
    overrides: tuple[str, ...]
    study: str = ""
    gpus: int = 1
    module: str = SWEEP
    options: tuple[str, ...] = ()


EFFICIENCY = ("--concurrency", "32,64,128", "--limit", "128", "--alone", "2")
# A reasoning model with weights of its own. With a folder to draft by: opt=spec-draft model.draft=FOLDER.
OWN = (
    *("model=smollm2-135m-think", "model.dtype=bfloat16", ONE, "dataset=steps"),
    "max_tokens=128,256,512,1024",
    *("load=closed-64", "load.concurrency=128", "limit=1000"),
    "opt=none,fp8,kv-fp8,kv-fp8-e5m2,spec-ngram",
)
ONE_7B = (
    *("model=r1-7b", "model.context=8192", "weights=dummy", "dataset=random", "dataset.prompt_tokens=256"),
    *(ONE, "ray.dashboard=false", "timeout.engine_start_s=240"),
)

PARTS = {
    "a": Part(
        "r1-7b on vLLM, optimizations",
        "vllm",
        600,
        (*RANDOM, ONE, "model=r1-7b", f"{FIVE},awq", ALL_LOADS),
        study="r1-vllm",
    ),
    "b": Part(
        "r1-7b on SGLang",
        "sglang",
        550,
        (*RANDOM, ONE, "model=r1-7b", FIVE, ALL_LOADS),
        study="r1-sglang",
    ),
    "c": Part(
        "r1-32b on vLLM",
        "vllm",
        360,
        (*RANDOM, ONE, "model=r1-32b", "opt=none,fp8", "load=closed-64,short-256"),
        study="r1-vllm",
    ),
    "d": Part(
        "SmolLM2 with its own weights and real questions",
        "vllm",
        110,
        (
            *("model=smollm2-135m", "model.dtype=bfloat16", ONE),
            *("dataset=gsm8k-file,arithmetic", "dataset.prompt=plain"),
            *("load=closed", "load.concurrency=16", "limit=256", "max_tokens=256"),
        ),
    ),
    "f": Part(
        "four API servers",
        "vllm",
        290,
        (
            *(*RANDOM, ONE, "model=r1-7b", "opt=none,fp8,awq,kv-fp8", "load=closed-256"),
            *("+engine.args.api-server-count=4", "load.processes=4"),
        ),
    ),
    "g": Part(
        "what usage on every chunk costs at 256 streams",
        "vllm",
        120,
        (*RANDOM, ONE, "model=r1-7b", "opt=none", "load=closed-256", "load.usage=continuous,final"),
    ),
    "o": Part(
        "a reasoning model's accuracy under optimizations, with its own weights",
        "vllm",
        600,
        OWN,
        study="own-vllm",
    ),
    "p": Part("the same on SGLang", "sglang", 600, OWN, study="own-sglang"),
    "m": Part(
        "tensor parallelism: 7B to 70B over the GPUs there are",
        "vllm",
        540,
        (
            *(*RANDOM, "model=r1-7b,r1-32b,r1-70b", "opt=none,fp8", "tensor_parallel_size=auto,1,2"),
            "load=closed-64",
        ),
        study="r1-vllm",
        gpus=2,
    ),
    "q": Part(
        "tensor parallelism: 7B to 70B on up to four GPUs",
        "vllm",
        1200,
        (
            *(*RANDOM, "model=r1-7b,r1-32b,r1-70b", "opt=none,fp8", "tensor_parallel_size=auto,1,2,4"),
            "load=closed-64",
        ),
        study="tp-vllm",
        gpus=4,
    ),
    "t": Part(
        "tensor parallelism on SGLang",
        "sglang",
        300,
        (*RANDOM, "model=r1-7b", "opt=none", "tensor_parallel_size=2,4", "load=closed-64"),
        study="tp-sglang",
        gpus=4,
    ),
    "k": Part(
        "two engines on two GPUs each, long enough to kill the worker of one under load",
        "vllm",
        300,
        (
            *(*RANDOM[:-2], "repeats=6", RANDOM[-1], "model=r1-7b", "opt=none,fp8"),
            *("tensor_parallel_size=2", "load=closed-64,closed-256"),
        ),
        study="kill",
        gpus=4,
    ),
    "s": Part(
        "switches between two 7B deployments, plain and prepared",
        "vllm",
        480,
        (*ONE_7B, "max_tokens=512"),
        module="benchmarks.start",
        options=("--engine", "vllm", "--times", "5", "--logs", "OUT/s", "--other", "opt=fp8"),
    ),
    "w": Part(
        "runs that alternate on engines that sleep: 36 measurements in three blocks",
        "vllm",
        900,
        (
            *(*ONE_7B, "max_tokens=256", "limit=192", f"{FIVE},awq", "load=closed-64,gamma-16", "runs=3"),
            "engine.sleep=on",
        ),
        study="turns",
    ),
    "x": Part(
        "efficiency: an engine per cell, and a sweep",
        "vllm",
        310,
        (*ONE_7B, "max_tokens=256"),
        module="benchmarks.efficiency",
        options=("--way", "engine-per-cell", "--way", "sweep", *EFFICIENCY, "--out", "OUT/x"),
    ),
    "y": Part(
        "efficiency: vllm bench sweep serve",
        "vllm",
        300,
        (*ONE_7B, "max_tokens=256"),
        module="benchmarks.efficiency",
        options=("--way", "vllm-bench-sweep", *EFFICIENCY, "--out", "OUT/y"),
    ),
}


def study_of(name: str) -> str:
    return PARTS[name].study or f"part-{name}"


def command(name: str, out: Path, python: str, where: Where, more: Sequence[str] = ()) -> list[str]:
    """The part's command line; ``more`` are further overrides, which win."""
    part = PARTS[name]
    words = list(part.overrides)
    if part.module == SWEEP:
        words = [*COMMON, f"study_name={study_of(name)}", f"results_dir={out / 'results'}", *words]
    if part.module != "benchmarks.start":
        words.append(f"engine={part.engine}")
    words += [f"engine.python={python}"] if python and where != "simulated" else []
    if where == "gpus":
        words += [*ON_HOST[part.engine], "hardware=auto"]
    else:
        words = _rehearsed(part, words) if where == "cpu" else _simulated(part, words)
    options = [word.replace("OUT", str(out)) for word in part.options]
    if where == "cpu":
        options = [SMALL_OPTIONS.get(word, word) for word in options]
    sweep = ["--config-dir", str(CONF), "-m"] if part.module == SWEEP else []
    return [sys.executable, "-m", part.module, *options, *sweep, *words, *more]


def _simulated(part: Part, words: Sequence[str]) -> list[str]:
    """The same on a simulated engine, ten times as fast as the clock, on as many declared GPUs."""
    engine = ("engine=simulated", "+engine.args.speed=10", f"+engine.args.start-seconds={SIMULATED_START_S}")
    kept = [word for word in words if word != f"engine={part.engine}"]
    return [*kept, *engine, "hardware=h100", f"hardware.gpus_per_node={part.gpus}"]


def _rehearsed(part: Part, words: Sequence[str]) -> list[str]:
    """The same with a small model, few requests, and without what the CPU's engines lack."""
    made = ["hardware=cpu"]
    for key, value in (word.split("=", 1) for word in words if "api-server-count" not in word):
        if key == "load":
            named = [SMALL_LOAD.get(one, "tiny-4") for one in value.split(",")]
            value = ",".join(dict.fromkeys(named))
        if key == "tensor_parallel_size":
            value = "1"
        small = key == "model" and value.startswith(SMALL["model"])
        made.append(f"{key}={value if small else SMALL.get(key, value)}")
    if "weights=dummy" in words:  # as the models that it stands in for
        made += ["+model.reasoning_parser.vllm=deepseek_r1", "+model.reasoning_parser.sglang=deepseek-r1"]
    return made
