"""An engine over several nodes: its first rank serves beside the worker, the others have an actor each.

Rank i runs in bundle i of the slot's placement group. The actors belong to the worker of rank 0, so Ray ends
them with it, and each one's guard ends its engine's processes. An engine that has lost a rank may go on
answering its health check, so the end of any rank is the end of the engine.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.util import get_current_placement_group
from ray.util.placement_group import PlacementGroup, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.cluster.nodes import listed_nodes
from orchestrator.cluster.spec import WorkerSpec, check_sees_results, launch_of
from orchestrator.engines import ADAPTERS
from orchestrator.engines.adapter import Launch
from orchestrator.engines.server import KILL_MARGIN_S, Server, held_port, running
from orchestrator.errors import EngineError
from orchestrator.records import Endpoint
from orchestrator.telemetry.host import host_provenance

POLL_S = 0.2
NOTICED_S = 2.0  # how much later than rank 0's another rank's end may be seen
STOP_S = 3.0  # a rank that serves nobody has nothing to finish; vLLM's would wait 9 s for its own worker
CALLS_AT_ONCE = 3  # run, and beside it: serves, stop


class RankWorker:
    """The actor of a rank beyond the first."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._server: Server | None = None
        self._launch: Launch | None = None

    def prepare(self, spec: WorkerSpec) -> dict[str, Any]:
        """Brings the weights to this node; gives its provenance. Raises EngineError."""
        check_sees_results(spec)
        self._launch = launch_of(spec)
        return host_provenance()

    def run(self, spec: WorkerSpec, rank: int, master: str, log: Path) -> None:
        """Runs the rank until `stop`; returns when nothing of it is left. Raises EngineError when it ends
        before."""
        assert self._launch is not None
        launch, timeout = placed(self._launch, rank, master, _address()), spec.config.timeout
        with running(
            ADAPTERS[spec.config.engine.name],
            launch,
            log,
            start_timeout_s=timeout.engine_start_s,
            stop_timeout_s=min(STOP_S, timeout.engine_stop_s),
        ) as self._server:
            while not self._stop.wait(POLL_S):
                if failure := self._server.failure():
                    raise EngineError(f"rank {rank} on {launch.address}: {failure}", failure.cause)

    def serves(self) -> None:
        """Takes note that the engine as a whole is ready."""
        if self._server is not None:
            self._server.serves()

    def stop(self) -> None:
        self._stop.set()


def placed(launch: Launch, rank: int, master: str, address: str) -> Launch:
    """``launch`` as ``rank`` on this node, which the others reach at ``address``. Gloo would take the address
    of the host's name, often the loopback: it is told the interface, unless somebody did."""
    interfaces = (
        name for name, found in psutil.net_if_addrs().items() if any(one.address == address for one in found)
    )
    name = None if "GLOO_SOCKET_IFNAME" in os.environ else next(interfaces, None)
    own = {} if name is None else {"GLOO_SOCKET_IFNAME": name}
    return replace(launch, node_rank=rank, master=master, address=address, env=own | dict(launch.env))


class RankWorkers:
    """The ranks beyond the first, seen from the first's worker."""

    def __init__(self, spec: WorkerSpec) -> None:
        group = get_current_placement_group()
        assert group is not None
        self._spec, self._group = spec, group
        self._actors = [_actor(spec, group, rank) for rank in range(1, spec.nodes)]
        self._runs: list[Any] = []
        self._failure: EngineError | None = None

    def prepare(self, cancelled: Callable[[], bool]) -> list[dict[str, Any]]:
        """Waits until every node has the weights; each node's provenance. Raises EngineError."""
        refs = [actor.prepare.remote(self._spec) for actor in self._actors]
        while len(ray.wait(refs, num_returns=len(refs), timeout=POLL_S)[0]) < len(refs):
            if placement_group_table(self._group)["state"] != "CREATED":
                raise EngineError("one of the deployment's nodes is gone", "node_died")
            if cancelled():
                raise EngineError("cancelled before the engine was started", "cancelled")
        for rank, ref in enumerate(refs, 1):
            if failure := self._ended(rank, ref):
                raise failure
        provenance: list[dict[str, Any]] = ray.get(refs)
        return provenance

    def run(self, master: str, log: Path) -> None:
        """Starts every rank. Rank R writes ``rankR.log``, ``rankR.N.log`` for restart N, beside ``log``."""
        logs = [
            log.with_name(log.name.replace("engine", f"rank{rank}")) for rank in range(1, self._spec.nodes)
        ]
        self._runs = [
            actor.run.remote(self._spec, rank, master, own)
            for rank, (actor, own) in enumerate(zip(self._actors, logs, strict=True), 1)
        ]

    def failure(self) -> EngineError | None:
        """Why one of them ended, None while all run. Never blocks."""
        for rank, run in enumerate(self._runs, 1):
            if self._failure is None and ray.wait([run], timeout=0)[0]:
                self._failure = self._ended(rank, run)
        return self._failure

    def serves(self) -> None:
        ray.get([actor.serves.remote() for actor in self._actors])

    def explained(self, error: EngineError) -> EngineError:
        """Why rank 0 failed with ``error``: what another rank died of, where rank 0 names nothing but a
        crash, which may only be the loss of its peer."""
        deadline = time.monotonic() + NOTICED_S
        while error.cause == "crash" and self.failure() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return telling(error, self._failure)

    def stop(self) -> None:
        """Has every rank stopped, without waiting for it."""
        for actor in self._actors:
            actor.stop.remote()

    def close(self) -> None:
        """Returns when nothing of them is left, where their nodes can be asked."""
        self.stop()
        if self._runs:
            ray.wait(self._runs, num_returns=len(self._runs), timeout=STOP_S + KILL_MARGIN_S)
        for actor in self._actors:
            with suppress(Exception):
                ray.kill(actor)

    def _ended(self, rank: int, ref: Any) -> EngineError | None:
        try:
            ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
            return cause if isinstance(cause, EngineError) else EngineError(f"rank {rank}: {cause!r}")
        except RayActorError as error:
            # A worker that died while its node lives is reported by the node.
            died = isinstance(error, ActorUnavailableError) or self._a_node_is_gone()
            words = " ".join(str(error).split())[:500]
            what = "the node" if died else "the worker"
            return EngineError(f"{what} of rank {rank} died: {words}", "node_died" if died else "worker_died")
        return None

    def _a_node_is_gone(self) -> bool:
        alive = {node["NodeID"] for node in listed_nodes() if node["Alive"]}
        return not set(placement_group_table(self._group)["bundles_to_node_id"].values()) <= alive


def telling(error: EngineError, other: EngineError | None) -> EngineError:
    """The more telling of rank 0's failure and another rank's."""
    return other if other is not None and error.cause == "crash" else error


@dataclass(frozen=True)
class MultiNodeEngine:
    """A live engine over several nodes; ``provenance`` is that of the nodes beyond the first."""

    server: Server
    followers: RankWorkers
    provenance: Sequence[dict[str, Any]]

    @property
    def endpoint(self) -> Endpoint:
        return self.server.endpoint

    def reset_cache(self) -> bool:
        return self.server.reset_cache()

    def failure(self) -> EngineError | None:
        own, theirs = self.server.failure(), self.followers.failure()
        return theirs if own is None else telling(own, theirs)


@contextmanager
def multi_node_engine(
    spec: WorkerSpec, launch: Launch, log: Path, cancelled: Callable[[], bool]
) -> Iterator[MultiNodeEngine]:
    """The engine of ``launch`` over the nodes of this actor's placement group, ready to serve from this one;
    gone on leaving. Raises EngineError when it does not become ready.

    The ranks meet at a port of this node's, at its address in the cluster; the API stays on the loopback.
    """
    timeout, address = spec.config.timeout, _address()
    with ExitStack() as stack:
        followers = RankWorkers(spec)
        stack.callback(followers.close)
        provenance = followers.prepare(cancelled)
        master = f"{address}:{stack.enter_context(held_port(address))}"
        followers.run(master, log)

        def unwanted() -> bool:
            if failure := followers.failure():
                raise failure
            return cancelled()

        try:
            server = stack.enter_context(
                running(
                    ADAPTERS[spec.config.engine.name],
                    placed(launch, 0, master, address),
                    log,
                    start_timeout_s=timeout.engine_start_s,
                    stop_timeout_s=timeout.engine_stop_s,
                    cancelled=unwanted,
                )
            )
        except EngineError as error:
            raise followers.explained(error) from error
        followers.serves()
        stack.callback(followers.stop)  # all ranks end together: one alone might wait for its peers
        yield MultiNodeEngine(server, followers, provenance)


def _address() -> str:
    """This node's, as Ray knows it."""
    own = ray.get_runtime_context().get_node_id()
    return next(str(node["NodeManagerAddress"]) for node in listed_nodes() if node["NodeID"] == own)


def _actor(spec: WorkerSpec, group: PlacementGroup, rank: int) -> Any:
    """All of the rank's bundle is its actor's, so Ray shows it the GPUs of its own node alone."""
    bundle: dict[str, float] = group.bundle_specs[rank]
    actor: Any = ray.remote(RankWorker)  # Ray's own types lose the class's methods
    return actor.options(
        name=f"{spec.label} {spec.deployment_id} rank {rank} {uuid4().hex[:6]}",
        num_cpus=bundle.get("CPU", 0.0),
        num_gpus=bundle.get("GPU", 0.0),
        max_concurrency=CALLS_AT_ONCE,
        scheduling_strategy=PlacementGroupSchedulingStrategy(
            placement_group=group,
            placement_group_bundle_index=rank,
            placement_group_capture_child_tasks=False,
        ),
    ).remote()
