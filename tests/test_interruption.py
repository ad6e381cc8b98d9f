"""Signals to a sweep, as terminals, ``timeout`` and batch systems send them: to its whole process group."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from orchestrator import interruption
from orchestrator import sweep as sweep_command
from orchestrator.store.read import read_cells
from tests.engines.fake import all_gone, is_alive, tree
from tests.support.cli import ROOT, environment
from tests.support.monkey import describe

GONE_S = 20.0
LONG = (
    *("-m", "engine=simulated", "model=r1-7b", "hardware=h200", "tracker=none", "engine.args.speed=20"),
    *("max_tokens=16,8000", "limit=64", "load.concurrency=1", "ray.dashboard=false"),
)


@contextmanager
def sweep_on(descriptor: int, results: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sweep of a short and a long cell in a session of its own; whatever is left is killed after."""

    def take_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may have ignored it
        if os.isatty(1):
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.sweep", *LONG, f"results_dir={results}"],
        cwd=ROOT,
        env=environment(),
        stdin=descriptor,
        stdout=descriptor,
        stderr=descriptor,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(descriptor)
    try:
        yield process
    finally:
        if process.poll() is None:
            for one in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    one.kill()
        process.kill()
        process.wait()


def read_until(descriptor: int, word: bytes, timeout_s: float = 120.0) -> bytes:
    said, deadline = b"", time.monotonic() + timeout_s
    while word not in said:
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert readable, said.decode()
        chunk = os.read(descriptor, 65536)
        assert chunk, said.decode()
        said += chunk
    return said


def rest(descriptor: int) -> str:
    said = b""
    while chunk := os.read(descriptor, 65536):
        said += chunk
    return said.decode()


def ends_with_130(process: subprocess.Popen[bytes], within_s: float) -> None:
    assert process.wait(timeout=within_s) == 130


@pytest.mark.ray
@pytest.mark.alone
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("number", "again_s"), [(signal.SIGTERM, 0.05), (signal.SIGINT, 1.2)])
def test_a_signal_to_the_whole_group_ends_a_sweep_in_order(
    tmp_path: Path, number: signal.Signals, again_s: float
) -> None:
    """And a second one breaks nothing: at once, as ``timeout`` sends it, or from who cannot wait."""
    reading, writing = os.pipe()
    with sweep_on(writing, tmp_path) as process:
        read_until(reading, b"[1/2] done")
        family = tree(process.pid)[1:]
        assert len(family) > 5
        os.killpg(process.pid, number)
        time.sleep(again_s)
        os.killpg(process.pid, number)
        ends_with_130(process, 30)
        said = rest(reading)
        assert "interrupted: what was finished is stored" in said
        assert "Traceback" not in said
        assert "GCS" not in said
        assert all_gone(family, GONE_S)
    assert [row["status"] for row in read_cells(tmp_path / "default").to_pylist()] == ["done"]


@pytest.mark.ray
@pytest.mark.alone
@pytest.mark.timeout(240)
def test_a_closed_terminal_ends_a_sweep_in_order(tmp_path: Path) -> None:
    master, slave = os.openpty()
    with sweep_on(slave, tmp_path) as process:
        read_until(master, b"Plan of study")
        while not list((tmp_path / "default" / "cells").glob("[!.]*.parquet")):
            read_until(master, b"\n")
        family = tree(process.pid)[1:]
        os.close(master)
        ends_with_130(process, 30)
        assert all_gone(family, GONE_S)
    assert [row["status"] for row in read_cells(tmp_path / "default").to_pylist()] == ["done"]


@pytest.mark.ray
@pytest.mark.alone
@pytest.mark.timeout(240)
def test_a_killed_driver_leaves_nothing_of_its_ray_and_its_engines(tmp_path: Path) -> None:
    """Also not the raylet's agents, which would go on for a minute."""
    reading, writing = os.pipe()
    with sweep_on(writing, tmp_path) as process:
        read_until(reading, b"[1/2] done")
        family = tree(process.pid)[1:]
        process.kill()
        assert all_gone(family, GONE_S), describe(map(psutil.Process, filter(is_alive, family)))


def run(body: str) -> subprocess.CompletedProcess[str]:
    heard = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # whoever started the tests may have ignored it
    code = f"import os, signal, sys\nfrom orchestrator import interruption\n{heard}\n{body}"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_signal_interrupts_and_later_ones_leave_the_tidying_alone(name: str) -> None:
    done = run(f"""
interruption.install()
try:
    os.kill(os.getpid(), signal.{name})
    print("not reached")
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.{name})
    print("tidied")
""")
    assert (done.stdout, done.stderr) == ("tidied\n", "")


def test_what_must_not_stop_half_way_is_interrupted_at_its_end() -> None:
    done = run("""
interruption.install()
try:
    with interruption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        print("whole")
    print("not reached")
except KeyboardInterrupt:
    print("interrupted")
""")
    assert (done.stdout, done.stderr) == ("whole\ninterrupted\n", "")


def test_a_library_that_takes_a_signal_gives_it_back() -> None:
    done = run("""
interruption.install()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
interruption.retake()
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print("interrupted")
""")
    assert done.stdout == "interrupted\n"


def test_a_sweep_under_nohup_outlives_its_terminal() -> None:
    done = run("""
signal.signal(signal.SIGHUP, signal.SIG_IGN)
interruption.install()
os.kill(os.getpid(), signal.SIGHUP)
print("goes on")
""")
    assert done.stdout == "goes on\n"


def test_what_is_written_after_the_terminal_was_closed_and_before_its_signal_is_no_error() -> None:
    done = run("""
master, slave = os.openpty()
said = os.dup(1)
os.dup2(slave, 1)
os.dup2(slave, 2)
sys.stdout, sys.stderr = open(1, 'w', closefd=False), open(2, 'w', closefd=False)
interruption.install()
print("seen", flush=True)
os.write(said, os.read(master, 99).replace(b'\\r', b''))
os.close(master)
print("lost", flush=True)
print("lost", file=sys.stderr)
os.write(said, b'goes on')
""")
    assert (done.stdout, done.returncode) == ("seen\ngoes on", 0)


def test_a_signal_that_ray_takes_while_it_starts_is_an_interruption_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def taken_by_ray() -> None:
        raise SystemExit(int(signal.SIGTERM))

    monkeypatch.setattr(sweep_command, "_compose", taken_by_ray)
    monkeypatch.setattr(interruption, "install", lambda: None)
    assert sweep_command.run([]) == 130
    assert "interrupted" in capsys.readouterr().err
