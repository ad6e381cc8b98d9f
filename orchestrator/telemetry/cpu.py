"""How many CPUs an engine uses: where its own processes are the limit, a faster GPU changes nothing."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter

import psutil

from orchestrator.telemetry.neighbours import LOOK_ROUND_EVERY, family


class EngineCpus:
    """The CPU time of a process and all below it, from one look to the next.

    ``seconds`` has what each has used since the first look, by the title that it gave itself. A process that
    begins and ends between two looks is not seen; none of an engine that serves does.
    """

    def __init__(self, pid: int) -> None:
        self.seconds: dict[str, float] = {}
        self._root = pid
        self._family: set[psutil.Process] = set()
        self._used: dict[psutil.Process, float] = {}
        self._at = 0.0
        self._looks = 0

    def read(self) -> tuple[float | None, float | None]:
        """The CPUs that all used since the last look, and those of the busiest one: 1 is one thread at its
        limit. None at the first look, and once all are gone."""
        if self._looks % LOOK_ROUND_EVERY == 0:
            self._family = family(self._root)
        self._looks += 1
        now, used = perf_counter(), {}
        for process in self._family:
            with suppress(psutil.Error):
                spent = process.cpu_times()
                used[process] = spent.user + spent.system
        grown = {process: used[process] - self._used[process] for process in used if process in self._used}
        elapsed, self._used, self._at = now - self._at, used, now
        if not grown or elapsed <= 0:
            return None, None
        for process, seconds in grown.items():
            if seconds:
                title = _title(process)
                self.seconds[title] = self.seconds.get(title, 0.0) + seconds
        return sum(grown.values()) / elapsed, max(grown.values()) / elapsed


def _title(process: psutil.Process) -> str:
    """What an engine calls a process of its own (``VLLM::EngineCore``), else the program's name."""
    with suppress(psutil.Error):
        first = (process.cmdline() or [""])[0].split(" ")[0]
        return first if "::" in first else process.name()
    return "ended"
