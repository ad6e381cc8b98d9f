"""What a command costs: CPU and memory of all its processes, seen from outside, the same for every client."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import psutil

_PERIOD_S = 0.2


@dataclass(frozen=True)
class Cost:
    """``samples``: (``perf_counter`` time, CPU seconds of the whole tree until then); the last is its end."""

    samples: tuple[tuple[float, float], ...]
    peak_bytes: int
    status: int

    def cpu_s(self, start_s: float, end_s: float | None = None) -> float:
        """CPU seconds from one ``perf_counter`` time to another, None: to the command's end."""
        end = self.samples[-1][1] if end_s is None else self._until(end_s)
        return end - self._until(start_s)

    def _until(self, t: float) -> float:
        i = bisect_left(self.samples, (t, 0.0))
        if i == 0 or i == len(self.samples):
            return self.samples[min(i, len(self.samples) - 1)][1]
        (t0, c0), (t1, c1) = self.samples[i - 1], self.samples[i]
        return c0 + (c1 - c0) * (t - t0) / (t1 - t0)


def placed(cores: Sequence[int] | None, first: bool) -> list[str]:
    """What to put before a command so that it runs on ``cores`` alone, unless None, and ``first``: before all
    that is not real-time, which root alone is let ask for."""
    pin = [] if cores is None else ["taskset", "-c", ",".join(map(str, cores))]
    return pin + ["chrt", "--rr", "1"] * first


def run(
    command: Sequence[str], *, cores: Sequence[int] | None, first: bool, env: Mapping[str, str], log: Path
) -> Cost:
    """Run a command to its end, where `placed` says."""
    before = _reaped_s()
    peak, samples = 0, [(perf_counter(), 0.0)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*placed(cores, first), *command], env={**os.environ, **env}, stdout=out, stderr=out
        )
        try:
            while process.poll() is None:
                cpu_s, rss = _tree(process.pid)
                peak = max(peak, rss)
                samples.append((perf_counter(), max(cpu_s, samples[-1][1])))
                sleep(_PERIOD_S)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    samples.append((perf_counter(), _reaped_s() - before))
    return Cost(tuple(samples), peak, process.returncode)


def _tree(pid: int) -> tuple[float, int]:
    """(CPU seconds with those of children that have ended, resident bytes) of a process and its children."""
    cpu_s, rss = 0.0, 0
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        for each in [top, *top.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = each.cpu_times()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                rss += each.memory_info().rss
    return cpu_s, rss


def _reaped_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
