from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrator.telemetry import neighbours
from orchestrator.telemetry.neighbours import (
    TICKS_PER_S,
    CpuTime,
    Neighbours,
    cpu_limit,
    cpu_time_of,
    ours_of,
    pressure_s,
)

STAT = """cpu  100 10 50 900 30 5 5 7 0 0
cpu0 50 5 25 400 10 2 2 3 0 0
cpu1 50 5 25 500 20 3 3 4 0 0
intr 1 2 3
"""


@contextmanager
def python(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that says when it is up, and is ended by its number."""
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            for below in psutil.Process(process.pid).children(recursive=True):
                below.kill()
            process.kill()


SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
# Has a child that computes, and is no one's child but init's, so that it is not below the test.
PARENT = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {0!r}]); " + SLEEPS
BUSY = "while True: pass"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(neighbours, "PROC", tmp_path)
    return tmp_path


def test_the_time_of_the_cpus_that_count(proc: Path) -> None:
    (proc / "stat").write_text(STAT)
    assert cpu_time_of(frozenset({0, 1})) == CpuTime(930 / TICKS_PER_S, 7 / TICKS_PER_S)
    assert cpu_time_of(frozenset({1})) == CpuTime(520 / TICKS_PER_S, 4 / TICKS_PER_S)


@pytest.mark.parametrize("text", ["", "cpu0 1 2 3\n", "cpu0 a b c d e f g h\n", "cpu  1 2 3 4 5 6 7 8\n"])
def test_a_kernel_that_does_not_tell_gives_nothing(proc: Path, text: str) -> None:
    (proc / "stat").write_text(text)
    assert cpu_time_of(frozenset({0})) is None
    assert cpu_time_of(frozenset()) is None


def test_pressure_is_read_where_there_is_such_a_file(proc: Path) -> None:
    assert pressure_s() is None
    (proc / "pressure").mkdir()
    (proc / "pressure" / "cpu").write_text(
        "some avg10=8.03 avg60=3.65 avg300=4.56 total=5471439764\nfull x\n"
    )
    assert pressure_s() == pytest.approx(5471.439764)
    (proc / "pressure" / "cpu").write_text("some avg10=8.03\n")
    assert pressure_s() is None


def test_without_the_kernels_files_all_is_unknown(proc: Path) -> None:
    looks = Neighbours(os.getpid())
    for _ in range(2):
        read = looks.read()
        assert read["others_cpus"] is read["steal_cpus"] is None
        assert read["cpu_pressure"] is read["engine_cpu_wait"] is None


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", None), ("150000 100000", 1.5), ("x", None), ("9900000 100000", None)],
)
def test_the_limit_is_the_quota_where_that_is_less(
    proc: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: float | None
) -> None:
    monkeypatch.setattr(neighbours, "CGROUPS", proc / "cgroup")
    mine = proc / str(os.getpid())
    mine.mkdir()
    (mine / "cgroup").write_text("3:cpu:/other\n0::/here\n")
    (proc / "cgroup" / "here").mkdir(parents=True)
    (proc / "cgroup" / "here" / "cpu.max").write_text(quota)
    cpus = float(len(os.sched_getaffinity(0)))
    assert cpu_limit(os.getpid()) == (cpus if expected is None else min(cpus, expected))


def test_ours_are_the_engine_and_what_is_below_and_above_this_process() -> None:
    with python(SLEEPS) as engine, python(PARENT.format(SLEEPS)) as clients:
        ours = {one.pid for one in ours_of(engine.pid)}
        below = {one.pid for one in psutil.Process(clients.pid).children()}
        assert {engine.pid, clients.pid, os.getpid(), os.getppid()} <= ours
        assert below
        assert below <= ours
        assert 1 not in ours


def test_the_tree_of_another_engine_below_this_process_is_not_ours() -> None:
    with python(SLEEPS, "guard.py") as engine, python(PARENT.format(SLEEPS), "guard.py") as prepared:
        ours = {one.pid for one in ours_of(engine.pid)}
        assert engine.pid in ours
        assert prepared.pid not in ours
        assert not {one.pid for one in psutil.Process(prepared.pid).children()} & ours


@pytest.mark.parametrize(
    ("program", "is_ours"),
    [
        ("/x/ray/dashboard/dashboard.py", True),
        ("/x/ray/core/src/ray/gcs/gcs_server", True),
        ("ray::RuntimeEnvAgent", True),
        ("ray::Trainer", False),
        ("/x/agent.py", False),
    ],
)
def test_rays_services_beside_what_is_above_are_ours_and_other_programs_not(
    program: str, is_ours: bool
) -> None:
    """The code runs in a child, so that the service is its sibling."""
    code = "import os, sys; from orchestrator.telemetry.neighbours import ours_of; "
    code += "print(*(one.pid for one in ours_of(os.getpid())))"
    with python(SLEEPS, program) as beside:
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert (str(beside.pid) in told.split()) == is_ours


RAYLET = """
import os, subprocess, sys
other = subprocess.Popen([{python!r}, "-c", "import time; time.sleep(60)"])
print(other.pid, flush=True)
subprocess.run([{python!r}, "-c", {worker!r}], check=True)
other.kill()
"""
DRIVER = """
import os, subprocess, sys
tracker = subprocess.Popen([{python!r}, "-c", "import time; time.sleep(60)"])
print(os.getpid(), tracker.pid, flush=True)
path = os.pathsep.join(one for one in sys.path if one)
words = ["/x/raylet", "-c", {raylet!r}]
subprocess.run(words, executable={python!r}, check=True, env=os.environ | {{"PYTHONPATH": path}})
tracker.kill()
"""


def test_what_the_driver_started_is_ours_and_what_the_raylet_runs_besides_is_not() -> None:
    worker = "import os; from orchestrator.telemetry.neighbours import ours_of; "
    worker += "print(*(one.pid for one in ours_of(os.getpid())))"
    raylet = RAYLET.format(python=sys.executable, worker=worker)
    driver = DRIVER.format(python=sys.executable, raylet=raylet)
    run = subprocess.run([sys.executable, "-c", driver], capture_output=True, text=True, check=True)
    own, other, told = (line.split() for line in run.stdout.splitlines())
    assert set(own) <= set(told)
    assert not set(other) & set(told)


def _watch(cpus: set[int], *, beside: int, seconds: float = 1.5) -> tuple[float, float]:
    """An engine of one computing process, pinned to ``cpus`` with ``beside`` computing neighbours that are
    not ours: CPUs that others took, and threads of the engine that waited, on average."""
    with ExitStack() as stack:
        engine = stack.enter_context(python(PARENT.format(BUSY), "guard.py"))
        others = [stack.enter_context(python(PARENT.format(BUSY), "guard.py")) for _ in range(beside)]
        for root in [engine, *others]:
            for one in neighbours.family(root.pid):
                os.sched_setaffinity(one.pid, cpus)
        looks = Neighbours(engine.pid)
        assert looks.cpus == cpus
        looks.read()
        read = []
        for _ in range(3):
            time.sleep(seconds / 3)
            read.append(looks.read())
        taken = [one["others_cpus"] for one in read]
        waited = [one["engine_cpu_wait"] for one in read]
        known = [one for one in taken if one is not None], [one for one in waited if one is not None]
        assert len(known[0]) == 3
        return sum(known[0]) / 3, sum(known[1]) / len(known[1])


def test_what_two_busy_loops_take_of_one_cpu_is_seen_and_that_the_engine_waited() -> None:
    """Each of the three has a third: others took two thirds of the CPU, and for as long the engine waited.
    What else runs on this machine can only add to it."""
    taken, waited = _watch({min(os.sched_getaffinity(0))}, beside=2)
    assert 0.55 < taken <= 1.05
    assert waited > 0.5


def test_time_of_our_own_is_not_taken_by_others() -> None:
    """The same loops below this process, as load clients are."""
    cpus = {min(os.sched_getaffinity(0))}
    with python(PARENT.format(BUSY), "guard.py") as engine, python(PARENT.format(BUSY)) as clients:
        for root in (engine, clients):
            for one in neighbours.family(root.pid):
                os.sched_setaffinity(one.pid, cpus)
        looks = Neighbours(engine.pid)
        looks.read()
        used = [sum(one.cpu_times()[:2]) for one in _computing(engine, clients)]
        began = time.perf_counter()
        time.sleep(1.0)
        read = looks.read()
        elapsed = time.perf_counter() - began
        ours = sum(sum(one.cpu_times()[:2]) for one in _computing(engine, clients)) - sum(used)
        assert read["others_cpus"] == pytest.approx(1.0 - ours / elapsed, abs=0.12)


def _computing(*roots: subprocess.Popen[str]) -> list[psutil.Process]:
    return [one for root in roots for one in psutil.Process(root.pid).children()]
