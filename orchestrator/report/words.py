"""Verdicts in plain words, and how much more it would take where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.metrics.runs import t_quantile
from orchestrator.metrics.significance import FEWEST_PAIRS, LEVEL, MAX_SPLITS
from orchestrator.report.comparisons import Line, margin_of
from orchestrator.report.options import Options, counted

MOST_RUNS = 50  # more than that nobody makes to decide one thing
_DIRECTION = {  # kind of the measure -> of a difference below and above 0
    "rate": ("lower", "higher"),
    "time": ("faster", "slower"),
    "tokens": ("fewer tokens", "more tokens"),
    "accuracy": ("worse", "better"),
}
_UNCHANGED = {"rate": "unchanged", "time": "unchanged", "tokens": "as long", "accuracy": "accuracy unchanged"}


def words(line: Line, options: Options) -> str:
    """What the line says."""
    if line.why_not is not None or line.comparison is None:
        return f"not compared: {line.why_not}"
    if line.verdict == "equivalent":
        return f"{_UNCHANGED[line.measure.kind]} within ±{_bound(line)}{by_block(line)}"
    if line.verdict == "different":
        return between(line) + by_block(line)
    if line.verdict == "within this run":
        inside = f"; within this run {between(line)}" if line.low is not None else ""
        return f"{signed(line, line.difference)} with one run on a side: no significance{inside}"
    if line.verdict == "too few" and line.low is None:
        return f"too few {line.comparison.unit}s to tell; {more(line, options)}"
    return f"not decided ({_range(line)}{by_block(line)}): {more(line, options)}"


def by_block(line: Line) -> str:
    """``, paired by block``, where runs are, and how many where some have no partner; else nothing."""
    found = None if line.comparison is None else line.comparison.pairing
    if found is None:
        return ""
    if found.paired == found.runs:
        return ", paired by block"
    sides = zip(found.paired, found.runs, strict=True)
    shares = dict.fromkeys(f"{paired} of {runs}" for paired, runs in sides)
    return f", {' against '.join(shares)} runs paired by block"


def units(line: Line) -> str:
    """What the comparison is made of: ``4 against 4 runs``, ``200 questions``."""
    found = line.comparison
    if found is None:
        return "–"
    if found.unit == "item":
        return counted(found.units, "question")
    if found.pairing is not None and found.pairing.paired != found.pairing.runs:
        return by_block(line).removeprefix(", ")
    a, b = len(line.pair.baseline.runs), len(line.pair.variant.runs)
    return f"{a} against {counted(b, 'run')}{by_block(line)}"


def between(line: Line) -> str:
    """``slower by 4 to 9 %``; with both signs, ``between −2 and +9 %``."""
    if line.low is None or line.high is None:
        return "no interval"
    if line.low < 0 < line.high:
        return f"between {_range(line)}"
    below, above = _DIRECTION[line.measure.kind]
    word = below if line.high <= 0 and line.low < 0 else above
    near, far = sorted((abs(line.low), abs(line.high)))
    return f"{word} by {amounts(line, near, far)}"


def amounts(line: Line, near: float, far: float) -> str:
    first, second = _digits(near, far)
    unit = _unit(line)
    return f"{first} {unit}" if first == second else f"{first} to {second} {unit}"


def signed(line: Line, value: float | None) -> str:
    """A difference with its sign and unit, or a dash."""
    if value is None:
        return "–"
    text = _digits(abs(value), abs(value))[0]
    sign = "" if float(text.replace(",", "")) == 0 else "+" if value > 0 else "−"
    return f"{sign}{text} {_unit(line)}"


def more(line: Line, options: Options) -> str:
    """How many further runs, blocks or items would decide if what was seen is so."""
    comparison = line.comparison
    assert comparison is not None
    if comparison.unit == "block":
        needed = runs_needed(line, comparison.units, margin_of(line, options))
        if needed is None:
            return f"more than {MOST_RUNS} blocks would be needed"
        count = needed - comparison.units
        return f"{counted(count, 'block')} more would decide, if this is what is so"
    if comparison.unit == "run":
        have = min(len(line.pair.baseline.runs), len(line.pair.variant.runs))
        needed = runs_needed(line, have, margin_of(line, options))
        if needed is None:
            return f"more than {MOST_RUNS} runs a side would be needed"
        count = needed - have
        return f"{counted(count, 'run')} more on each side would decide, if this is what is so"
    items = items_needed(line, margin_of(line, options))
    if items is None:
        return "too few items to say how many would decide"
    count = max(1, items - comparison.items)
    return f"about {count:,} {'item' if count == 1 else 'items'} more would decide, if this is what is so"


def runs_needed(line: Line, have: int, margin: float) -> int | None:
    """The fewest runs a side (where they are paired: blocks) with which the difference seen, with the spread
    seen, is found significant at `LEVEL` over ``line.tests`` (Bonferroni's, which Holm's never exceeds), or
    equivalent. None beyond `MOST_RUNS`. With one run on a side the spread is not known, and it is what a test
    needs at all."""
    level = LEVEL / line.tests
    paired = line.comparison is not None and line.comparison.unit == "block"
    unseen = any(math.isnan(sd) for sd in line.spread)
    for runs in range(have + 1, MOST_RUNS + 1):
        if _smallest_p(runs, paired) > level:
            continue
        freedom = runs - 1 if paired else 2 * runs - 2
        if unseen:
            return runs
        error = math.sqrt(sum(sd**2 for sd in line.spread) / runs)
        difference = math.log1p(line.difference or 0.0)
        if abs(difference) > _t(level, freedom) * error:
            return runs
        if abs(difference) + t_quantile(freedom) * error < math.log1p(margin):
            return runs
    return None


def items_needed(line: Line, margin: float) -> int | None:
    """As `runs_needed`, of items: by the normal approximation, with the spread of the items' differences."""
    sd, difference = line.spread[1], abs(line.difference or 0.0)
    if not sd > 0:
        return None
    significant = math.inf if difference == 0 else (_z(LEVEL / line.tests) * sd / difference) ** 2
    equivalent = (_z(LEVEL) * sd / (margin - difference)) ** 2 if difference < margin else math.inf
    fewest = min(significant, equivalent)
    return None if math.isinf(fewest) else math.ceil(fewest)


def fewest_runs(line: Line) -> int:
    """Runs a side with which a difference can be significant at all among the line's tests; in blocks where
    those that there are were in blocks."""
    runs = (*line.pair.baseline.runs, *line.pair.variant.runs)
    paired = all(run.row.get("block") for run in runs)
    first = FEWEST_PAIRS if paired else 4  # fewer, too, but that rests on the values' being normal
    able = (runs for runs in range(first, MOST_RUNS) if _smallest_p(runs, paired) <= LEVEL / line.tests)
    return next(able, MOST_RUNS)


def _smallest_p(runs: int, paired: bool) -> float:
    """Of the test that `significance.between_runs` takes for this many runs a side, or `between_blocks`."""
    if runs < 3:
        return 1.0
    if paired:
        return 0.0
    splits = math.comb(2 * runs, runs)
    return 2 / splits if 2 / splits <= LEVEL and splits <= MAX_SPLITS else 0.0


def _t(level: float, freedom: int) -> float:
    from scipy.special import stdtrit  # here: scipy takes long to import

    return float(stdtrit(freedom, 1 - level / 2))


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - level / 2))


def _bound(line: Line) -> str:
    bound = max(abs(line.low or 0.0), abs(line.high or 0.0))
    return f"{_digits(bound, bound)[0]} {_unit(line)}"


def _range(line: Line) -> str:
    if line.low is None or line.high is None:
        return signed(line, line.difference)
    unit = _unit(line)
    low, high = (signed(line, end).removesuffix(f" {unit}") for end in (line.low, line.high))
    return f"{low} to {high} {unit}"


def _unit(line: Line) -> str:
    return "points" if line.measure.kind == "accuracy" else "%"


def _digits(*shares: float) -> Sequence[str]:
    """In hundredths, with as many digits as tell the values apart: none from 10 up, one below."""
    places = 0 if min(shares) >= 0.1 or (max(shares) >= 0.1 and min(shares) >= 0.02) else 1
    if max(shares) < 0.01:
        places = 2
    return [f"{100 * share:,.{places}f}" for share in shares]
