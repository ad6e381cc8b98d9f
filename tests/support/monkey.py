"""A seeded monkey that kills the processes of a sweep on a Ray cluster of this machine."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from tests.support.children import words

MARK = "ORCHESTRATOR_TEST_MARK"  # in the environment of every process that a disturbed sweep consists of
KINDS = ("engine", "worker", "raylet", "driver")
PAUSE_S = 1.5


@dataclass(frozen=True)
class Due:
    """A kill to come: so many seconds after that many cells are done, or once two more are."""

    done: int
    after_s: float
    kind: str


@dataclass(frozen=True)
class Kill:
    """A kill that was: the process lived when it was chosen, and ended by SIGKILL."""

    at_s: float
    done: int
    kind: str
    pid: int
    title: str

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.done:3} done  {self.kind:6}  {self.pid:7}  {self.title}"


def draw_kills(seed: int, least: Mapping[str, int], kills: int, done_before: int) -> deque[Due]:
    """``kills`` in all, of each kind as many as ``least`` says and more, spread over the time until
    ``done_before`` cells are done."""
    draw = random.Random(seed)
    kinds = [kind for kind in KINDS for _ in range(least[kind])]
    kinds += draw.choices(KINDS, k=kills - len(kinds))
    draw.shuffle(kinds)
    moments = sorted(draw.randrange(done_before) for _ in kinds)
    pauses = [draw.uniform(0, PAUSE_S) for _ in kinds]
    return deque(map(Due, moments, pauses, kinds))


class Monkey:
    """Kills what is due; each raylet that it kills has a successor at once.

    ``join`` adds a node to ``cluster``. ``done`` is how many cells are done by now.
    """

    def __init__(
        self, seed: int, due: deque[Due], cluster: Cluster, join: Callable[[], Any], done: Callable[[], int]
    ) -> None:
        self.kills: list[Kill] = []
        self.due = due
        self._draw = random.Random(seed)
        self._cluster, self._join, self._done = cluster, join, done
        self._began_s = time.monotonic()
        self._not_before_s: float | None = None

    def visit(self, drivers: Sequence[subprocess.Popen[bytes]]) -> None:
        """Kills at most one process, if that is due and there is one of its kind."""
        now_s, done = time.monotonic(), self._done()
        if not self.due or done < self.due[0].done:
            return
        if self._not_before_s is None:
            self._not_before_s = now_s + self.due[0].after_s
        early = now_s < self._not_before_s and done < self.due[0].done + 2
        if early or not self._strike(self.due[0].kind, drivers, done):
            return
        self.due.popleft()
        self._not_before_s = None

    def counted(self) -> Counter[str]:
        return Counter(kill.kind for kill in self.kills)

    def _strike(self, kind: str, drivers: Sequence[subprocess.Popen[bytes]], done: int) -> bool:
        nodes = sorted(self._cluster.worker_nodes, key=lambda node: str(node.node_id))
        raylets = {node.all_processes["raylet"][0].process.pid: node for node in nodes}
        found = {"driver": [one.pid for one in drivers if one.poll() is None], "raylet": list(raylets)}
        victims = found[kind] if kind in found else [one.pid for one in marked() if kind_of(one) == kind]
        if not victims:
            return False
        pid = self._draw.choice(victims)
        title = _kill(pid)
        if title is None:
            return False
        self.kills.append(Kill(time.monotonic() - self._began_s, done, kind, pid, title))
        if pid in raylets:
            self._cluster.remove_node(raylets[pid], allow_graceful=False)
            self._join()
        return True


def marked() -> list[psutil.Process]:
    """Every living process that carries this one's mark, without this one."""
    mark = os.environ[MARK]
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.pid != os.getpid() and process.environ().get(MARK) == mark
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def kind_of(process: psutil.Process) -> str | None:
    """What it is in a sweep: engine, guard, worker, load, grader, driver or reaper; None for Ray's own."""
    title = " ".join(words(process))
    signs = {
        "engines/guard.py": "guard",
        "orchestrator.engines.simulated.server": "engine",
        "ray::EngineWorker": "worker",
        "orchestrator.load.client.process": "load",
        "orchestrator.grading.worker": "grader",
        "orchestrator.sweep": "driver",
        "cluster/reaper.py": "reaper",
    }
    return next((kind for sign, kind in signs.items() if sign in title), None)


def describe(processes: Iterable[psutil.Process]) -> list[str]:
    return [f"{process.pid} {' '.join(words(process))[:100]}" for process in processes]


def _kill(pid: int) -> str | None:
    """The title of the process, gone by our hand; None when it was gone already."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        title = " ".join(words(process))[:80].strip()
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return None
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    return title
