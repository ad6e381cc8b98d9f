"""What a reader is told of runs that are paired by block."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from orchestrator.report.comparisons import Line
from orchestrator.report.options import counted


def blocks_note(lines: Sequence[Line]) -> str | None:
    """In one sentence, what pairing by block did to the intervals; None where nothing is paired."""
    found = [line.comparison.pairing for line in lines if line.comparison is not None]
    pairings = [one for one in found if one is not None]
    if not pairings:
        return None
    of = sum(line.measure.kind in ("rate", "time") and line.comparison is not None for line in lines)
    left = sum(one.paired != one.runs for one in pairings)
    without = f", of {left} with runs left out that have no partner" if left else ""
    said = f"Paired by block: {len(pairings)} of {counted(of, 'comparison')} of times and rates{without}."
    widths = sorted(one.width for one in pairings if one.width is not None)
    if not widths:
        return said
    span = f", by the median (from {widths[0]:.2f} to {widths[-1]:.2f})" if len(widths) > 1 else ""
    times = f"{statistics.median(widths):.2f} times as long as unpaired ones of the same runs"
    return f"{said} Their 95 % intervals are {times}{span}."
