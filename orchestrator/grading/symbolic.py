"""Expressions compared exactly: read by ``math-verify``, compared by sympy without any absolute tolerance."""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

from orchestrator.grading.quantity import Quantity

_DIGITS = 60
_LONGEST = 1000  # characters: sympy's time grows fast
# Powers of powers of numbers, exponents of five digits, factorials of large numbers, sums and integrals take
# seconds to hours; nobody's answer to a question with another reference is one of them.
_HUGE = re.compile(
    r"""\d\s*[)}]?\s*\^\s*[{(]*\s*-?\d+\s*[)}]?\s*\^\s*[{(]*\s*-?\d | \^\s*[{(]*\s*-?\s*\d{5,}
      | (?:\d{4,}|\^\s*\{?\d+\}?|[)}])\s*! | !\s*! | \\binom\s*\{\s*\d{4,} | \d{400,}""",
    re.VERBOSE,
)
_UNFINISHED = re.compile(r"\\(?:sum|prod|int|lim|bigcup|bigcap|limits)(?![a-z])")
_TIMES_PI = re.compile(r"\\pi\s*(?=\()")  # no function
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree\b")


def same(expected: str, given: str, decimal: Quantity | None) -> bool:
    """Whether two normalized expressions are the same object. ``decimal`` is ``given`` as a number, where it
    is one: it equals an irrational number when it is that number rounded at the sixth decimal or later."""
    if max(len(expected), len(given)) > _LONGEST or _HUGE.search(given):
        return False
    if _UNFINISHED.search(given) and not _UNFINISHED.search(expected):
        return False
    try:
        return _same(expected, given, decimal)
    except Exception:  # sympy and its parser raise whatever they meet; what cannot be compared is not equal
        return False


def value(text: str) -> Fraction | None:
    """The number that an expression without variables is, to 60 digits."""
    if len(text) > _LONGEST or _HUGE.search(text) or _UNFINISHED.search(text):
        return None
    try:
        (expression, *_) = _parsed(text)
        return None if expression.free_symbols else Fraction(str(expression.doit().evalf(_DIGITS)))
    except Exception:
        return None


def _same(expected: str, given: str, decimal: Quantity | None) -> bool:
    import sympy
    from math_verify import verify

    ours, theirs = _parsed(expected), _parsed(given)
    if not ours or not theirs:
        return False
    if isinstance(ours[0], sympy.Expr) and isinstance(theirs[0], sympy.Expr):
        return _same_expressions(_rational(ours[0]), _rational(theirs[0]), decimal)
    return bool(verify(ours, theirs, timeout_seconds=None, allow_set_relation_comp=True))


def _same_expressions(ours: Any, theirs: Any, decimal: Quantity | None) -> bool:
    import sympy

    if ours == theirs:
        return True
    if not ours.free_symbols and not theirs.free_symbols:
        ours, theirs = ours.doit(), theirs.doit()
        if ours.is_Rational and theirs.is_Rational:
            return bool(ours == theirs)
        a, b = ours.evalf(_DIGITS), theirs.evalf(_DIGITS)
        if not (a.is_number and b.is_number) or a.has(sympy.nan, sympy.zoo) or b.has(sympy.nan, sympy.zoo):
            return False
        apart, size = abs(a - b), max(abs(a), abs(b))
        if apart <= size * sympy.Float("1e-45", _DIGITS):
            return True
        if decimal is not None and decimal.decimals and decimal.decimals >= 6 and decimal.digits >= 5:
            return bool(
                not ours.is_Rational and apart <= sympy.Rational(1, 2 * 10**6) and apart <= size * 5e-6
            )
        return False
    difference = ours - theirs
    return bool(sympy.expand(difference) == 0 or sympy.simplify(difference) == 0)


def _rational(expression: Any) -> Any:
    """With every decimal as the fraction that it was written as."""
    import sympy

    return expression.replace(lambda e: isinstance(e, sympy.Float), lambda e: sympy.Rational(str(e)))


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    # Its own time limits need signals, which only work in a main thread, and it warns that they are off.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    text = _TIMES_PI.sub(r"\\pi \\cdot ", _DEGREE.sub("", text))
    # Units were taken off where they are one; its own rule takes the height off "\\pi r^2 h".
    config = LatexExtractionConfig()
    config = replace(config, normalization_config=replace(config.normalization_config, units=False))
    parsed: list[Any] = parse(f"${text}$", [config], parsing_timeout=None)
    return parsed
