"""What the cluster could hold for a sweep: what is asked for, what is waited for and how long, what never
comes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from orchestrator.cluster.admission import asked, impossible
from orchestrator.cluster.demand import Demand, may_ever_come, unplaced
from orchestrator.cluster.nodes import GpuMemory, alive_nodes
from orchestrator.cluster.packing import Need, Node, Waiting, longest_first

GROWS_S = 600.0  # how long an autoscaler may take to bring nodes
RETURNS_S = 300.0  # how long a node may take to come back, when no other could do its work
SAYS_S = 10.0  # how long a cluster may take to say whether it has an autoscaler


class Capacity:
    """``needs`` are those of the plan's deployments; ``patience_s`` (``timeout.resources_s``) is how long
    nodes are waited for that could hold one, None by the rules of `_patience_s`."""

    def __init__(self, needs: Mapping[str, Need], patience_s: float | None) -> None:
        self._needs = needs
        self._given_s = patience_s
        self._demand = Demand()
        self._gpu_memory = GpuMemory(wanted=any(need.gpu_memory_gib for need in needs.values()))
        self._once_possible: set[str] = set()
        self._lacking: dict[str, tuple[float, str]] = {}  # since when, and what

    def look(self) -> None:
        """Sees what has changed. Does not wait."""
        self._demand.look()
        if self._gpu_memory.wanted:
            self._gpu_memory.look(alive_nodes())

    def sized(self, nodes: Iterable[Node]) -> list[Node]:
        """The nodes with the memory of their GPUs."""
        return [replace(node, gpu_memory_gib=self._gpu_memory.of(node.node_id)) for node in nodes]

    def hopeless(self, waiting: Iterable[str]) -> dict[str, str]:
        """Those of ``waiting`` that no node could hold while one was waited for, with the reason."""
        waiting, now_s = list(waiting), time.monotonic()
        self._lacking = {key: self._lacking[key] for key in waiting if key in self._lacking}
        found: dict[str, str] = {}
        there = self._gpu_memory.among(alive_nodes()) if waiting else []
        for key in waiting:
            reason = impossible(self._needs[key], there)
            if reason is None:
                self._lacking.pop(key, None)
                if self._gpu_memory.settled:
                    self._once_possible.add(key)
                continue
            since_s, _ = self._lacking.setdefault(key, (now_s, reason))
            self._lacking[key] = since_s, reason
            patience_s = self._patience_s(key)
            if now_s - since_s >= patience_s:
                del self._lacking[key]
                found[key] = self._explained(key, reason, patience_s)
        return found

    @property
    def grows(self) -> bool:
        """Whether there is an autoscaler to ask."""
        return bool(self._demand.autoscaled)

    def ask(self, waiting: Sequence[Waiting], free: Sequence[Node]) -> None:
        """Asks an autoscaler, where there is one, for what ``waiting`` needs beyond the ``free`` nodes, and
        for nothing else. Never for more than all of them at once, which is the plan's peak."""
        if self.grows:
            self._demand.ask(unplaced(longest_first(waiting), self.sized(free), self._demand.groups))

    def groups(self) -> set[str]:
        """The ids of the placement groups that ask."""
        return self._demand.groups_asked()

    def release(self) -> None:
        """Asks for nothing any more. Never raises."""
        self._demand.release()

    def waits(self, waiting: Iterable[str]) -> list[str]:
        """What those of ``waiting`` lack that is waited for, one line for each kind of need."""
        lines = []
        wanted = [key for key in waiting if key in self._demand.asked or key in self._lacking]
        for need in dict.fromkeys(self._needs[key] for key in wanted):
            alike = [key for key in wanted if self._needs[key] == need]
            how = "asked the autoscaler for" if self._demand.autoscaled else "no node for"
            line = f"{how} {len(alike)} x {asked(need)}"
            if lacking := [self._lacking[key][0] for key in alike if key in self._lacking]:
                left_s = min(lacking) + self._patience_s(alike[0]) - time.monotonic()
                line += f"; given up in {max(0.0, left_s):.0f} s (timeout.resources_s)"
            lines.append(line)
        return lines

    def _patience_s(self, key: str) -> float:
        """Nodes that are no more may come back. Those that never were come where somebody can bring them."""
        if self._demand.autoscaled and not may_ever_come(self._needs[key], self._demand.groups):
            return 0.0
        if self._given_s is not None:
            return self._given_s
        if self._demand.autoscaled:
            return GROWS_S
        if key in self._once_possible:
            return RETURNS_S
        return SAYS_S if self._demand.autoscaled is None else 0.0

    def _explained(self, key: str, reason: str, patience_s: float) -> str:
        need = self._needs[key]
        if not self._demand.autoscaled:
            return reason
        if not may_ever_come(need, self._demand.groups):
            return f"{reason}; the autoscaler may bring no such node(s)"
        label = f" (a node type must declare accelerator_type:{need.gpu_type})" if need.gpu_type else ""
        return f"{reason}; the autoscaler was asked and brought none in {patience_s:.0f} s{label}"
