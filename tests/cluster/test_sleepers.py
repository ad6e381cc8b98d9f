"""The life of a slot whose engines sleep: a worker with simulated engines, each a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from orchestrator.cell import Cell
from orchestrator.cluster import sleepers
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.cluster.worker import EngineWorker
from orchestrator.config.schema import EngineConfig
from orchestrator.engines import guard, sleep
from orchestrator.engines.http import ask
from orchestrator.errors import EngineError
from orchestrator.measure.context import Attempt, CellOutcome
from orchestrator.store.read import read_cell
from orchestrator.telemetry.gpu import Gpus, GpuUse, is_shared
from tests.cluster.sleeping import OPTS, serving, slots, specs
from tests.engines.fake import all_gone, is_alive, tree

pytestmark = pytest.mark.slow


@pytest.fixture
def worker() -> Iterator[EngineWorker]:
    made = EngineWorker()
    yield made
    made.stop()


def measured(worker: EngineWorker, cell: Cell, number: int = 1) -> CellOutcome:
    return worker.run(cell, Attempt(number, f"{cell.cell_id}-{number}"))


def row_of(spec: WorkerSpec, cell: Cell) -> dict[str, Any]:
    row = read_cell(spec.study_dir, cell.cell_id)
    assert row is not None
    return dict(row)


def test_engines_take_turns_and_each_is_the_one_it_was(worker: EngineWorker, tmp_path: Path) -> None:
    first, second, third, _ = specs(tmp_path)
    pids = {}
    for spec in (first, second, third):
        told = worker.start(spec)
        assert (told.woken, told.prepared) == (False, False)
        assert worker.serves(spec.deployment_id)
        pids[spec.deployment_id] = serving(worker).pid
        assert worker.rest()
        assert not worker.serves(spec.deployment_id)
    assert worker.sleeping() == tuple(pids)
    for spec in (second, first, third, first):
        told = worker.start(spec)
        assert told.woken
        assert told.seconds < 1.0
        assert serving(worker).pid == pids[spec.deployment_id]
        assert sleep.is_asleep(serving(worker)) is False
        assert set(worker.sleeping()) == pids.keys() - {spec.deployment_id}
        assert worker.rest()
    assert not worker.rest()  # nothing is awake


def test_a_start_makes_way_for_itself(worker: EngineWorker, tmp_path: Path) -> None:
    """Without a word of `rest` before."""
    first, second = specs(tmp_path, of=OPTS[:2])
    worker.start(first)
    pid = serving(worker).pid
    assert not worker.start(second).woken
    assert worker.sleeping() == (first.deployment_id,)
    assert worker.start(first).woken
    assert serving(worker).pid == pid
    assert worker.sleeping() == (second.deployment_id,)


def test_the_end_of_the_one_that_serves_is_not_the_sleepers(worker: EngineWorker, tmp_path: Path) -> None:
    first, second = specs(tmp_path, of=OPTS[:2])
    worker.start(first)
    worker.rest()
    worker.start(second)
    pids = tree(serving(worker).pid)
    worker.end()
    assert not any(map(is_alive, pids))
    assert worker.sleeping() == (first.deployment_id,)
    assert worker.prepare(first)  # it could not be readier
    assert worker.start(first).woken


def test_stop_leaves_nothing_of_any_of_them(worker: EngineWorker, tmp_path: Path) -> None:
    pids: list[int] = []
    ports = []
    for spec in specs(tmp_path, of=OPTS[:3]):
        worker.start(spec)
        pids += tree(serving(worker).pid)
        ports.append(serving(worker).endpoint)
    assert len(worker.sleeping()) == 2
    worker.stop()
    assert not any(map(is_alive, pids))
    assert worker.sleeping() == ()
    assert [ask(one, "GET", "/health")[0] for one in ports] == [None] * 3


_WORKER = """
import json, sys, time
from pathlib import Path
from orchestrator.cluster.worker import EngineWorker
from tests.cluster.sleeping import OPTS, serving, specs
from tests.engines.fake import tree
if __name__ == "__main__":
    worker, pids, ports = EngineWorker(), [], []
    for spec in specs(Path(sys.argv[1]), of=OPTS[:3]):
        worker.start(spec)
        pids += tree(serving(worker).pid)
        ports.append(serving(worker).launch.port)
    print(json.dumps([pids, ports, list(worker.sleeping())]), flush=True)
    time.sleep(300)
"""


def test_a_worker_that_is_killed_leaves_no_sleeper_and_no_port(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout as said:
        pids, ports, asleep = json.loads(said.readline())
    assert len(asleep) == 2
    assert len(ports) == 3
    everybody = [*pids, *(child.pid for child in psutil.Process(parent.pid).children(recursive=True))]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert all_gone(everybody, within_s=guard.ORPHANED_S + 5)
    used = {one.laddr.port for one in psutil.net_connections("tcp") if one.laddr and one.status == "LISTEN"}
    assert not used & set(ports)


def test_no_more_sleep_than_are_allowed(worker: EngineWorker, tmp_path: Path) -> None:
    first, second, third, _ = specs(tmp_path, "engine.sleepers=2")
    rested = []
    for spec in (first, second, third):
        worker.start(spec)
        server = serving(worker)
        rested.append(worker.rest())
    assert rested == [True, True, False]
    assert worker.sleeping() == (first.deployment_id, second.deployment_id)
    assert server.poll() is not None  # ended in its place
    assert "# ended in place of sleeping: engine.sleepers=2 sleep here already" in server.log_path.read_text()


def rest_as_a_real_one(worker: EngineWorker, free_gib: int) -> bool:
    """A simulated engine has no weights in memory: here it is taken for one that has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EngineConfig, "simulated", property(lambda engine: False))
        patch.setattr(sleepers, "available", lambda: free_gib << 30)
        return worker.rest()


def test_one_whose_weights_find_no_room_in_host_memory_is_ended(worker: EngineWorker, tmp_path: Path) -> None:
    (spec,) = specs(tmp_path, of=OPTS[:1])
    worker.start(spec)
    assert rest_as_a_real_one(worker, 40)
    assert worker.start(spec).woken
    assert rest_as_a_real_one(worker, 10)  # what was pinned once stays so
    assert worker.start(spec).woken
    worker.end()
    worker.start(spec)
    server = serving(worker)
    assert not rest_as_a_real_one(worker, 10)
    assert server.poll() is not None
    said = "14.2 GiB of weights may take 32.4 GiB of host memory, and 10.0 are free"
    assert said in server.log_path.read_text()


def test_an_engine_that_was_not_started_to_sleep_is_ended(worker: EngineWorker, tmp_path: Path) -> None:
    first, second = specs(tmp_path, mode="off", of=OPTS[:2])
    worker.start(first)
    pids = tree(serving(worker).pid)
    assert not worker.rest()
    assert not any(map(is_alive, pids))
    worker.start(first)
    assert not worker.start(second).woken
    assert worker.sleeping() == ()


def test_a_sleeper_that_died_is_replaced_in_the_same_call(worker: EngineWorker, tmp_path: Path) -> None:
    ((spec, cell),) = slots(tmp_path, of=OPTS[:1], args={"crash-asleep": 20})
    worker.start(spec)
    pid = serving(worker).pid
    assert worker.rest()
    deadline = time.monotonic() + 5
    while worker.sleeping() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert worker.sleeping() == ()
    assert not worker.start(spec).woken
    assert serving(worker).pid != pid
    assert "# started anew, since the one that slept did not wake" in serving(worker).log_path.read_text()
    assert measured(worker, cell).status == "done"
    row = row_of(spec, cell)
    assert "ended while serving" in json.loads(row["provenance"])["not_woken"]
    assert row["since_wake_s"] is None


def test_one_that_does_not_wake_is_ended_and_replaced(worker: EngineWorker, tmp_path: Path) -> None:
    ((spec, _),) = slots(tmp_path, of=OPTS[:1], args={"wake-fails": "true"})
    worker.start(spec)
    pids = tree(serving(worker).pid)
    worker.rest()
    assert not worker.start(spec).woken
    assert not any(map(is_alive, pids))
    assert worker.serves(spec.deployment_id)
    assert "out of memory" in serving(worker).log_path.read_text()


def test_a_wake_that_is_not_wanted_any_more_ends(worker: EngineWorker, tmp_path: Path) -> None:
    ((spec, _),) = slots(tmp_path, of=OPTS[:1], args={"wake-seconds": 6000})
    worker.start(spec)
    pids = tree(serving(worker).pid)
    worker.rest()
    worker._cancelled.set()
    with pytest.raises(EngineError) as caught:
        worker.start(spec)
    assert caught.value.cause == "cancelled"
    assert all_gone(pids, within_s=1)
    assert worker.progress().phase == "idle"


def test_a_row_says_how_long_its_engine_had_been_awake(worker: EngineWorker, tmp_path: Path) -> None:
    (first, cell), (second, _) = slots(tmp_path, of=OPTS[:2])
    seconds = worker.start(first).seconds
    assert measured(worker, cell).status == "done"
    before = row_of(first, cell)
    assert before["since_wake_s"] is None
    worker.rest()
    worker.start(second)
    worker.start(first)
    time.sleep(0.5)
    assert measured(worker, cell, 2).status == "done"
    after = row_of(first, cell)
    assert 0.5 <= after["since_wake_s"] < 5
    assert after["deployment_start_s"] == before["deployment_start_s"] == pytest.approx(seconds, abs=0.1)
    assert json.loads(after["provenance"])["woken"] == 1
    assert measured(worker, cell, 3).status == "done"
    assert row_of(first, cell)["since_wake_s"] > after["since_wake_s"]


def test_nothing_is_measured_beside_an_engine_that_should_sleep_and_is_awake(
    worker: EngineWorker, tmp_path: Path
) -> None:
    (first, _), (second, cell) = slots(tmp_path, of=OPTS[:2])
    worker.start(first)
    sleeper = serving(worker)
    worker.rest()
    worker.start(second)
    assert measured(worker, cell).status == "done"
    assert ask(sleeper.endpoint, "POST", "/wake_up")[0] == 200  # by somebody else
    with pytest.raises(EngineError, match="does not say so") as caught:
        measured(worker, cell, 2)
    assert caught.value.cause == "awake"
    assert sleeper.poll() is not None
    assert measured(worker, cell, 3).status == "done"


def test_a_start_that_finds_too_little_memory_is_made_again_without_sleepers(
    worker: EngineWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = specs(tmp_path, of=OPTS[:2])
    worker.start(first)
    worker.rest()
    made, asked = worker._made, []

    def short_beside_sleepers(spec: WorkerSpec) -> sleepers.Serving:
        asked.append(worker.sleeping())
        if worker.sleeping():
            raise EngineError("Free memory on device is less than desired", "gpu_busy")
        return made(spec)

    monkeypatch.setattr(worker, "_made", short_beside_sleepers)
    assert not worker.start(second).woken
    assert asked == [(first.deployment_id,), ()]
    assert worker.serves(second.deployment_id)


@dataclass
class FakeGpus:
    """What NVML says, look after look; the last of it for ever."""

    uses: list[GpuUse]

    def use(self) -> GpuUse:
        return self.uses.pop(0) if len(self.uses) > 1 else self.uses[0]


GIB = 1 << 30


@pytest.mark.parametrize(("others", "shared"), [(frozenset[int](), False), (frozenset({99}), True)])
def test_on_waking_it_is_looked_anew_who_else_is_on_the_gpus(
    worker: EngineWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    others: frozenset[int],
    shared: bool,
) -> None:
    """Its own sleeping processes (7), and another sleeper's (8), are no neighbours."""
    monkeypatch.setattr(sleepers, "GPU_IDLE_S", 0.2)
    first, second = specs(tmp_path, of=OPTS[:2])
    asleep = GpuUse(frozenset({7, 8}) | others, (4 * GIB,), (0,))
    awake = GpuUse(frozenset({7, 8}) | others, (70 * GIB,), (0,))
    looks = FakeGpus([asleep, asleep, awake] if others else [asleep, awake])
    for spec, pid in ((first, 7), (second, 8)):
        worker.start(spec)
        assert worker._serving is not None
        gpus = cast(Gpus, looks)
        worker._serving = replace(worker._serving, gpus=gpus, gpu_pids=frozenset({pid}))
        assert worker.rest()
    if others:
        looks.uses = [asleep]  # whatever the patience
    assert worker.start(first).woken
    assert worker._serving is not None
    use = worker._serving.gpu_use
    assert use is not None
    before, ready = use
    assert before.busy == shared
    assert is_shared(before, ready, [awake]) is shared
