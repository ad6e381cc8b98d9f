"""An engine over two nodes, with real actors on a real Ray; each rank is a script in place of vLLM."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from orchestrator.cluster.nodes import alive_nodes, listed_nodes
from orchestrator.cluster.packing import Need
from orchestrator.cluster.ranks import placed, telling
from orchestrator.cluster.slot import Slot, SlotLost
from orchestrator.cluster.spec import WorkerSpec
from orchestrator.cluster.worker import EngineWorker
from orchestrator.config.schema import EngineConfig, ModelConfig, SweepConfig
from orchestrator.engines.adapter import Launch
from orchestrator.errors import EngineError
from tests.engines.fake import all_gone
from tests.support.children import words
from tests.support.cli import ROOT, environment
from tests.support.ray_cluster import add_node, ray_cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

RANK = Path(__file__).with_name("fake_rank.py")
GONE_S = 30.0


class Worker(EngineWorker):
    def failure(self) -> tuple[str, str] | None:
        """Waits for the engine to be dead: its cause and what it says."""
        assert self._serving is not None
        deadline = time.monotonic() + GONE_S
        while (error := self._serving.server.failure()) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        return None if error is None else (error.cause, str(error))

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without resources and two nodes of one GPU, which are only declared."""
    with ray_cluster(2, cpus=2, gpus=1) as made:
        ray.init(address=made.address, log_to_driver=False, namespace="orchestrator")
        yield made
        ray.shutdown()


@pytest.fixture
def spec(tmp_path: Path) -> WorkerSpec:
    python = tmp_path / "python"
    # Each rank's command line names the test that it is of.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {RANK} "$@" --of {tmp_path}\n')
    python.chmod(0o755)
    config = SweepConfig(
        model=ModelConfig(name="fake-model", hub_id="some/model"),
        engine=EngineConfig(name="vllm", python=str(python), version="0.32.0"),
        weights="dummy",
    )
    config.timeout.engine_stop_s = 2.0
    config.timeout.engine_start_s = 60.0
    return WorkerSpec("deployment", "label", "s", tmp_path, config, 2, 2, 2)


def on_two_nodes(spec: WorkerSpec, act: Callable[[Slot], Awaitable[None]]) -> None:
    """Runs ``act`` on a slot over the two nodes; nothing is left of any rank afterwards."""

    async def run() -> None:
        nodes = tuple(name for name, has in alive_nodes().items() if has.get("GPU"))
        slot = Slot(Need(gpus=1.0, cpus=1.0, nodes=2), nodes)
        try:
            assert await slot.open(Worker, "label", 20.0)
            await act(slot)
        finally:
            pids = ranks(spec)
            await slot.close()
            assert all_gone(pids, GONE_S)

    asyncio.run(run())


def ranks(spec: WorkerSpec, number: int | None = None) -> list[int]:
    """The processes of this test that stand for rank ``number``, or for any."""
    wanted = r"--node-rank " + (r"\d" if number is None else str(number))
    found = []
    for process in psutil.process_iter():
        command = words(process)
        ours = str(RANK) in command and command[-1] == str(spec.study_dir) and "guard.py" not in str(command)
        if ours and re.search(wanted, " ".join(command)):
            found.append(process.pid)
    return found


def both_begun(spec: WorkerSpec) -> None:
    deadline = time.monotonic() + GONE_S
    while len(ranks(spec)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(ranks(spec)) == 2


def follower_worker(cluster: Cluster) -> int:
    """Of this cluster alone: below its raylets."""
    raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in cluster.worker_nodes]
    below = [process for raylet in raylets for process in raylet.children(recursive=True)]
    (pid,) = (process.pid for process in below if "ray::RankWorker" in " ".join(words(process)))
    return pid


def test_one_rank_runs_on_each_node_and_the_first_serves(cluster: Cluster, spec: WorkerSpec) -> None:
    async def act(slot: Slot) -> None:
        await slot.call("start", spec, timeout_s=60.0)
        endpoint = await slot.call("endpoint", timeout_s=10.0)
        assert endpoint.host == "127.0.0.1"
        assert (len(ranks(spec, 0)), len(ranks(spec, 1))) == (1, 1)
        logs = spec.study_dir / "logs" / "deployment"
        said = {log.name: log.read_text() for log in logs.iterdir()}
        assert sorted(said) == ["engine.log", "rank1.log"]
        known = {node["NodeManagerAddress"] for node in listed_nodes()}
        for rank, name in enumerate(("engine.log", "rank1.log")):
            (met,) = re.findall(rf"rank {rank} meets at (\S+) with", said[name])
            assert met in known
            assert "'CUDA_VISIBLE_DEVICES': '0'" in said[name]
            assert f"'VLLM_HOST_IP': '{met}'" in said[name]
        assert "--headless" in said["rank1.log"]
        assert "--headless" not in said["engine.log"]
        before = ranks(spec)
        await slot.call("end", timeout_s=30.0)
        assert all_gone(before, 0.1)
        await slot.call("start", spec, timeout_s=60.0)  # the slot serves another
        assert sorted(log.name for log in logs.iterdir())[-1] == "rank1.log"
        assert (logs / "rank1.1.log").exists()

    on_two_nodes(spec, act)


def test_a_rank_that_dies_is_the_engines_crash_with_its_log(cluster: Cluster, spec: WorkerSpec) -> None:
    async def act(slot: Slot) -> None:
        await slot.call("start", spec, timeout_s=60.0)
        (pid,) = ranks(spec, 1)
        os.kill(pid, signal.SIGKILL)
        cause, said = await slot.call("failure", timeout_s=30.0)
        assert cause == "crash"
        assert "rank 1 on " in said
        assert "ended while serving" in said
        assert "rank1.log" in said

    on_two_nodes(spec, act)


def test_a_rank_that_cannot_start_ends_the_start_at_once_with_its_own_cause(
    cluster: Cluster, spec: WorkerSpec
) -> None:
    spec.config.engine.args = {"enforce-eager": True}

    async def act(slot: Slot) -> None:
        with pytest.raises(EngineError, match=r"(?s)rank 1 on .*CUDA out of memory") as caught:
            await slot.call("start", spec, timeout_s=30.0)
        assert caught.value.cause == "oom"
        assert all_gone(ranks(spec), GONE_S)

    on_two_nodes(spec, act)


def test_a_killed_worker_of_a_rank_is_noticed_and_leaves_nothing(cluster: Cluster, spec: WorkerSpec) -> None:
    async def act(slot: Slot) -> None:
        await slot.call("start", spec, timeout_s=60.0)
        pids = ranks(spec, 1)
        os.kill(follower_worker(cluster), signal.SIGKILL)
        cause, said = await slot.call("failure", timeout_s=30.0)
        assert cause in ("worker_died", "node_died")  # Ray may not know yet which
        assert "of rank 1 died" in said
        assert all_gone(pids, GONE_S)
        await slot.call("start", spec, timeout_s=60.0)

    on_two_nodes(spec, act)


def test_a_killed_worker_of_rank_0_takes_every_rank_with_it(cluster: Cluster, spec: WorkerSpec) -> None:
    async def act(slot: Slot) -> None:
        await slot.call("start", spec, timeout_s=60.0)
        pids = ranks(spec)
        os.kill(await slot.call("pid", timeout_s=10.0), signal.SIGKILL)
        assert all_gone(pids, GONE_S)  # before anybody closes the slot
        with pytest.raises(SlotLost):
            await slot.call("endpoint", timeout_s=10.0)

    on_two_nodes(spec, act)


def test_a_start_can_be_stopped(cluster: Cluster, spec: WorkerSpec) -> None:
    spec.config.engine.args = {"disable-log-stats": True}  # rank 1 never comes

    async def act(slot: Slot) -> None:
        starting = asyncio.create_task(slot.call("start", spec, timeout_s=60.0))
        await asyncio.to_thread(both_begun, spec)
        await slot.call("end", timeout_s=30.0)
        with pytest.raises(EngineError) as caught:
            await starting
        assert caught.value.cause == "cancelled"
        assert all_gone(ranks(spec), GONE_S)

    on_two_nodes(spec, act)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_driver_leaves_no_rank(cluster: Cluster, spec: WorkerSpec, number: signal.Signals) -> None:
    command = (
        *(sys.executable, "-m", "orchestrator.sweep", f"ray.address={cluster.address}", "tracker=none"),
        *("hardware=h200", "hardware.gpus_per_node=1", "hardware.ray_accelerator_type=null"),
        *("hardware.cpus=1", "tensor_parallel_size=2", "model=smollm2-135m", "model.heads=8", "limit=2"),
        *("engine=vllm", f"engine.python={spec.config.engine.python}", "engine.version=0.32.0"),
        *("engine.args.disable-log-stats=true", "weights=dummy", "dataset=random"),  # rank 1 never comes
        f"results_dir={spec.study_dir / 'results'}",
    )
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL) as driver:
        try:
            both_begun(spec)
            pids = ranks(spec)
            driver.send_signal(number)
            assert all_gone(pids, 60.0)
            assert driver.wait(60.0) == (130 if number == signal.SIGINT else -signal.SIGKILL)
        finally:
            driver.kill()


def test_a_lost_node_is_noticed_and_the_slot_can_start_nothing_more(
    cluster: Cluster, spec: WorkerSpec
) -> None:
    async def act(slot: Slot) -> None:
        await slot.call("start", spec, timeout_s=60.0)
        lost = next(node for node in cluster.worker_nodes if node.node_id == slot.nodes[1])
        cluster.remove_node(lost, allow_graceful=False)
        try:
            cause, _ = await slot.call("failure", timeout_s=60.0)
            assert cause == "node_died"
            assert all_gone(ranks(spec, 1), GONE_S)
            with pytest.raises((EngineError, SlotLost)) as caught:
                await slot.call("start", spec, timeout_s=60.0)
            assert getattr(caught.value, "cause", None) == "node_died"
        finally:
            add_node(cluster, cpus=2, gpus=1)

    on_two_nodes(spec, act)


def test_a_rank_is_told_its_own_address_and_the_interface_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    launch = Launch("vllm", "/python", "/model", "m", nodes=2)
    own = placed(launch, 1, "10.0.0.1:9", "127.0.0.1")
    assert (own.node_rank, own.master, own.address) == (1, "10.0.0.1:9", "127.0.0.1")
    assert own.env == {"GLOO_SOCKET_IFNAME": "lo"}
    users = replace(launch, env={"GLOO_SOCKET_IFNAME": "ib0"})
    assert placed(users, 1, "10.0.0.1:9", "127.0.0.1").env == users.env
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    assert placed(launch, 1, "10.0.0.1:9", "127.0.0.1").env == {}


def test_a_lost_peer_explains_less_than_what_the_peer_died_of() -> None:
    lost, oom = EngineError("connection reset", "crash"), EngineError("no memory", "oom")
    assert telling(lost, oom) is oom
    assert telling(oom, lost) is oom
    assert telling(lost, None) is lost
