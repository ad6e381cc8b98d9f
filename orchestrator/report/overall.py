"""What each optimization did over all its comparisons: a sentence of counts, so that a claim about it can be
held against every setting at once."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.comparisons import Line
from orchestrator.report.options import counted
from orchestrator.report.pairs import OPTIMIZATION
from orchestrator.report.words import signed

_SPEED = ("throughput", "e2e")
_MEASURES = {"throughput": "tokens/s", "e2e": "E2E", "ttft": "TTFT", "accuracy": "accuracy"}
_MORE = {"throughput": "more", "e2e": "longer", "ttft": "longer", "accuracy": "higher"}
_LESS = {"throughput": "fewer", "e2e": "shorter", "ttft": "shorter", "accuracy": "lower"}
FEWEST = 2  # comparisons; of one its own lines say all


def overall(lines: Sequence[Line]) -> list[str]:
    """One sentence for each optimization that was compared with its baseline in several settings: in how many
    of them its tokens/s, E2E, TTFT and accuracy were higher or lower, from what to what, and how many of
    these differences are significant; and whether it is faster, as far as the tests say."""
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line.pair.axis is OPTIMIZATION and line.measure.key in _MEASURES and line.difference is not None:
            key = line.pair.variant.facts["opt"], line.pair.baseline.facts["opt"]
            found.setdefault(key, []).append(line)
    return [
        f"{_named(opt)} against {_named(baseline)}: {'; '.join(_parts(of))}. {_speed(of)}"
        for (opt, baseline), of in found.items()
        if len({line.pair for line in of}) >= FEWEST
    ]


def _named(opt: str) -> str:
    return "no optimization" if opt == "none" else opt


def _parts(lines: Sequence[Line]) -> list[str]:
    by_measure = {key: [line for line in lines if line.measure.key == key] for key in _MEASURES}
    return [f"{_MEASURES[key]} {_part(key, of)}" for key, of in by_measure.items() if of]


def _part(key: str, lines: Sequence[Line]) -> str:
    """``longer in 4 of 4 (+1.7 to +4.7 %), none significant``."""
    ordered = sorted(lines, key=lambda line: line.difference or 0.0)
    above = sum((line.difference or 0.0) > 0 for line in ordered)
    below = sum((line.difference or 0.0) < 0 for line in ordered)
    counts = [(above, _MORE[key]), (below, _LESS[key])]
    where = [f"{word} in {count} of {len(ordered)}" for count, word in counts if count]
    least, most = (signed(line, line.difference) for line in (ordered[0], ordered[-1]))
    unit = " points" if key == "accuracy" else " %"
    span = most if least == most else f"{least.removesuffix(unit)} to {most}"
    return f"{', '.join(where) or 'the same'} ({span}), {_significant(key, ordered)}"


def _significant(key: str, lines: Sequence[Line]) -> str:
    up, down = (_shown(lines, sign) for sign in (1, -1))
    if not up and not down:
        return "none significant"
    told = [f"{count} {word}" for count, word in ((up, _MORE[key]), (down, _LESS[key])) if count]
    return f"significantly {' and '.join(told)}"


def _shown(lines: Sequence[Line], sign: int) -> int:
    """How many of them are significant, with that sign."""
    return sum(line.verdict == "different" and sign * (line.difference or 0.0) > 0 for line in lines)


def _speed(lines: Sequence[Line]) -> str:
    """What the tests say of its speed, pair by pair: tokens/s or E2E."""
    different = [line for line in lines if line.measure.key in _SPEED and line.verdict == "different"]
    faster = {line.pair for line in different if line.better}
    slower = {line.pair for line in different if not line.better}
    pairs = len({line.pair for line in lines})
    if not faster and not slower:
        return f"That it is faster, or slower, is shown in none of {counted(pairs, 'comparison')}."
    if not slower:
        return f"That it is faster is shown in {len(faster)} of {pairs}, that it is slower in none."
    return f"That it is faster is shown in {len(faster)} of {pairs}, that it is slower in {len(slower)}."
