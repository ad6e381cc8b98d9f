"""Which block of runs a measurement belongs to is in its row."""

from __future__ import annotations

from orchestrator.engines.server import Server
from orchestrator.measure.context import Attempt, MeasurementContext
from tests.measure.measuring import Theirs, measured


def test_the_block_of_a_measurement_and_its_place_there_are_stored(
    live: Server, site: MeasurementContext
) -> None:
    theirs = Theirs(live, resets=True)
    inside = measured(site, theirs, attempt=Attempt(1, "one", block="drawn", block_position=3))
    assert (inside["block"], inside["block_position"]) == ("drawn", 3)
    alone = measured(site, theirs, "seed=1", attempt=Attempt(1, "two"))
    assert (alone["block"], alone["block_position"]) == (None, None)
