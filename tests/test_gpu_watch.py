"""The watcher of GPUs (`benchmarks.gpu.watch`), with a stand-in for NVML and real processes for engines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmarks.gpu.watch import BUSY_LOOKS, Watch, engine_of
from tests.support.waiting import until

GUARD = """import os, subprocess, sys, time
given = os.environ["CUDA_VISIBLE_DEVICES"]
bare = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=bare)
print(child.pid, flush=True)
child.wait()
"""
WORKER = """import os, subprocess, sys
subprocess.run([sys.executable, os.environ["GUARD"], "--served-model-name", sys.argv[1]])
"""


class Gpus:
    """NVML as far as it is asked: ``on`` are the processes on each GPU, ``busy`` how many per cent it is."""

    def __init__(self, on: Mapping[int, int], busy: dict[int, int]) -> None:
        self.on, self.busy = on, busy

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return len(self.busy)

    def nvmlDeviceGetHandleByIndex(self, gpu: int) -> int:
        return gpu

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=self.on[gpu])] if gpu in self.on else []

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=self.busy[gpu])


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[dict[str, tuple[int, int]]]:
    """By the GPUs that it was given, an engine's worker and a process of it whose environment is not its own
    any more."""
    guard = tmp_path / "guard.py"
    guard.write_text(GUARD)
    started: list[subprocess.Popen[str]] = []
    below: list[psutil.Process] = []
    found = {}
    try:
        for given in ("0,1", "2"):
            told = {"CUDA_VISIBLE_DEVICES": given, "GUARD": str(guard)}
            words = [sys.executable, "-c", WORKER, f"on {given}"]
            worker = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=told)
            started.append(worker)
            assert worker.stdout is not None
            found[given] = worker.pid, int(worker.stdout.readline())
            below += psutil.Process(worker.pid).children(recursive=True)
        yield found
    finally:
        for one in below:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        for worker in started:
            worker.kill()
            worker.communicate()


def test_what_an_engine_was_given_is_read_from_the_process_that_still_says_it(
    engines: dict[str, tuple[int, int]],
) -> None:
    seen = engine_of(engines["0,1"][1])
    assert seen is not None
    assert (seen.label, seen.given, seen.worker) == ("on 0,1", frozenset({0, 1}), engines["0,1"][0])


def test_a_worker_is_killed_when_its_engine_has_kept_all_its_gpus_busy_and_not_before(
    engines: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    (tmp_path / "study" / "cells").mkdir(parents=True)
    nvml = Gpus({0: engines["0,1"][1], 1: engines["0,1"][1], 2: engines["2"][1]}, {0: 99, 1: 20, 2: 0})
    watch = Watch(nvml, tmp_path / "out.jsonl", tmp_path / "study")

    def looks(times: int) -> None:
        for _ in range(times):
            watch.look()

    worker = psutil.Process(engines["0,1"][0])
    looks(2 * BUSY_LOOKS)  # no cell is finished, and one of its GPUs idles
    (tmp_path / "study" / "cells" / "one.parquet").touch()
    looks(BUSY_LOOKS)
    nvml.busy[1] = 95
    looks(BUSY_LOOKS - 1)
    assert worker.status() != psutil.STATUS_ZOMBIE
    looks(1)
    until(lambda: worker.status() == psutil.STATUS_ZOMBIE, 5)
    nvml.on = {0: engines["2"][1]}
    looks(1)
    watch.end()
    said = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    struck = [(line["killed_worker_of"], line["gpus"]) for line in said if "killed_worker_of" in line]
    assert struck == [("on 0,1", [0, 1])]
    assert [line["reused_by"] for line in said if "reused_by" in line] == [["on 2"]]
    assert said[-1]["wrong"] == ["GPU 0 was not given to on 2, which has [2]"]
