"""What others take of the CPUs that an engine may use, and how long its processes wait for one.

Of the time of those CPUs, what was neither idle nor used by ours nor kept by the hypervisor was taken by
others. So a process that began and ended between two looks counts, and so does one of another container.

Ours are the engine's processes; this process with all below it (the load clients) and above it (the raylet,
and the driver that started it); what the driver started beside the raylet (the tracker), and Ray's own
services. Everything else is others': another slot's engine and its clients, an engine that is being prepared,
other tasks of the same Ray.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psutil

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
LOOK_ROUND_EVERY = 10  # looks; finding new processes reads the whole machine's table
# Reading each thread's file takes about 10 us, and an engine on eight GPUs has over a thousand threads.
MAX_WAIT_READING_SHARE = 0.02
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MIN_TICKS = 10
GUARD = "guard.py"  # the first process of an engine's tree, whoever's: `orchestrator.engines.guard`
SERVICES = (  # by their programs, and two by the titles that they give themselves
    *("/ray/core/src/ray/", "/ray/dashboard/", "/ray/_private/", "/ray/autoscaler/_private/"),
    *("ray::DashboardAgent", "ray::RuntimeEnvAgent"),
)


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Of the CPUs that are looked at, seconds since boot."""

    idle_s: float
    steal_s: float


class Neighbours:
    """Looks at the machine around an engine, whose root process is ``pid``.

    ``cpus`` are the numbers of the CPUs that the engine's root may use.
    """

    def __init__(self, pid: int) -> None:
        self.cpus = _affinity(pid)
        self._engine = pid
        self._looks = 0
        self._at = self._pressure_at = self._wait_at = 0.0
        self._cpu_time: CpuTime | None = None
        self._family: set[psutil.Process] = set()  # the engine's
        self._ours: dict[psutil.Process, float] = {}  # its share that lies on the engine's CPUs
        self._used: dict[psutil.Process, float] = {}
        self._pressure: float | None = None
        self._waits: dict[tuple[int, int], float] = {}
        self._wait_reading_s = 0.0

    def read(self) -> dict[str, float | None]:
        """The `records.Sample` fields ``others_cpus``, ``steal_cpus``, ``cpu_pressure`` and
        ``engine_cpu_wait``, over the time since the last look. None at the first look, and where the kernel
        does not tell. One look's ``others_cpus`` may be some hundredths off, and below 0: the kernel counts
        in ticks, and over fewer than ten of them nothing is told. Over some seconds they even out."""
        if self._looks % LOOK_ROUND_EVERY == 0:
            self._look_round()
        self._looks += 1
        return self._others() | {"cpu_pressure": self._pressed(), "engine_cpu_wait": self._waited()}

    def _others(self) -> dict[str, float | None]:
        if self._cpu_time is not None and perf_counter() - self._at < MIN_TICKS / TICKS_PER_S:
            return {"others_cpus": None, "steal_cpus": None}
        now, cpu_time, grown = perf_counter(), cpu_time_of(self.cpus), 0.0
        used: dict[psutil.Process, float] = {}
        for process, share in self._ours.items():
            with suppress(psutil.Error):
                spent = process.cpu_times()
                used[process] = (spent.user + spent.system) * share
                grown += used[process] - self._used.get(process, 0.0)
        before, elapsed = self._cpu_time, now - self._at
        self._used |= used
        self._at, self._cpu_time = now, cpu_time
        if before is None or cpu_time is None or elapsed <= 0:
            return {"others_cpus": None, "steal_cpus": None}
        steal = (cpu_time.steal_s - before.steal_s) / elapsed
        idle = (cpu_time.idle_s - before.idle_s) / elapsed
        return {"others_cpus": len(self.cpus) - idle - steal - grown / elapsed, "steal_cpus": steal}

    def _look_round(self) -> None:
        """Finds ours. One that is new since the first look began after it, and has all its time counted."""
        self._family = family(self._engine)
        self._ours = {one: _share(one.pid, self.cpus) for one in ours_of(self._engine)}

    def _pressed(self) -> float | None:
        now, total = perf_counter(), pressure_s()
        before, elapsed = self._pressure, now - self._pressure_at
        self._pressure, self._pressure_at = total, now
        if before is None or total is None or elapsed <= 0:
            return None
        return max(0.0, min(1.0, (total - before) / elapsed))

    def _waited(self) -> float | None:
        """Threads of the engine that waited for a CPU, on average. Read so seldom that the reading itself
        takes no more than its share of a CPU."""
        began = perf_counter()
        if self._waits and began - self._wait_at < self._wait_reading_s / MAX_WAIT_READING_SHARE:
            return None
        waits = dict(_waits(self._family))
        grown = sum(wait - self._waits.get(thread, 0.0) for thread, wait in waits.items())
        first, elapsed = not self._waits, began - self._wait_at
        self._waits, self._wait_at, self._wait_reading_s = waits, began, perf_counter() - began
        return None if first or not waits or elapsed <= 0 else max(0.0, grown / elapsed)


def cpu_time_of(cpus: frozenset[int]) -> CpuTime | None:
    """What ``/proc/stat`` says of these CPUs; None where it is not there or lacks one of them."""
    idle = steal = 0
    found = 0
    with suppress(OSError, ValueError, IndexError):
        for line in (PROC / "stat").read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
                idle += int(fields[3]) + int(fields[4])  # idle, and idle with a disk request under way
                steal += int(fields[7])
                found += 1
    if not cpus or found < len(cpus):
        return None
    return CpuTime(idle / TICKS_PER_S, steal / TICKS_PER_S)


def pressure_s() -> float | None:
    """For how long, since boot, some task of the machine was ready and waited for a CPU (the ``some`` line of
    ``/proc/pressure/cpu``); None on a kernel without it."""
    with suppress(OSError, ValueError, IndexError):
        some = (PROC / "pressure" / "cpu").read_text().split("\n")[0]
        return int(some.rsplit("total=", 1)[1]) / 1e6
    return None


def ours_of(engine: int) -> set[psutil.Process]:
    """The processes that are ours, as this module says."""
    ours: set[psutil.Process] = set()
    with suppress(psutil.Error):
        ours |= family(engine)
        own = psutil.Process()
        above = {one for one in own.parents() if one.pid > 1}
        ours |= {own, *above}
        for child in own.children():
            if GUARD not in " ".join(_words(child)):
                ours |= family(child.pid)
        for one in above:
            children = set(one.children())
            is_driver = any(_words(child)[0].endswith("/raylet") for child in children & above)
            for beside in children - above:
                if is_driver or _is_service(beside):
                    ours |= family(beside.pid)
    return ours


def family(root: int) -> set[psutil.Process]:
    """A process and all below it; empty once it is gone."""
    with suppress(psutil.Error):
        process = psutil.Process(root)
        return {process, *process.children(recursive=True)}
    return set()


def _is_service(process: psutil.Process) -> bool:
    """Whether it is one of Ray's own: told by where its program lies, in its first words."""
    return any(place in word for word in _words(process)[:4] for place in SERVICES)


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline() or [""]
    return [""]


def _waits(processes: Iterable[psutil.Process]) -> Iterator[tuple[tuple[int, int], float]]:
    """Each thread, by process and thread id, and how long it has waited for a CPU so far, s."""
    for process in processes:
        with suppress(OSError):
            for thread in (PROC / str(process.pid) / "task").iterdir():
                with suppress(OSError, ValueError):
                    _, waited_ns, _ = (thread / "schedstat").read_text().split()
                    yield (process.pid, int(thread.name)), int(waited_ns) / 1e9


def _affinity(pid: int) -> frozenset[int]:
    with suppress(OSError, AttributeError):
        return frozenset(os.sched_getaffinity(pid))
    return frozenset()


def _share(pid: int, cpus: frozenset[int]) -> float:
    """How much of a process's time lies on ``cpus``: by the CPUs that it may use, as each is as likely."""
    own = _affinity(pid)
    return len(own & cpus) / len(own) if own else 0.0


def cpu_limit(pid: int) -> float | None:
    """How many CPUs a process may use: those of its affinity, or its control group's quota if that is less.
    None where neither can be read."""
    limits = [float(len(_affinity(pid)))] if _affinity(pid) else []
    with suppress(OSError, ValueError):
        for line in (PROC / str(pid) / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" and (quota := _quota(CGROUPS / path.strip("/") / "cpu.max")):
                limits.append(quota)
    return min(limits, default=None)


def _quota(file: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota, period = file.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    return None
