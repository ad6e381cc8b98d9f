"""A study that two drivers fill, whose engines, workers, raylets and drivers are killed at random, and what
is left of it.

The drivers are the real command on a Ray of several nodes with declared GPUs, the engines are simulated; half
of them sleep and take turns, and the monkey does not care whether one is awake.
After each driver that ended before everything was done the same command runs again at once.

A cell may rightly end as failed in one run of the driver: retries are bounded by their cause (a crash is
retried once on a fresh engine), and the monkey may strike one cell twice. Then the next run takes it up.

``CHAOS=full`` takes 120 cells and at least 30 kills, ``CHAOS_SEED`` another seed.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from orchestrator.engines import guard
from orchestrator.store.read import read_cell
from tests.support.cli import ROOT, environment
from tests.support.monkey import KINDS, MARK, Monkey, describe, draw_kills, kind_of, marked
from tests.support.ray_cluster import add_node, ray_cluster

FULL = os.environ.get("CHAOS") == "full"
CELLS, KILLS, LEAST, NODES = (120, 32, 4, 3) if FULL else (24, 8, 2, 2)
SEED = int(os.environ.get("CHAOS_SEED", "0"))
GONE_S = 20.0  # Ray's own daemons, once they are told to end
DRIVERS = 2
RUNS = 3 * DRIVERS * KILLS

pytestmark = [
    pytest.mark.ray,
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.timeout(1800 if FULL else 240),
]

SWEEP = (
    "-m",
    "engine=simulated",
    "model=r1-7b",
    "opt=none,prefix-cache",
    "tensor_parallel_size=1,2",
    "engine.sleep=off,on",  # those that sleep take turns
    f"max_tokens={'500,1000,1500,2000,2500' if FULL else '500'}",
    "runs=3",
    "limit=8",
    "load.concurrency=4",
    "hardware.cpus=1",
    "engine.args.speed=4",
    "engine.args.start-seconds=4",
    "tracker=none",
)
# What a request's answer depends on and says, and what follows from it alone.
REQUEST = (
    "item_id",
    "repeat",
    "prompt_sha256",
    "prompt_tokens",
    "output_tokens",
    "reasoning_tokens",
    "outcome",
    "finish_reason",
    "reasoning_text",
    "response_text",
    "reference",
    "predicted",
    "correct",
)
CELL = (
    "cell_id",
    "deployment_id",
    "overrides",
    "status",
    "items",
    "gpus",
    "requests_total",
    "requests_ok",
    "error_rate",
    "truncated_rate",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "thinking_token_share",
    "simulated",
)


class Ledger(threading.Thread):
    """Notes every version of a cell's file that says done: its inode, its time and its attempt."""

    def __init__(self, study: Path) -> None:
        super().__init__(daemon=True)
        self.versions: dict[str, list[tuple[int, int, int]]] = {}
        self._study = study
        self._seen: dict[str, tuple[int, int]] = {}
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            self._look()

    def close(self) -> None:
        self._over.set()
        self.join()
        self._look()

    def _look(self) -> None:
        for path in (self._study / "cells").glob("[!.]*.parquet"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                version = stat.st_ino, stat.st_mtime_ns
                if self._seen.get(path.stem) == version:
                    continue
                row = read_cell(self._study, path.stem)
                self._seen[path.stem] = version
                if row is not None and row["status"] == "done":
                    self.versions.setdefault(path.stem, []).append((*version, row["attempts"]))


@dataclass
class Aftermath:
    """What is looked at once everything is over. ``left`` are the sweep's processes that were there when the
    last driver had ended, ``left_of_all`` all that were there once the cluster had been shut down."""

    study: Path
    undisturbed: Path
    monkey: Monkey
    ledger: Ledger
    undisturbed_s: float
    codes: list[int] = field(default_factory=list)
    said: str = ""
    left: list[str] = field(default_factory=list)
    left_of_all: list[str] = field(default_factory=list)
    listening: list[int] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)
    shared_memory: set[str] = field(default_factory=set)
    took_s: float = 0.0

    @property
    def summary(self) -> str:
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(self.monkey.counted().items()))
        kills = "\n".join(map(str, self.monkey.kills))
        return (
            f"CHAOS_SEED={SEED}: killed {counted}; exit codes of the driver {self.codes}; "
            f"{self.undisturbed_s:.0f} s undisturbed, {self.took_s:.0f} s disturbed\n{kills}"
        )

    @property
    def story(self) -> str:
        said = self.said if len(self.said) < 20_000 else f"...{self.said[-20_000:]}"
        return f"{self.summary}\n\n{said}"


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    folder = tmp_path_factory.mktemp("chaos")
    shared_before = set(guard._names())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, uuid4().hex)
        try:
            with ray_cluster(0, cpus=0, gpus=0) as cluster:
                for _ in range(NODES):
                    join(cluster)
                began_s = time.monotonic()
                assert run(cluster, folder / "undisturbed").wait() == 0, said(folder / "undisturbed")
                after = disturbed(cluster, folder, time.monotonic() - began_s)
                after.left = describe(one for one in marked() if kind_of(one) is not None)
                after.groups = groups_held(cluster)
        finally:
            left, deadline = marked(), time.monotonic() + GONE_S
            while left and time.monotonic() < deadline:
                time.sleep(0.1)
                left = marked()
            described = describe(left)
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
        after.left_of_all, after.listening = described, listening(after.study)
        after.shared_memory = unused(set(guard._names()) - shared_before)
        print(after.summary)
        yield after


def join(cluster: Cluster) -> Any:
    return add_node(cluster, cpus=2, gpus=2, resources={"accelerator_type:H200": 1})


def run(cluster: Cluster, results: Path) -> subprocess.Popen[bytes]:
    """The same command whenever it is called; what it says is appended to one log."""
    results.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "orchestrator.sweep", *SWEEP]
    command += [f"ray.address={cluster.address}", f"results_dir={results}"]
    with (results / "driver.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT)


def said(results: Path) -> str:
    return (results / "driver.log").read_text()


@dataclass(frozen=True)
class Driver:
    """``hit``: the monkey may have struck it. ``struck``: it, or one that ran when it began, whose losses
    it finds failed and must not try again."""

    process: subprocess.Popen[bytes]
    hit: bool
    struck: bool


def disturbed(cluster: Cluster, folder: Path, undisturbed_s: float) -> Aftermath:
    """Keeps two drivers at the study while the monkey visits it, until both end with everything done."""
    began_s, results = time.monotonic(), folder / "disturbed"
    study = results / "default"
    ledger = Ledger(study)
    ledger.start()
    due = draw_kills(SEED, dict.fromkeys(KINDS, LEAST), KILLS, CELLS * 3 // 4)
    monkey = Monkey(SEED, due, cluster, lambda: join(cluster), lambda: len(ledger.versions))
    after = Aftermath(study, folder / "undisturbed" / "default", monkey, ledger, undisturbed_s)
    drivers: list[Driver | None] = [None] * DRIVERS
    over = [False] * DRIVERS
    try:
        while not all(over):
            for number, driver in enumerate(drivers):
                if over[number]:
                    continue
                if driver is None:
                    assert len(after.codes) < RUNS, after.story
                    hit = bool(due)
                    struck = hit or any(one is not None and one.hit for one in drivers)
                    drivers[number] = Driver(run(cluster, results), hit, struck)
                    continue
                code = driver.process.poll()
                if code is None:
                    continue
                drivers[number], over[number] = None, code == 0
                after.codes.append(code)
                after.said, after.took_s = said(results), time.monotonic() - began_s
                assert code == 0 or driver.struck, f"it was left alone\n{after.story}"
                assert code != 0 or not due, f"it was over too soon\n{after.story}"
            monkey.visit([one.process for one in drivers if one is not None])
            time.sleep(0.02)
    finally:
        ledger.close()
    return after


def listening(study: Path) -> list[int]:
    """The ports that its engines were given and that still listen, though no process of others has them."""
    logs = (study / "logs").glob("*/engine*.log")
    given = {int(port) for log in logs for port in re.findall(r"--port[ =](\d+)", log.read_text())}
    assert given
    others = {process.pid for process in psutil.process_iter()} - {process.pid for process in marked()}
    sockets = [one for one in psutil.net_connections(kind="tcp") if one.status == psutil.CONN_LISTEN]
    return [
        one.laddr.port for one in sockets if one.laddr and one.laddr.port in given and one.pid not in others
    ]


def groups_held(cluster: Cluster) -> set[str]:
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        return {group["state"] for group in placement_group_table().values()}
    finally:
        ray.shutdown()


def unused(names: set[str]) -> set[str]:
    """Those that no process has open: what others on this machine work with is theirs."""
    return names - guard._used([process.pid for process in psutil.process_iter()])


def rows(study: Path, folder: str, columns: tuple[str, ...]) -> dict[str, list[tuple[Any, ...]]]:
    """By cell, in an order that does not depend on when a request ended."""
    found = {}
    for path in (study / folder).glob("*.parquet"):
        table = pq.ParquetFile(path).read().select(columns).to_pylist()
        found[path.stem] = sorted((tuple(row.values()) for row in table), key=repr)
    return found


def test_the_monkey_killed_of_every_kind(aftermath: Aftermath) -> None:
    counted = aftermath.monkey.counted()
    assert sum(counted.values()) >= KILLS, aftermath.story
    assert all(counted[kind] >= LEAST for kind in KINDS), aftermath.story
    assert aftermath.codes.count(-9) == counted["driver"], aftermath.story


def test_every_cell_is_done_exactly_once_and_none_is_measured_again(aftermath: Aftermath) -> None:
    cells = rows(aftermath.study, "cells", ("status",))
    assert list(cells.values()) == [[("done",)]] * CELLS, aftermath.story
    again = {cell: found for cell, found in aftermath.ledger.versions.items() if len(found) > 1}
    assert aftermath.ledger.versions.keys() == cells.keys(), aftermath.story
    assert not again, f"{again}\n{aftermath.story}"
    for folder in ("requests", "telemetry"):
        stored = {path.stem for path in (aftermath.study / folder).glob("*")}
        assert stored == cells.keys(), f"{folder}\n{aftermath.story}"


def test_a_row_stands_beside_the_requests_of_its_own_attempt(aftermath: Aftermath) -> None:
    attempts = rows(aftermath.study, "cells", ("attempt_id",))
    assert all(found != [(None,)] for found in attempts.values())
    for folder in ("requests", "telemetry"):
        stored = {
            path.stem: pq.read_schema(path).metadata[b"attempt_id"].decode()
            for path in (aftermath.study / folder).glob("*.parquet")
        }
        assert stored == {cell: found[0][0] for cell, found in attempts.items()}, aftermath.story


def test_results_are_those_of_an_undisturbed_run(aftermath: Aftermath) -> None:
    for folder, columns in (("cells", CELL), ("requests", REQUEST)):
        found = rows(aftermath.study, folder, columns)
        assert found == rows(aftermath.undisturbed, folder, columns), f"{folder}\n{aftermath.story}"
    assert not list(aftermath.study.rglob("*.tmp")), aftermath.story


def test_no_claim_is_left(aftermath: Aftermath) -> None:
    assert not list(aftermath.study.glob("claims/**/*")), aftermath.story


def test_a_driver_ends_by_its_own_rules_or_is_killed(aftermath: Aftermath) -> None:
    assert set(aftermath.codes) <= {0, 1, -9}, aftermath.story
    assert "Traceback" not in aftermath.said, aftermath.story


def test_no_process_port_group_or_shared_memory_is_left(aftermath: Aftermath) -> None:
    assert not aftermath.left, aftermath.story
    assert not aftermath.left_of_all, aftermath.story
    assert not aftermath.listening, aftermath.story
    assert aftermath.groups <= {"REMOVED"}, aftermath.story
    assert not aftermath.shared_memory, aftermath.story
