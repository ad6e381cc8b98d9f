"""A response reader that is fed bytes directly, without a socket."""

from __future__ import annotations

from orchestrator.load.client import loops
from orchestrator.load.receive.python_receiver import PythonHeldReads
from orchestrator.load.receive.receiver import HELD_FULL, READ
from orchestrator.load.stream.event_template import Split
from orchestrator.load.stream.response import ResponseReader
from orchestrator.load.stream.timeline import Timeline


class FedReader:
    """Holds reads back as the receiver in Python does."""

    def __init__(self, timeline: Timeline, split: Split = loops.IN_PYTHON.split) -> None:
        self._held = PythonHeldReads()
        self.reader = ResponseReader(self._held, split)
        self.reader.begin(timeline)

    def feed(self, t: float, data: bytes) -> None:
        kind = self._held.put(t, data)
        if kind == READ:
            self.reader.feed(t, data)
        elif kind == HELD_FULL:
            self.reader.flush()
