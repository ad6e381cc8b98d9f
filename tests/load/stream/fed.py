"""A response reader that is fed bytes directly, without a socket."""

from __future__ import annotations

from array import array

from orchestrator.load.receive.receiver import EVENT_END, HELD_AT_MOST, HELD_FULL, LARGE, READ, Reads
from orchestrator.load.stream.event_template import Split
from orchestrator.load.stream.response import ResponseReader
from orchestrator.load.stream.timeline import Timeline
from tests.load.both import C


class HeldInMemory:
    """Holds what it is given as the receiver in C holds what it reads."""

    def __init__(self) -> None:
        self._holding = False
        self._last_s = 0.0
        self._clear()

    def _clear(self) -> None:
        self._times, self._ends, self._wire = array("d"), array("L"), bytearray()

    def hold(self, on: bool) -> None:
        self._holding = on

    def take(self) -> Reads | None:
        if not self._times:
            return None
        reads = Reads(self._times, self._ends, bytes(self._wire))
        self._clear()
        return reads

    def last_s(self) -> float:
        return self._last_s

    def put(self, t: float, data: bytes) -> int | None:
        """Hold a read if that may be. Returns what is to be reported: `READ` when it is not held, `HELD_FULL`
        when all that is held is to be taken, else None."""
        if not (self._holding and data.endswith(EVENT_END)):
            return READ
        self._wire += data
        self._times.append(t)
        self._ends.append(len(self._wire))
        self._last_s = t
        return HELD_FULL if len(self._times) >= HELD_AT_MOST or len(data) >= LARGE else None


class FedReader:
    def __init__(self, timeline: Timeline, split: Split = C.split) -> None:
        self._held = HeldInMemory()
        self.reader = ResponseReader(self._held, split)
        self.reader.begin(timeline)

    def feed(self, t: float, data: bytes) -> None:
        kind = self._held.put(t, data)
        if kind == READ:
            self.reader.feed(t, data)
        elif kind == HELD_FULL:
            self.reader.flush()
