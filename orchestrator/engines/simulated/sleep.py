"""A simulated engine's sleep, as vLLM's sleep mode has it: routes, how long they take, and faults on demand.
Standard library only."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from orchestrator.engines.simulated.batching import Batch
from orchestrator.engines.simulated.settings import Settings


class Sleep:
    """Awake at first. ``asleep`` from the moment that it is asked to sleep until it has woken."""

    def __init__(self, settings: Settings, batch: Batch) -> None:
        self.asleep = False
        self._settings = settings
        self._batch = batch
        self._slept = 0
        self._dying: asyncio.TimerHandle | None = None

    async def answer(self, route: str) -> tuple[int, dict[str, Any]] | None:
        """Status and body for a route of sleep; None for any other, and where the mode is not on."""
        if not self._settings.enable_sleep_mode:
            return None
        if route == "GET /is_sleeping":
            return 200, {"is_sleeping": self.asleep}
        if route == "POST /sleep":
            return await self._fall_asleep()
        if route == "POST /wake_up":
            return await self._wake()
        return None

    async def _fall_asleep(self) -> tuple[int, dict[str, Any]]:
        if not self._batch.idle:
            return 400, {"error": "requests are being served"}
        if not self.asleep:
            settings = self._settings
            seconds = settings.sleep_seconds if self._slept else settings.first_sleep_seconds
            self.asleep = True
            self._slept += 1
            await asyncio.sleep(seconds / settings.speed)
            self._batch.reset_cache()
            if settings.crash_asleep is not None:
                due_s = settings.crash_asleep / settings.speed
                self._dying = asyncio.get_running_loop().call_later(due_s, _die)
        return 200, {}

    async def _wake(self) -> tuple[int, dict[str, Any]]:
        if self._settings.wake_fails:
            said = "CUDA Error: out of memory, simulated, as wake-fails asks"
            print(said, flush=True)
            return 500, {"error": said}
        if self.asleep:
            if self._dying is not None:
                self._dying.cancel()
            await asyncio.sleep(self._settings.wake_seconds / self._settings.speed)
            self.asleep = False
        return 200, {}


def _die() -> None:
    print("RuntimeError: crash while asleep, as crash-asleep asks", flush=True)
    os._exit(1)
