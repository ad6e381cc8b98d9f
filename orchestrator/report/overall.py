"""What each optimization did over all its comparisons: whether to switch it on, and a sentence of counts, so
that a claim about it can be held against every setting at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.answer import goal_of, is_gain, line_of, loses_accuracy
from orchestrator.report.comparisons import Line
from orchestrator.report.options import Options, counted
from orchestrator.report.pairs import OPTIMIZATION, Pair
from orchestrator.report.words import fewest_runs, signed
from orchestrator.store.schema import quoted_from

_SPEED = ("throughput", "e2e")
_MEASURES = {
    "throughput": "tokens/s",
    "goodput": "requests within the limits",
    "e2e": "E2E",
    "ttft": "TTFT",
    "accuracy": "accuracy",
}
_MORE = {"throughput": "more", "goodput": "more", "e2e": "longer", "ttft": "longer", "accuracy": "higher"}
_LESS = {"throughput": "fewer", "goodput": "fewer", "e2e": "shorter", "ttft": "shorter", "accuracy": "lower"}
_GOALS = {"throughput": "tokens/s", "goodput": "requests within the limits"}


@dataclass(frozen=True)
class Overall:
    """Of one optimization: ``verdict`` says whether to switch it on, and why; ``counts``: in how many of its
    comparisons its tokens/s, goodput, E2E, TTFT and accuracy were higher or lower, from what to what, and how
    many of these differences are significant; empty for one comparison, whose own lines say all."""

    opt: str
    verdict: str
    counts: str


def overall(lines: Sequence[Line], options: Options) -> list[Overall]:
    """One for each optimization that was compared with its baseline."""
    found: dict[tuple[str, str], dict[Pair, list[Line]]] = {}
    for line in lines:
        if line.pair.axis is OPTIMIZATION:
            key = line.pair.variant.facts["opt"], line.pair.baseline.facts["opt"]
            found.setdefault(key, {}).setdefault(line.pair, []).append(line)
    return [
        Overall(_named(opt), _verdict(list(of.values()), options), _counts(opt, baseline, list(of.values())))
        for (opt, baseline), of in found.items()
    ]


def _named(opt: str) -> str:
    return "no optimization" if opt == "none" else opt


def _verdict(pairs: Sequence[Sequence[Line]], options: Options) -> str:
    """By what decides the answers: goodput where there are limits, else tokens/s, and accuracy."""
    goals = [goal for of in pairs if (goal := goal_of(of)) is not None]
    count = len(pairs)
    if not goals:
        return "Not decided: what it gave could not be compared."
    of_goals = {goal.measure.key for goal in goals}
    more = " or ".join(name for key, name in _GOALS.items() if key in of_goals)
    gains = sum(is_gain(of, options) for of in pairs)
    raised = sum(goal.verdict == "different" and bool(goal.better) for goal in goals)
    lowered = sum(goal.verdict == "different" and goal.better is False for goal in goals)
    costly = sum(loses_accuracy(of) for of in pairs)
    in_all = f"in {_of(count, count)}"
    if gains == count:
        graded = all(line_of(of, "accuracy") is not None for of in pairs)
        held = (
            f"accuracy is not lower by {_points(options)}"
            if graded
            else "what it does to accuracy is not graded everywhere"
        )
        return f"Yes: more {more} {in_all}, and {held}."
    if gains and not lowered and not costly:
        return f"Yes where it is shown: more {more} in {_of(gains, count)}; it is not shown in the others."
    if gains:
        lost = [f"fewer {more} in {lowered}"] if lowered else []
        lost += [f"lower accuracy in {costly}"] if costly else []
        return f"It depends: more {more} in {_of(gains, count)}, but {' and '.join(lost)}."
    if costly:
        gives = f"it gives more {more}"
        shown = (
            f"although {gives} in {_of(raised, count)}" if raised else f"and that {gives} is shown in none"
        )
        return f"No: accuracy is lower in {_of(costly, count)}, {shown}."
    if lowered:
        return f"No: fewer {more} in {_of(lowered, count)}, and more in none."
    if raised:
        return (
            f"Not decided: more {more} in {_of(raised, count)}, but that accuracy is not lower by "
            f"{_points(options)} is not shown."
        )
    if len(goals) == count and all(goal.verdict == "equivalent" for goal in goals):
        return f"No need: {more} are unchanged within {100 * options.time_margin:g} % {in_all}."
    ordered = sorted(goals, key=lambda goal: goal.difference or 0.0)
    return f"Not decided: {more} {_span(ordered)}, which no test shows. {_how_to_know(goals)}".rstrip()


def _of(some: int, count: int) -> str:
    """``3 of 4 comparisons``."""
    if count == 1:
        return "the one comparison"
    return f"all {count} comparisons" if some == count else f"{some} of {count} comparisons"


def _points(options: Options) -> str:
    return f"{100 * options.accuracy_margin:g} points"


def _how_to_know(goals: Sequence[Line]) -> str:
    single = [goal for goal in goals if goal.verdict == "within this run"]
    if not single or quoted_from(single[0].pair.variant.row) is not None:
        return ""
    runs = max(fewest_runs(goal) for goal in single)
    return f"With one run on a side none could: measure again with runs={runs}."


def _counts(opt: str, baseline: str, pairs: Sequence[Sequence[Line]]) -> str:
    """Empty for one comparison, whose own lines say all."""
    lines = [
        line for of in pairs for line in of if line.measure.key in _MEASURES and line.difference is not None
    ]
    if len(pairs) < 2 or not lines:
        return ""
    return f"{_named(opt)} against {_named(baseline)}: {'; '.join(_parts(lines))}. {_speed(lines)}"


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
    return f"{', '.join(where) or 'the same'} ({_span(ordered)}), {_significant(key, ordered)}"


def _span(ordered: Sequence[Line]) -> str:
    """``+1.7 to +4.7 %``, of the least and the most."""
    least, most = (signed(line, line.difference) for line in (ordered[0], ordered[-1]))
    unit = " points" if ordered[0].measure.key == "accuracy" else " %"
    return most if least == most else f"{least.removesuffix(unit)} to {most}"


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
