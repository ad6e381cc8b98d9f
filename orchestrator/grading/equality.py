"""Whether an answer equals the reference.

Numbers are compared exactly, as fractions: no tolerance, so that 10001 is not 10000. What is not a number
goes to ``math-verify``, which compares symbolically.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_LONGEST = 500  # characters; no reference comes near, and sympy's time grows fast

_SPACE = re.compile(r"(?<!\\)\\[ ,;:!>]|\\quad\b|\\qquad\b|~|\s+")
_WRAP = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|mathrm|mathbf|mathit|mathsf|mbox|hbox|operatorname)\b"
)
_UNIT = re.compile(r"(?<=[\d}%)])\s*\\text\s*\{[^{}]*\}(?:\s*\^\s*\{?\d\}?)?$")
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree\b")
_LABEL = re.compile(r"^\s*(?:[A-Za-z]\w{0,2}|[a-z]\([a-z]\))\s*(?:=|\\in\b|∈)\s*(?=\S)")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_FRAC = re.compile(r"\\frac\s*(\{[^{}]*\}|\d|[a-zA-Z])\s*(\{[^{}]*\}|\d|[a-zA-Z])")

_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?:
        (?P<whole>\d+)?\s*\\frac\{{(?P<n>-?\d+)\}}\{{(?P<d>-?\d+)\}}
      | (?:(?P<whole2>\d+)\s+)?(?P<n2>\d+)\s*/\s*(?P<d2>\d+)
      | \\frac\{{(?P<n3>-?{_DECIMAL})\}}\{{(?P<d3>-?{_DECIMAL})\}}
      | (?P<decimal>{_DECIMAL})
        (?:\s*(?:\\times|\\cdot|×|\*|x)\s*10\s*\^\s*\{{?\s*(?P<power>[-+]?\d{{1,3}})\s*\}}?|[eE](?P<exp>[-+]?\d{{1,3}}))?
    )(?:\s*(?P<percent>%|percent\b|percentage\b|pct\b))?""",
    re.VERBOSE,
)
_BASE = re.compile(r"(?<=\d)_\{?\d+\}?$")
# What may follow a number that is the whole answer: nothing, or words. "3 and 4" is two numbers.
_UNIT_WORDS = re.compile(
    r"""\s*(?: $ | [¢€£] | \([A-Za-z]{2,}
        | [,;]\s+ (?!(?:and|or)\s+[-$\\\d]) [A-Za-z]{2,}
        | [-\s]\s* (?!(?:and|or)\s+[-$\\\d]) (?!(?:to|plus|minus|times|over|divided)\b) [A-Za-z]{2,}\b
          (?: \^\{?[23]\}?$ | (?!\s*[=^]) ) )""",
    re.VERBOSE,
)
# "6 + 8" gives the question back. Fractions, powers and roots of numbers are left to math-verify.
_UNDONE = re.compile(r"\d\s*(?:[-+*×÷]|\\times\b|\\cdot\b|\\div\b)\s*[\d.]")
_ABOUT = re.compile(
    r"^(?:approximately|about|around|roughly|exactly|only|just|a total of|equal to|≈|\\approx"
    r"|USD|EUR|GBP|Rs\.?)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value; ``decimals`` is how many digits were written after the point (None: a fraction)."""

    value: Fraction
    percent: bool
    decimals: int | None


def equal(reference: str, answer: str) -> bool:
    """Whether ``answer`` is the same mathematical object as ``reference``, both LaTeX, plain text or numbers.

    A numeral's base may be left out. Units and a percent sign that the other side lacks do not count: 45 %
    is 45, and also 0.45 (but 200 % is not 2). A decimal equals a fraction without a finite
    decimal form when it is that fraction rounded at the sixth decimal or later.

    Can take arbitrarily long on a hostile expression: see `orchestrator.grading.grade_many`.
    """
    if len(answer) > _LONGEST:
        return False
    expected, given = normalized(reference), normalized(answer)
    if not given or not expected:
        return False
    if _compact(expected) == _compact(given):
        return True
    if base := _BASE.search(expected):  # math-verify reads 52_8 and 52_9 as 52
        return _compact(given) == expected[: base.start()]
    expected_number, given_number = number(expected), read_number(given)
    if expected_number is not None and given_number is not None:
        return _same_number(expected_number, given_number)
    if expected_number is not None and _UNDONE.search(given):
        return False
    if _is_text(expected) or _is_text(given):
        return False  # equal texts were found above, and a formula is no text
    return _symbolic(expected, re.sub(r",?\s+(?:and|or)\s+", ", ", given))


def normalized(text: str) -> str:
    """The text without what does not change its meaning: delimiters, spacing and sizing commands, units,
    degree signs, thousands commas, a leading "x =", and with one spelling of fractions."""
    text = text.strip().strip("$").strip()
    text = re.sub(r"^\\[(\[]|\\[)\]]$", "", text).strip()
    text = text.replace("−", "-").replace("–", "-").replace("{,}", ",").replace("\\$", "").replace("\\%", "%")
    text = re.sub(r",\s*\\!\s*", ",", text)
    text = re.sub(r"\\(?:left|right|bigl?|bigr|Bigl?|Bigr|displaystyle|textstyle)\b\s*(?![a-zA-Z])", "", text)
    text = re.sub(r"\\[dtc]frac", r"\\frac", text)
    text = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", text)
    text = _WRAP.sub(r"\\text", _DEGREE.sub("", text))
    text = re.sub(r"\\(?=%|\$)", "", text).rstrip(" .,;:")
    text = _UNIT.sub("", _SPACE.sub(" ", text).strip())
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text).strip()
    text = _LABEL.sub("", text.replace("$", "")).strip()
    text = _FRAC.sub(lambda m: rf"\frac{_group(m[1])}{_group(m[2])}", text)
    if not re.search(r"[(\[{]", re.sub(r"\\frac\{[^{}]*\}\{[^{}]*\}", "", text)):
        text = _THOUSANDS.sub(lambda m: m.group().replace(",", ""), text)
    return text


def _group(text: str) -> str:
    return text if text.startswith("{") else f"{{{text}}}"


def _compact(text: str) -> str:
    """For comparing spellings: no spaces, no braces around one token, a lone choice without parentheses,
    words without case."""
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"([_^])\{(\w)\}", r"\1\2", text)
    text = re.sub(r"^\((\w)\)$", r"\1", text)
    return text.lower() if _is_text(text) else text


def _is_text(text: str) -> bool:
    return re.fullmatch(r"\(?[A-Za-z][A-Za-z\s'’-]+\)?", text) is not None


def number(text: str) -> Number | None:
    """The number that ``text`` is as a whole: an integer, decimal, fraction, mixed number, or a decimal
    times a power of ten, with an optional percent sign. The text is `normalized`."""
    match = _NUMBER.fullmatch(text)
    return None if match is None else _number(match)


def read_number(text: str) -> Number | None:
    """As `number`, also with words around: "about 18 dollars for the 7 days", "x + 2 = 18"."""
    for part in dict.fromkeys((text, text.rpartition("=")[2])):
        part = _ABOUT.sub("", part.strip()).lstrip("$€£ ")
        match = _NUMBER.match(part)
        if match is not None and _UNIT_WORDS.match(part, match.end()):
            return _number(match)
    return None


def _number(match: re.Match[str]) -> Number | None:
    part = match.groupdict()
    sign = -1 if part["sign"] == "-" else 1
    decimals: int | None = None
    try:
        if part["decimal"] is not None:
            power = int(part["power"] or part["exp"] or 0)
            value = Fraction(part["decimal"].rstrip(".")) * Fraction(10) ** power
            decimals = len(part["decimal"].partition(".")[2])
        elif part["n3"] is not None:
            value = Fraction(part["n3"]) / Fraction(part["d3"])
        else:
            whole = Fraction(part["whole"] or part["whole2"] or 0)
            value = whole + Fraction(part["n"] or part["n2"]) / Fraction(part["d"] or part["d2"])
    except ZeroDivisionError:
        return None
    return Number(sign * value, part["percent"] is not None, decimals)


def _same_number(expected: Number, given: Number) -> bool:
    values = {given.value}
    if given.percent and not expected.percent and expected.value.denominator > 1:
        values.add(given.value / 100)
    if expected.percent and not given.percent and given.value.denominator > 1:
        values.add(given.value * 100)
    if expected.value in values:
        return True
    if expected.decimals is None and given.decimals is not None and given.decimals >= 6:
        return any(abs(expected.value - value) <= Fraction(1, 2 * 10**6) for value in values)
    return False


def _symbolic(expected: str, given: str) -> bool:
    try:
        from math_verify import verify

        return bool(
            verify(_parsed(expected), _parsed(given), timeout_seconds=None, allow_set_relation_comp=True)
        )
    except Exception:  # sympy and its parser raise whatever they meet; what cannot be compared is not equal
        return False


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    # Its own time limits need signals, which only work in a main thread, and it warns that they are off.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    parsed: list[Any] = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)
    return parsed
