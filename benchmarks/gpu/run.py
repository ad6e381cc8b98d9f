"""The measurements of docs/h200.md and docs/h200-multi.md, in order of worth, in one command:

    python -m benchmarks.gpu.run OUT --parts a,m,b+s,x+y --vllm PYTHON --sglang PYTHON

Parts (`parts.py`) run one after another and use the GPUs that there are; parts joined by ``+`` run side by
side, each with a GPU of its own. What a sweep measures goes to ``OUT/results``, what a part printed to
``OUT/PART.log``, and both, packed and cut into pieces, to ``OUT/PART.tar.xz.0`` and on. ``OUT/table.md`` is
written anew after every part: the cells, the switches between deployments, how a sweep's schedule came out.

Beside all of it a watcher (`watch.py`) looks who is on which GPU, and kills a worker of the part ``--kill``.
``--most PART=S`` ends a part as Ctrl-C does, S seconds after it began. ``--rehearse cpu`` runs the same on
this machine's CPU with a small model and a few short requests, ``--rehearse simulated`` only the sweeps, on
declared GPUs.

Time on such a machine is dear: a simulated cell goes first, and a group of which nothing came is the last.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.gpu import outcome, switches, table
from benchmarks.gpu.parts import PARTS, SWEEP, Where, command, study_of
from orchestrator.store.read import read_cells

ROOT = Path(__file__).parents[2]
PIECE_BYTES = 15_000_000
NO_LIMIT: Mapping[str, float] = {}


def pack(name: str, out: Path) -> None:
    """``OUT/PART.tar.xz.N``: the part's study and log, in pieces that a file limit lets through."""
    for old in out.glob(f"{name}.tar.xz.*"):
        old.unlink()
    kept = [f"{name}.log", f"results/{study_of(name)}", name]
    packed = [one for one in kept if (out / one).exists()]
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
    words = [sys.executable, "-m", SWEEP, "model=r1-7b", "weights=dummy", *cell, *where]
    return subprocess.run(words, cwd=ROOT, check=False).returncode == 0


def run(
    groups: Sequence[Sequence[str]],
    out: Path,
    pythons: Mapping[str, str],
    where: Where,
    more: Sequence[str] = (),
    killed_in: str = "",
    most: Mapping[str, float] = NO_LIMIT,
) -> bool:
    """Runs the groups one after another, as long as each has a part that came to something; whether all
    parts had."""
    out.mkdir(parents=True, exist_ok=True)
    whole = True
    with watching(out, killed_in, where):
        for group in groups:
            came = _side_by_side(group, out, pythons, where, more, most)
            results = out / "results"
            report = (table.markdown(results), switches.markdown(results), outcome.markdown(results))
            (out / "table.md").write_text("\n".join(report))
            whole = whole and all(came.values())
            if not any(came.values()):
                print(f"nothing came of {'+'.join(group)}; see its log in {out}", flush=True)
                return False
    return whole


def _side_by_side(
    group: Sequence[str],
    out: Path,
    pythons: Mapping[str, str],
    where: Where,
    more: Sequence[str],
    most: Mapping[str, float],
) -> dict[str, bool]:
    """Whether each part of the group came to something: a cell that is done, or an orderly end."""
    began_s = time.monotonic()
    running = {}
    for gpu, name in enumerate(group):
        part = PARTS[name]
        words = command(name, out, pythons[part.engine], where, more)
        print(f"part {name}: {part.what}\n  {' '.join(words[1:])}", flush=True)
        own = {"CUDA_VISIBLE_DEVICES": str(gpu)} if len(group) > 1 else {}
        with (out / f"{name}.log").open("wb") as log:
            running[name] = subprocess.Popen(
                words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=os.environ | own
            )
    came = {}
    limits = {name: most[name] for name in group if name in most}
    while running:
        for name in [name for name, limit_s in limits.items() if time.monotonic() - began_s > limit_s]:
            print(f"part {name}: ended after {limits.pop(name):.0f} s", flush=True)
            if name in running:
                running[name].send_signal(signal.SIGINT)
        ended = [name for name, process in running.items() if process.poll() is not None]
        for name in ended:
            code = running.pop(name).returncode
            print(f"part {name}: exit code {code} after {time.monotonic() - began_s:.0f} s", flush=True)
            with suppress(OSError, subprocess.SubprocessError):
                pack(name, out)
            study = out / "results" / study_of(name)
            stored = read_cells(study)["status"].to_pylist() if (study / "cells").is_dir() else []
            came[name] = code == 0 or "done" in stored
        time.sleep(0.2)
    return came


@contextmanager
def watching(out: Path, killed_in: str, where: Where) -> Iterator[None]:
    """A watcher of the GPUs while the block lasts; none in a rehearsal, where there are none."""
    if where != "gpus":
        yield
        return
    kill = ["--kill", str(out / "results" / study_of(killed_in))] if killed_in else []
    words = [sys.executable, "-m", "benchmarks.gpu.watch", str(out / "watch.jsonl"), *kill]
    with subprocess.Popen(words, cwd=ROOT) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure on one host's GPUs.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", default="a,b,c,f,g", help="in order; + joins those that run side by side")
    parser.add_argument("--vllm", default="", help="the interpreter that has vLLM")
    parser.add_argument("--sglang", default="", help="the interpreter that has SGLang")
    parser.add_argument("--gsm8k", type=Path, default=None, help="GSM8K's test questions, JSON lines")
    parser.add_argument("--kill", default="", metavar="PART", help="the part in which a worker is killed")
    parser.add_argument("--most", action="append", default=[], metavar="PART=S", help="seconds for a part")
    parser.add_argument("--rehearse", choices=("cpu", "simulated"), help="without GPUs")
    parser.add_argument("overrides", nargs="*", help="further overrides of every part")
    chosen = parser.parse_intermixed_args()
    groups = [group.split("+") for group in chosen.parts.split(",")]
    names = [name for group in groups for name in group]
    if unknown := set(names) - PARTS.keys():
        parser.error(f"--parts: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    if chosen.kill and chosen.kill not in names:
        parser.error(f"--kill: {chosen.kill} is none of --parts")
    if "d" in names:
        if chosen.gsm8k is None:
            parser.error("--gsm8k: part d needs it")
        os.environ["GSM8K_FILE"] = str(chosen.gsm8k.absolute())
    most = {name: float(seconds) for name, _, seconds in (one.partition("=") for one in chosen.most)}
    out = chosen.out.absolute()
    if not preflight(out):
        raise SystemExit("the simulated cell failed: nothing was started on a GPU")
    pythons = {"vllm": chosen.vllm, "sglang": chosen.sglang}
    if not run(groups, out, pythons, chosen.rehearse or "gpus", chosen.overrides, chosen.kill, most):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
