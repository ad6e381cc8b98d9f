"""The nodes as the board shows them, and what is said of GPUs that others hold."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

from orchestrator.cluster.nodes import alive_nodes
from orchestrator.cluster.others import Others, told
from orchestrator.cluster.slot import Slot, free_nodes
from orchestrator.progress.board import Board
from orchestrator.progress.state import NodeUsage

SHOW_S = 1.0
WHO_S = 10.0  # how often it is asked who else holds GPUs


class NodeWatch:
    """``held_by_others`` is one line, or none where nothing waits for GPUs of others."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._others = Others()
        self._shown_s = self._asked_s = -math.inf
        self._asking: asyncio.Task[None] | None = None
        self.held_by_others: list[str] = []

    def show(self, slots: Sequence[Slot], asking: set[str], waits: bool) -> None:
        """Tells the board of the nodes with GPUs, once a tick. ``slots`` and ``asking``, ids of placement
        groups, are all that is ours; ``waits``: something waits for room."""
        now_s = time.monotonic()
        if now_s < self._shown_s + SHOW_S:
            return
        self._shown_s = now_s
        not_others = {node.node_id: node.gpus for node in free_nodes(slots, counted=[])}
        shown = {}
        for node_id, total in alive_nodes().items():
            if gpus := total.get("GPU", 0.0):
                name = next(
                    (key[5:] for key in total if key.startswith("node:") and "__" not in key), node_id
                )
                shown[node_id] = NodeUsage(name, gpus, gpus - not_others.get(node_id, gpus))
        self._board.nodes(shown)
        others = sum(node.others for node in shown.values())
        if others < 0.01 or not waits:
            self.held_by_others = []
        elif now_s >= self._asked_s + WHO_S and (self._asking is None or self._asking.done()):
            self._asked_s = now_s
            ours = {slot.group.id.hex() for slot in slots if slot.group is not None} | asking
            total_gpus = sum(node.gpus for node in shown.values())
            self._asking = asyncio.create_task(self._ask(ours, others, total_gpus))

    async def _ask(self, ours: set[str], others: float, total: float) -> None:
        """Beside the loop, which must not wait for it."""
        holders = await asyncio.to_thread(self._others.look, ours)
        self.held_by_others = [told(holders, others, total)]

    async def end(self) -> None:
        """Waits for what is still being asked."""
        if self._asking is not None:
            await asyncio.gather(self._asking, return_exceptions=True)
