from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from orchestrator.telemetry.cpu import EngineCpus

BUSY = "while True: pass"
TREE = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {BUSY!r}])
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[str]]:
    """A process that sleeps and has a child that computes."""
    with subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
        process.kill()


def test_the_busiest_process_below_the_engine_is_told_from_the_others(tree: subprocess.Popen[str]) -> None:
    cpus = EngineCpus(tree.pid)
    assert cpus.read() == (None, None)
    time.sleep(0.5)
    every, busiest = cpus.read()
    assert every is not None
    assert busiest is not None
    assert 0.1 < busiest <= every < 1.2
    assert sum(cpus.seconds.values()) == pytest.approx(0.5 * every, abs=0.15)


def test_an_engine_that_is_gone_uses_nothing(tree: subprocess.Popen[str]) -> None:
    cpus = EngineCpus(tree.pid)
    cpus.read()
    subprocess.run(["pkill", "-KILL", "-P", str(tree.pid)], check=False)
    tree.kill()
    tree.wait()
    cpus.read()
    time.sleep(0.1)
    assert cpus.read() in ((None, None), (0.0, 0.0))  # a zombie that nobody has waited for yet has its times
