"""A slot that is closed (`orchestrator.cluster.slot`), with an actor that only pretends."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from ray.util.placement_group import PlacementGroup

from orchestrator.cluster.packing import Need
from orchestrator.cluster.slot import Slot
from orchestrator.store.ledger import reservations
from tests.cluster.plans import deployment


class NeverStops:
    """An actor whose engine does not end."""

    class stop:
        @staticmethod
        def remote() -> Any:
            return asyncio.sleep(600)


def test_a_slot_whose_closing_is_cancelled_is_killed_given_back_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr("ray.kill", lambda actor: ended.append("killed"))
    monkeypatch.setattr(
        "orchestrator.cluster.slot.remove_placement_group", lambda group: ended.append("removed")
    )
    slot = Slot(Need(1.0, 1.0), ("a",), actor=NeverStops(), served=[deployment(1)])
    slot.group = cast(PlacementGroup, object())
    slot.placed_at, slot.placed_s = datetime.now(UTC), time.monotonic()

    async def cancelled() -> None:
        closing = asyncio.create_task(slot.give_back(tmp_path))
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    asyncio.run(cancelled())
    assert ended == ["killed", "removed"]
    assert [one.deployments for one in reservations(tmp_path)] == [("d",)]
