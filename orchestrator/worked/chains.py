"""Families of many small steps: stories, series of numbers, spans of time, rules that are applied again."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.worked.draw import Draw
from orchestrator.worked.pen import Pen
from orchestrator.worked.problem import NAMES, THINGS, Problem, by_level

_EVENTS = by_level(1, 2, 3, 4, 5, 6, 8, 10)
_MOST = by_level(30, 60, 99, 200, 500, 999, 4000, 20000)
_GAIN = ("{name} buys {b} more.", "{other} gives {name} {b} {things}.", "Then {name} finds {b} {things}.")
_LOSS = ("{name} gives {b} of them to {other}.", "{name} loses {b} of them.", "{name} sells {b} {things}.")
_TIMES = {
    2: "Then the number doubles.",
    3: "Then the number triples.",
    4: "Then the number becomes four times as large.",
}

_Step = Callable[[Pen], None]


def story(draw: Draw, level: int) -> Problem:
    """Someone's things, which become more and fewer."""
    name, things = draw.pick(NAMES), draw.pick(THINGS)
    start = x = draw.between(4, min(_MOST[level], 400))
    told, steps, key = [f"{name} has {x} {things}."], [], str(x)
    for _ in range(_EVENTS[level]):
        sentence, step, x, op = _event(draw, x, level)
        other = draw.pick([each for each in NAMES if each != name])
        told.append(sentence.format(name=name, other=other, things=things))
        steps.append((step, x))
        key += op
    end = draw.pick(("How many {} does {} have now?", "How many {} does {} have at the end?"))

    def think(pen: Pen) -> None:
        pen.line(f"{name} starts with {start} {things}.")
        for step, now in steps:
            pen.line()
            step(pen)
            pen.line(f"Now {name} has {now}.")

    text = " ".join([*told, end.format(things, name)])
    return Problem("story", level, key, text, x, think)


def _event(draw: Draw, x: int, level: int) -> tuple[str, _Step, int, str]:
    """What happens, the step that works it out, how many there are then, and the two in short. There are at
    least 2 before and after, and so every noun is a plural."""
    kind, most = draw.random(), _MOST[level]
    if kind < 0.15 and x % 2 == 0 and x > 4:
        half = x // 2

        def halved(pen: Pen) -> None:
            pen.add(f"Half of {x} is {half}, since ")
            pen.result(half, "+", half)

        return "{name} gives half of them to {other}.", halved, half, "/2"
    if kind < 0.3 and x * 4 <= most * 2:
        times = draw.between(2, 4)
        return _TIMES[times], _one(x, "*", times), x * times, f"*{times}"
    if kind < 0.45 and level >= 3:
        boxes, each = draw.between(2, 9), draw.between(3, 12 if level < 6 else 60)

        def unpacked(pen: Pen) -> None:
            got = pen.result(boxes, "*", each)
            pen.single(x, "+", got)

        told = f"{{name}} gets {boxes} boxes with {each} {{things}} in each."
        return told, unpacked, x + boxes * each, f"+{boxes}*{each}"
    if (kind < 0.72 or x > most) and x > 4:
        b = draw.between(2, x - 2)
        return draw.pick(_LOSS).replace("{b}", str(b)), _one(x, "-", b), x - b, f"-{b}"
    b = draw.between(2, max(12, most // 2))
    return draw.pick(_GAIN).replace("{b}", str(b)), _one(x, "+", b), x + b, f"+{b}"


def _one(a: int, op: str, b: int) -> _Step:
    def step(pen: Pen) -> None:
        pen.result(a, op, b)

    return step


_LENGTH = by_level(3, 4, 6, 8, 10, 12, 16, 20)
_LARGEST = by_level(20, 40, 60, 99, 200, 400, 900, 4000)


def series(draw: Draw, level: int) -> Problem:
    """A list of numbers: their sum, the largest, how many are even or above another."""
    numbers = [draw.between(2, _LARGEST[level]) for _ in range(_LENGTH[level])]
    listed = ", ".join(map(str, numbers))
    wants = draw.pick(("sum", "sum", "largest", "even", "above"))
    if wants == "sum":
        ask = ("Add up these numbers: {}.", "What is the sum of these numbers: {}?")
        text = draw.pick(ask).format(listed)
        return Problem("series", level, f"sum {listed}", text, sum(numbers), lambda pen: _sum(pen, numbers))
    if wants == "largest":
        text = f"Which is the largest of these numbers: {listed}?"
        return Problem("series", level, f"max {listed}", text, max(numbers), lambda pen: _max(pen, numbers))
    if wants == "even":
        text = f"How many of these numbers are even: {listed}?"
        fits = [number % 2 == 0 for number in numbers]
        words = ("is even", "is odd")
    else:
        limit = draw.between(_LARGEST[level] // 3, 2 * _LARGEST[level] // 3)
        text = f"How many of these numbers are greater than {limit}: {listed}?"
        fits = [number > limit for number in numbers]
        words = (f"is greater than {limit}", f"is not greater than {limit}")
        wants = f"above {limit}"
    return Problem(
        "series", level, f"{wants} {listed}", text, sum(fits), lambda pen: _count(pen, numbers, fits, words)
    )


def _sum(pen: Pen, numbers: list[int]) -> None:
    total = numbers[0]
    for number in numbers[1:]:
        total = pen.single(total, "+", number)


def _max(pen: Pen, numbers: list[int]) -> None:
    largest = numbers[0]
    pen.line(f"Start with {largest}.")
    for number in numbers[1:]:
        pen.line(f"{number} is {'larger' if number > largest else 'not larger'} than {largest}.")
        largest = max(largest, number)
    pen.line(f"The largest is {largest}.")


def _count(pen: Pen, numbers: list[int], fits: list[bool], words: tuple[str, str]) -> None:
    count = 0
    for number, fit in zip(numbers, fits, strict=True):
        count += fit
        pen.line(f"{number} {words[0]}: {count}." if fit else f"{number} {words[1]}.")
    pen.line(f"That makes {count}.")


_SPANS = by_level(1, 2, 3, 4, 5, 6, 8, 10)
_HOURS = by_level(9, 3, 3, 4, 5, 8, 12, 23)
_DOING = (
    *("reading", "walking", "cooking", "painting", "running", "writing"),
    *("swimming", "gardening", "singing", "sleeping", "cycling"),
)


def time(draw: Draw, level: int) -> Problem:
    """Hours and minutes, added up in minutes."""
    name = draw.pick(NAMES)
    least = 0 if level > 1 else 1
    spans = [(draw.between(least, _HOURS[level]), draw.between(1, 59)) for _ in range(_SPANS[level])]
    doing = draw.some(_DOING, len(spans))
    parts = [f"{_span(hours, minutes)} {what}" for (hours, minutes), what in zip(spans, doing, strict=True)]
    end = "How many minutes is that in total?" if len(spans) > 1 else "How many minutes is that?"
    text = f"{name} spends {', then '.join(parts)}. {end}"

    def think(pen: Pen) -> None:
        total = 0
        for number, (hours, minutes) in enumerate(spans):
            minutes_of = hours * 60 + minutes
            if hours:
                pen.line(f"{_span(hours, minutes)}: {hours} * 60 = {hours * 60}, ")
                pen.result(hours * 60, "+", minutes)
            else:
                pen.line(f"{minutes} min stay {minutes}.")
            if number:
                pen.line("In total: ")
                pen.result(total, "+", minutes_of)
            total += minutes_of

    total = sum(hours * 60 + minutes for hours, minutes in spans)
    return Problem("time", level, ",".join(f"{h}:{m}" for h, m in spans), text, total, think)


def _span(hours: int, minutes: int) -> str:
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


_AGAIN = by_level(2, 3, 4, 5, 6, 7, 8, 8)
_FACTORS = by_level(3, 4, 5, 6, 7, 8, 9, 9)
_CUT = by_level(2, 2, 2, 2, 2, 3, 3, 4)
_PLUS = by_level(20, 30, 40, 60, 99, 99, 300, 900)
_WORDS = {2: "two", 3: "three", 4: "four"}


def rule(draw: Draw, level: int) -> Problem:
    """A number that is multiplied, added to and cut to its last digits, several times."""
    kept = _CUT[level]
    start, times = draw.between(3, 40), _AGAIN[level]
    factor, plus = draw.between(2, _FACTORS[level]), draw.between(3, _PLUS[level])
    x = start
    for _ in range(times):
        x = (x * factor + plus) % 10**kept
    text = (
        f"Start with {start}. Do this {times} times: multiply by {factor}, add {plus}, and keep only the "
        f"last {_WORDS[kept]} digits. Which number do you end with?"
    )

    def think(pen: Pen) -> None:
        now = start
        for number in range(1, times + 1):
            pen.line(f"{number}: ")
            product = pen.result(now, "*", factor)
            pen.add(" ")
            grown = pen.result(product, "+", plus)
            now = grown % 10**kept
            if now != grown:
                pen.add(f" Keep {now}.")

    return Problem("rule", level, f"{start}*{factor}+{plus}x{times}%{kept}", text, x, think)
