"""Families of bare numbers: one operation, expressions, long division, greatest common divisors."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from orchestrator.worked.draw import Draw
from orchestrator.worked.pen import Pen, value
from orchestrator.worked.problem import NAMES, THINGS, Problem, by_level

_DIGITS = by_level(2, 2, 3, 4, 6, 8, 10, 12)
_FACTORS = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (3, 2), 6: (4, 2), 7: (3, 3), 8: (4, 3)}
_ASKED = {
    "+": (
        "What is {a} + {b}?",
        "Calculate {a} + {b}.",
        "Add {a} and {b}.",
        "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
        "{name} has {a} {things}. {name} buys {b} more {things}. How many {things} is that in total?",
    ),
    "-": (
        "What is {a} - {b}?",
        "Calculate {a} - {b}.",
        "Subtract {b} from {a}.",
        "{name} has {a} {things} and gives away {b} of them. How many {things} does {name} have left?",
    ),
    "*": (
        "What is {a} * {b}?",
        "What is {a} times {b}?",
        "Calculate {a} * {b}.",
        "{name} has {a} boxes with {b} {things} in each. How many {things} does {name} have?",
    ),
}


def operation(draw: Draw, level: int) -> Problem:
    """One sum, difference or product, digit by digit where it is not small."""
    op = draw.pick("+-*")
    if op == "*":
        a, b = (_of_digits(draw, digits) for digits in _FACTORS[level])
        if draw.chance(0.3):
            a, b = b, a
    else:
        digits = _DIGITS[level]
        a, b = (_of_digits(draw, draw.between(max(1, digits - 1), digits)) for _ in "ab")
        a, b = (max(a, b), min(a, b)) if op == "-" else (a, b)
    text = draw.pick(_ASKED[op]).format(a=a, b=b, name=draw.pick(NAMES), things=draw.pick(THINGS))

    def think(pen: Pen) -> None:
        if max(a, b) < 20 or (op == "*" and a * b < 200):
            pen.single(a, op, b)
        elif op == "*":
            pen.product(a, b, at_once=level > 5)
        else:
            pen.columns(a, op, b)

    return Problem("operation", level, f"{a}{op}{b}", text, value(a, op, b), think)


def _of_digits(draw: Draw, digits: int) -> int:
    return draw.between(10 ** (digits - 1) if digits > 1 else 2, 10**digits - 1)


_TERMS = by_level(2, 2, 3, 3, 4, 4, 5, 6)
_PLAIN = by_level(20, 50, 99, 150, 300, 900, 3000, 9000)
_FACTOR = by_level(9, 12, 20, 30, 60, 99, 200, 400)


@dataclass(frozen=True, slots=True)
class _Term:
    """``a``, ``a * b`` or, with ``inner``, ``(a inner c) * b``."""

    a: int
    b: int = 0
    inner: str = ""
    c: int = 0

    @property
    def bracket(self) -> int:
        return value(self.a, self.inner, self.c) if self.inner else self.a

    @property
    def total(self) -> int:
        return self.bracket * self.b if self.b else self.a

    def __str__(self) -> str:
        if self.inner:
            return f"({self.a} {self.inner} {self.c}) * {self.b}"
        return f"{self.a} * {self.b}" if self.b else str(self.a)


def expression(draw: Draw, level: int) -> Problem:
    """Brackets first, then products, then from left to right; never below 0 on the way."""
    while True:
        terms = [_term(draw, level) for _ in range(_TERMS[level])]
        signs = ["+", *(draw.pick("++-") for _ in terms[1:])]
        totals, total = [], 0
        for sign, term in zip(signs, terms, strict=True):
            total = value(total, sign, term.total)
            totals.append(total)
        if min(totals) >= 0 and any(term.b for term in terms):
            break
    formula = _joined(signs, [str(term) for term in terms])

    def think(pen: Pen) -> None:
        for term in terms:
            if term.inner:
                pen.single(term.a, term.inner, term.c)
        for term in terms:
            if term.b:
                pen.single(term.bracket, "*", term.b)
        pen.line(f"That leaves {_joined(signs, [str(term.total) for term in terms])}.")
        so_far = terms[0].total
        for sign, term in zip(signs[1:], terms[1:], strict=True):
            so_far = pen.single(so_far, sign, term.total)

    text = draw.pick(("What is {}?", "Calculate {}.", "Evaluate {}.")).format(formula)
    return Problem("expression", level, formula, text, totals[-1], think)


def _term(draw: Draw, level: int) -> _Term:
    kind = draw.random()
    if level >= 4 and kind < 0.25:
        a, b, c = draw.between(4, _FACTOR[level]), draw.between(2, 9), draw.between(2, _FACTOR[level])
        return _Term(max(a, c) + 1, b, draw.pick("+-"), min(a, c))
    if kind < 0.6:
        return _Term(draw.between(2, _FACTOR[level]), draw.between(2, 9))
    return _Term(draw.between(2, _PLAIN[level]))


def _joined(signs: list[str], terms: list[str]) -> str:
    return terms[0] + "".join(f" {sign} {term}" for sign, term in zip(signs[1:], terms[1:], strict=True))


_LONG = by_level(2, 3, 3, 4, 5, 6, 7, 8)
_BY = {1: (2, 9), 2: (2, 9), 3: (3, 9), 4: (3, 12), 5: (4, 19), 6: (11, 29), 7: (11, 99), 8: (101, 299)}
_QUOTIENT = (
    "How many times does {b} go into {a}?",
    "What is {a} divided by {b}, without the remainder?",
    "{name} packs {a} {things} into boxes of {b}. How many boxes are full?",
)
_REMAINDER = (
    "What is the remainder when {a} is divided by {b}?",
    "{name} packs {a} {things} into boxes of {b}. How many {things} are left over?",
)


def division(draw: Draw, level: int) -> Problem:
    """The quotient or the remainder, by long division."""
    b = draw.between(*_BY[level])
    a = max(_of_digits(draw, _LONG[level]), b + 1)
    wants = draw.pick(("quotient", "remainder"))
    asked = _QUOTIENT if wants == "quotient" else _REMAINDER
    text = draw.pick(asked).format(a=a, b=b, name=draw.pick(NAMES), things=draw.pick(THINGS))

    def think(pen: Pen) -> None:
        digits = str(a)
        taken = next(n for n in range(1, len(digits) + 1) if int(digits[:n]) >= b)
        rest = _divide(pen, int(digits[:taken]), b)
        for digit in digits[taken:]:
            rest = _divide(pen, rest * 10 + int(digit), b, f"Bring down {digit}: ")
        pen.line(f"The quotient is {a // b} and the remainder is {a % b}.")

    answer = a // b if wants == "quotient" else a % b
    return Problem("division", level, f"{a}/{b} {wants}", text, answer, think)


def _divide(pen: Pen, a: int, b: int, lead: str = "") -> int:
    """One digit of the quotient, in a line; gives what is left."""
    times = a // b
    if not times:
        pen.line(f"{lead}{a} is less than {b}, write 0.")
        return a
    pen.line(f"{lead}{a} / {b}: {times} * {b} = {times * b}, ")
    pen.result(a, "-", times * b, end=f", write {times}.")
    return a - times * b


_COMMON = by_level(9, 9, 12, 15, 20, 30, 40, 60)
_MULTIPLE = by_level(9, 12, 15, 20, 30, 50, 80, 150)


def divisor(draw: Draw, level: int) -> Problem:
    """The greatest common divisor, by Euclid's remainders."""
    common = draw.between(2, _COMMON[level])
    a, b = (common * draw.between(2, _MULTIPLE[level]) for _ in "ab")
    a, b = max(a, b), min(a, b)
    ask = draw.pick(("What is", "Find")) + " the greatest common divisor of {} and {}"
    first, second = (a, b) if draw.chance(0.5) else (b, a)

    def think(pen: Pen) -> None:
        x, y = a, b
        if x == y:
            pen.line("The two numbers are equal.")
        while x != y and y:
            pen.line(f"{x} / {y}: {x // y} * {y} = {x // y * y}, ")
            x, y = y, pen.result(x, "-", x // y * y)
        pen.line(f"The last one that is not 0 is {x}.")

    text = ask.format(first, second) + ("?" if ask.startswith("What") else ".")
    return Problem("divisor", level, f"{a},{b}", text, gcd(a, b), think)
