"""What a command keeps from one batch of jobs to the next: its Ray, and engines that may serve again. Imports
no Ray, since a command may have nothing to run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import interruption
from orchestrator.config.schema import RayConfig

if TYPE_CHECKING:
    from orchestrator.cluster.session import Session
    from orchestrator.cluster.slot import Slot
    from orchestrator.plan.durations import Durations


class Kept:
    """``engines``: whether a further batch may come. ``slots`` are those whose engines still serve, for the
    study in ``study_dir``. ``durations`` is what the batches so far have taught. `close` ends everything."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._session: Session | None = None
        self._asked: tuple[float, Mapping[str, float] | None] | None = None
        self.engines = False
        self.slots: list[Slot] = []
        self.study_dir: Path | None = None
        self.durations: Durations | None = None

    @property
    def connected(self) -> bool:
        return self._session is not None

    def session(
        self,
        config: RayConfig,
        cpus: float,
        declared: Mapping[str, float] | None,
        begun: Callable[[Session], None],
    ) -> Session:
        """A Ray as `ray_session` gives it: the one of the batch before where that does, or a new one, of
        which ``begun`` is told."""
        if self._session is not None and self._serves(config, cpus, declared):
            return self._session
        self.close()
        from orchestrator.cluster.session import ray_session

        self._session = self._stack.enter_context(ray_session(config, cpus, declared))
        self._asked = cpus, declared
        begun(self._session)
        return self._session

    def _serves(self, config: RayConfig, cpus: float, declared: Mapping[str, float] | None) -> bool:
        assert self._asked is not None
        had_cpus, had = self._asked
        return config.address is not None or (cpus <= had_cpus and (declared or {}) == (had or {}))

    def give_slots(self) -> list[Slot]:
        """The slots, which are the caller's from now on."""
        slots, self.slots = self.slots, []
        return slots

    def close(self) -> None:
        """Ends the engines and the Ray, and gives back what they hold."""
        with interruption.deferred():
            try:
                if (slots := self.give_slots()) and self.study_dir is not None:
                    asyncio.run(_give_back(slots, self.study_dir))
            finally:
                self._session = self._asked = None
                self._stack.close()


async def _give_back(slots: list[Slot], study_dir: Path) -> None:
    await asyncio.gather(*(slot.give_back(study_dir) for slot in slots))
