"""Who is on which GPU, looked at twice a second; and, once, the end of a worker in the middle of a sweep.

    python -m benchmarks.gpu.watch OUT.jsonl [--kill STUDY_DIR]

Writes a line whenever that changes and, when it is told to end (SIGTERM), one with what came of it: how many
looks, and each at which two engines were on one GPU or an engine was on one that it had not been given. NVML
tells the processes on a GPU; the engine is the guard above them, ``CUDA_VISIBLE_DEVICES`` what it was given.

``--kill``: once that study has a finished cell, two engines are there, and one of them has kept all its GPUs
busy for some seconds, as under a load, the worker of that one gets SIGKILL; when its GPUs are next used, and
by whom, is a line too.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

EVERY_S = 0.5
BUSY_PERCENT, BUSY_LOOKS = 90, 10  # that busy at so many looks in a row: no start keeps a GPU so


@dataclass(frozen=True)
class Engine:
    """``pid`` is its guard's, or its session's where it has none; ``given`` the GPUs that it may use, None
    where it was not told; ``worker`` the process that started it."""

    pid: int
    worker: int
    label: str
    given: frozenset[int] | None


def engine_of(pid: int) -> Engine | None:
    """The engine that a process belongs to; None when the process has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.parents()]
        guards = [one for one in family if any(word.endswith("guard.py") for word in one.cmdline())]
        if not guards:
            return Engine(os.getsid(pid), 0, " ".join(process.cmdline())[:80], given_to(family[:1]))
        root = guards[-1]
        worker = root.parent()
        given = given_to(family[: family.index(root) + 1])
        return Engine(root.pid, worker.pid if worker else 0, label_of(root.cmdline()), given)
    except (psutil.Error, OSError):
        return None


def label_of(command: Sequence[str]) -> str:
    """The model and what tells its engines apart, off the engine's command line."""
    flags = (
        "--served-model-name",
        "--tensor-parallel-size",
        "--tp-size",
        "--quantization",
        "--kv-cache-dtype",
    )
    values = [command[command.index(flag) + 1] for flag in flags if flag in command]
    return " ".join(values)


def given_to(family: Sequence[psutil.Process]) -> frozenset[int] | None:
    """What the nearest of a process and those above it was told. A process that has changed its title, as
    vLLM's do, may have written over its own environment."""
    told = (one.environ().get("CUDA_VISIBLE_DEVICES") for one in family)
    return next((found for visible in told if (found := _numbers(visible)) is not None), None)


def _numbers(visible: str | None) -> frozenset[int] | None:
    if visible is None or not all(one.strip().isdigit() for one in visible.split(",")):
        return None
    return frozenset(int(one) for one in visible.split(","))


def wrong(on: Mapping[int, Sequence[Engine]]) -> list[str]:
    """What must not be, given the engines that are on each GPU."""
    found = []
    for gpu, engines in on.items():
        if len({one.pid for one in engines}) > 1:
            found.append(f"GPU {gpu} is shared: {', '.join(sorted({one.label for one in engines}))}")
        for one in engines:
            if one.given is not None and gpu not in one.given:
                found.append(f"GPU {gpu} was not given to {one.label}, which has {sorted(one.given)}")
    return found


class Watch:
    """``looks`` at the GPUs; ``used`` how many of them saw an engine; ``strangers`` the processes on a GPU
    that are nobody's here."""

    def __init__(self, nvml: Any, out: Path, study: Path | None) -> None:
        nvml.nvmlInit()
        self._nvml, self._out, self._study = nvml, out, study
        self._gpus = [nvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in range(nvml.nvmlDeviceGetCount())]
        self._known: dict[int, Engine | None] = {}
        self._shown: object = None
        self._busy = [0] * len(self._gpus)  # looks in a row
        self._killed: Engine | None = None
        self._reused = False
        self.looks = self.used = self.strangers = self.together = 0
        self.wrong: list[str] = []

    def look(self) -> None:
        on: dict[int, list[Engine]] = {}
        for gpu, handle in enumerate(self._gpus):
            for running in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if running.pid not in self._known or not psutil.pid_exists(running.pid):
                    self._known[running.pid] = engine_of(running.pid)
                engine = self._known[running.pid]
                self.strangers += engine is None
                if engine is not None and engine not in on.setdefault(gpu, []):
                    on[gpu].append(engine)
        self.looks += 1
        self.used += bool(on)
        self.together += len({one.pid for engines in on.values() for one in engines}) > 1
        if found := wrong(on):
            self.wrong += found
            self._say({"wrong": found})
        shown = {gpu: [[one.pid, one.label, sorted(one.given or ())] for one in on[gpu]] for gpu in on}
        if shown != self._shown:
            self._shown = shown
            self._say({"on": shown})
        if self._study is not None:
            self._strike(on)

    def _strike(self, on: Mapping[int, Sequence[Engine]]) -> None:
        engines = {one.pid: one for listed in on.values() for one in listed}
        if self._killed is not None:
            heirs = [
                one.label
                for gpu in self._killed.given or ()
                for one in on.get(gpu, ())
                if one.pid != self._killed.pid
            ]
            if heirs and not self._reused:
                self._reused = True
                self._say({"reused_by": heirs})
            return
        assert self._study is not None
        for gpu, handle in enumerate(self._gpus):
            busy = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu >= BUSY_PERCENT
            self._busy[gpu] = self._busy[gpu] + 1 if busy else 0
        if len(engines) < 2 or not list((self._study / "cells").glob("*.parquet")):
            return
        for victim in engines.values():
            under_load = min((self._busy[gpu] for gpu in victim.given or ()), default=0) >= BUSY_LOOKS
            if under_load and victim.worker:
                psutil.Process(victim.worker).send_signal(signal.SIGKILL)
                self._killed = victim
                self._say({"killed_worker_of": victim.label, "gpus": sorted(victim.given or ())})
                return

    def end(self) -> None:
        self._say(
            {
                "looks": self.looks,
                "with an engine": self.used,
                "with two or more engines": self.together,
                "strangers": self.strangers,
                "wrong": self.wrong,
                "killed": None if self._killed is None else self._killed.label,
                "reused": self._reused,
            }
        )

    def _say(self, line: Mapping[str, Any]) -> None:
        with self._out.open("a") as file:
            file.write(json.dumps({"at": round(time.time(), 2), **line}) + "\n")


def main() -> None:
    import pynvml

    parser = argparse.ArgumentParser(description="Look who is on which GPU.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--kill", type=Path, default=None, metavar="STUDY_DIR")
    chosen = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    watch = Watch(pynvml, chosen.out, chosen.kill)
    while not ended.wait(EVERY_S):
        watch.look()
    watch.end()


if __name__ == "__main__":
    main()
