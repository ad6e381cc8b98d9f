"""Whether an answer equals the reference.

Numbers are compared exactly, as fractions: no tolerance, so that 10001 is not 10000 and 10^-20 not 10^-21.
Lists, tuples, intervals, sets and matrices are compared entry by entry. Other expressions are read by
``math-verify`` and compared exactly by sympy; relations and what else it reads, by ``math-verify`` itself.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product

from orchestrator.grading import quantity, symbolic, units
from orchestrator.grading.notation import is_prose
from orchestrator.grading.quantity import Quantity
from orchestrator.grading.spelling import (
    SYMBOL,
    compact,
    has_relation,
    is_text,
    normalized,
    split,
    unlabelled,
)

_LONGEST = 10_000  # characters; no reference comes near

_BASE = re.compile(r"(?<=[\dA-F])_\{?\d+\}?$")
# "6 + 8" gives the question back. Fractions, powers and roots of numbers are left to the symbolic comparison.
_UNDONE = re.compile(r"\d\s*(?:[-+*×÷]|\\times\b|\\cdot\b|\\div\b)\s*(?:[\d.]|\\frac\{\d)")
_NAME = r"(?:[A-Za-z](?:_?\{?\w\}?)?|[A-Z]{2,3})\s*(?:[=,;\\^+/*-]|$|(?:and|or)\b)"
_ENTRY = rf"(?=\s*(?:[^A-Za-z\s]|(?!a\s){_NAME}))"  # words go on with the same entry
_SEPARATOR = re.compile(rf"[,;]\s*(?:(?:and|or)\b)?{_ENTRY}|\b(?:and|or)\b{_ENTRY}|&(?!=)|\\\\")
_WORD_SEPARATOR = re.compile(r"[,;]\s*(?:(?:and|or)\b)?|\b(?:and|or)\b")
_EQUALS = re.compile(r"(?<![<>!\\=:])=(?!=)|\\approx(?![A-Za-z])")
_BRACKETS = re.compile(r"(\\\{|[(\[])(.*)(\\\}|[)\]])", re.DOTALL)
_NAMED_TUPLE = re.compile(rf"\s*\(\s*({SYMBOL}(?:\s*,\s*{SYMBOL})+)\s*\)\s*=(?!=)\s*")
_MATRIX = re.compile(r"\\begin\{([pbvBV]?)matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
_NUMBERS_ONLY = re.compile(r"(?:[\d\s.,+*/(){}^-]|\\(?:frac|sqrt|pi|cdot|times)(?![A-Za-z]))*")
# Words that make another number of what stands beside them.
_JOINED = re.compile(
    r"(?<![\\A-Za-z])(?:times|over|less|more|than|out|of|to|by|divided|multiplied|twice|thrice|half|double|triple"
    r"|squared|cubed|except|and|or|per|each|every|not|is|from)(?![A-Za-z])",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"\\[A-Za-z]+")
# In which letters are named in a tuple without labels.
_ORDERS = ("abcdefgh", "hk", "ijk", "mn", "pqrstuvwxyz")
_NAMED_UNIT = re.compile(r"\s+(?=[A-Za-z])|\s*(?=\^\s*\{?\s*\\circ)")
_CLOSE = Fraction(1, 2 * 10**6)
_RELATIVELY = Fraction(5, 10**6)


def equal(reference: str, answer: str) -> bool:
    """Whether ``answer`` is the same mathematical object as ``reference``, both LaTeX, plain text or numbers.

    A numeral's base may be left out, and a unit that the other side lacks. A percent sign is one hundredth:
    15 % is 0.15; but where it must have been asked for in percent, because the reference is an integer or
    more than 1, 45 % is also 45 (0.25 % is not 0.25). A decimal equals a number without a finite decimal
    form when it is that number rounded at the sixth decimal or later. A leading bare label ("x =") does not
    count; a relation does.

    Can take arbitrarily long on a hostile expression: see `orchestrator.grading.grade_many`.
    """
    if max(len(answer), len(reference)) > _LONGEST:
        return False
    expected, given = normalized(reference), normalized(answer)
    return bool(expected and given) and _same(expected, given)


def _same(expected: str, given: str) -> bool:
    if compact(expected) == compact(given):
        return True
    ours, theirs = _assignments(expected), _assignments(given)
    if len(ours) > 1 or len(theirs) > 1:
        return _same_lists(ours, theirs)
    (_, expected), (_, given) = ours[0], theirs[0]
    if compact(expected) == compact(given):
        return True
    ours_base, theirs_base = _BASE.search(expected), _BASE.search(given)
    if ours_base or theirs_base:  # the parser reads 52_8 and 52_9 as 52
        return _same_numerals(expected, given, ours_base, theirs_base)
    if (entries := _same_entries(expected, given)) is not None:
        return entries
    if len(chain := _parts(given, _EQUALS)) > 1 and not has_relation(expected):
        return _same_chain(expected, chain, labelled=bool(theirs[0][0]), rounded="\\approx" in given)
    return _same_single(expected, given)


def _same_numerals(
    expected: str, given: str, ours: re.Match[str] | None, theirs: re.Match[str] | None
) -> bool:
    """Numerals are the same in the same base; the answer may leave it out, and say a reference's base ten."""
    digits = compact(expected[: ours.start()] if ours else expected)
    said = compact(given[: theirs.start()] if theirs else given)
    our_base = ours.group().strip("_{}") if ours else "10"
    their_base = theirs.group().strip("_{}") if theirs else our_base
    return digits == said and our_base == their_base


def _same_single(expected: str, given: str) -> bool:
    expected_number, given_number = quantity.read(expected, letters=False), quantity.read(given)
    if expected_number is not None and given_number is not None:
        return same_number(expected_number, given_number)
    if is_text(expected) or is_text(given) or is_prose(given) or is_prose(expected):
        return False  # equal texts were found above, and a formula is no text
    if (_JOINED.search(given) and not _JOINED.search(expected)) or re.search(r"\d\s+\d", given):
        return False
    expected, expected_unit = _without_unit(expected)
    given, given_unit = _without_unit(given)
    if expected_unit and given_unit and not _same_unit(expected_unit, given_unit):
        return False
    if expected_number is not None:
        if _UNDONE.search(given) or has_relation(given):
            return False
        expected = str(expected_number.value)
    given_decimal = given_number if given_number is not None and not given_number.percent else None
    if "$" in given or "%" in given or "%" in expected:
        return False
    return symbolic.same(expected.replace("$", ""), given, given_decimal)


def _same_chain(expected: str, chain: list[str], *, labelled: bool, rounded: bool) -> bool:
    """ "9 * 2 = 18", "P = 3/36 = 1/12", "1/3 ≈ 0.33": right when its end (or what it approximates) is, and
    its parts are equal, so that "2x = 5" and "3 = 5" are not 5. After a label ("A = lw = 12") a number may
    have formulas before it."""
    *before, last = chain
    if not last or not all(before):
        return False
    if labelled and not _has_variables(last):
        before = [part for part in before if not _has_variables(part)]
    if _same(expected, last) and all(_same_parts(last, part) for part in before):
        return True
    return len(chain) == 2 and _same(expected, chain[0]) and _rounds(chain[0], last, rounded)


def _has_variables(text: str) -> bool:
    return re.search(r"[A-Za-df-hj-z]", _COMMAND.sub(" ", _without_unit(text)[0])) is not None


def _same_parts(last: str, part: str) -> bool:
    if _same(last, part):
        return True
    number = quantity.read(last)
    value = _without_unit(last)[0].strip("$") if number is None or number.percent else str(number.value)
    return symbolic.same(value, part.replace("$", ""), None)


def _rounds(exact: str, rounded: str, said: bool) -> bool:
    """Whether the second is the first rounded. Unless that is ``said`` ("≈"), it needs two decimals, and a
    first that has no short decimal form: "5/3 = 2" and "1/8 = 0.12" are wrong."""
    value, number = symbolic.value(exact), quantity.read(rounded)
    if value is None or number is None or number.decimals is None:
        return False
    if not said and (number.decimals < 2 or (value * 10**12).denominator == 1):
        return False
    return abs(value - number.value) <= Fraction(1, 2 * 10**number.decimals)


def _assignments(text: str) -> list[tuple[str, str]]:
    """The label ("" where it has none) and the value of each entry of a list, a plus-minus being two."""
    entries = []
    if (named := _NAMED_TUPLE.match(text)) and (values := _inside(text[named.end() :])):
        labels = [label.strip() for label in named[1].split(",")]
        if len(labels) == len(values[1]):
            return list(zip(labels, values[1], strict=True))
    inner = re.fullmatch(r"\\\{(.*)\\\}", text, re.DOTALL)
    separator = _WORD_SEPARATOR if re.fullmatch(r"[A-Za-z ,;]+", text) else _SEPARATOR
    for part in _parts(inner[1] if inner and _is_one_bracket(text) else text, separator):
        if not part:
            continue
        label, value = unlabelled(part)
        if label and has_relation(value) and not _EQUALS.search(value):
            label, value = "", part
        if "\\pm" in value and "\\mp" not in value and value.count("\\pm") == 1:
            entries += [(label, value.replace("\\pm", sign).strip().removeprefix("+")) for sign in "+-"]
        else:
            entries.append((label, value))
    return entries or [("", text)]


def _same_lists(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> bool:
    our_labels, their_labels = [label for label, _ in ours], [label for label, _ in theirs]
    if len(theirs) == 1:  # a list in brackets for a bare list of assignments
        inner = _inside(theirs[0][1])
        theirs = [("", part) for part in inner[1]] if inner and any(our_labels) else theirs
        return len(theirs) > 1 and _in_order(ours, theirs)
    if len(ours) == 1:
        inner = _inside(ours[0][1])
        if inner is None or len(set(their_labels)) != len(theirs):
            return False
        return _in_order([("", part) for part in inner[1]], _by_convention(theirs))
    if len(ours) != len(theirs):
        return False
    distinct = len(set(their_labels)) == len(theirs) and all(their_labels)
    if all(our_labels) and len(set(our_labels)) == len(ours):
        if distinct:
            if {compact(label) for label in our_labels} != {compact(label) for label in their_labels}:
                return False
            key = _by_label
            return _in_order(sorted(ours, key=key), sorted(theirs, key=key))
        return not any(their_labels) and _in_order(ours, theirs)
    if distinct:
        return _in_order(ours, _by_convention(theirs))
    return _in_any_order([value for _, value in ours], [value for _, value in theirs])


def _by_label(entry: tuple[str, str]) -> str:
    return compact(entry[0])


def _by_convention(theirs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Assignments in the order in which a tuple has them: x before y, a_1 before a_2. None of them where the
    letters have no usual order: (m, b) or (b, m)."""
    entries = sorted(theirs, key=_by_label)
    letters = "".join(compact(label)[:1] for label, _ in entries)
    usual = len(set(letters)) == 1 or any(letters in order for order in _ORDERS)
    return entries if letters and usual else []


def _in_order(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> bool:
    return len(ours) == len(theirs) and all(_same(a[1], b[1]) for a, b in zip(ours, theirs, strict=True))


def _in_any_order(ours: list[str], theirs: list[str]) -> bool:
    left = list(theirs)
    for one in ours:
        found = next((i for i, other in enumerate(left) if _same(one, other)), None)
        if found is None:
            return False
        del left[found]
    return not left


def _same_entries(expected: str, given: str) -> bool | None:
    """For two matrices, tuples or intervals; None where these are not two of these."""
    ours, theirs = _MATRIX.fullmatch(expected), _MATRIX.fullmatch(given)
    if ours and theirs:
        rows = [[re.split(r"(?<!\\)&", row) for row in m[2].strip().split("\\\\")] for m in (ours, theirs)]
        rows = [
            [[cell.strip() for cell in row] for row in matrix if any(map(str.strip, row))] for matrix in rows
        ]
        if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
            return False
        pairs = [pair for row in zip(*rows, strict=True) for pair in zip(*row, strict=True)]
        return all(_same(normalized(a), normalized(b)) for a, b in pairs)
    our, their = _inside(expected), _inside(given)
    if our is None or their is None:
        return None
    if our[0] != their[0] or len(our[1]) != len(their[1]):
        return False
    return all(_same(normalized(a), normalized(b)) for a, b in zip(our[1], their[1], strict=True))


def _inside(text: str) -> tuple[str, list[str]] | None:
    """The two brackets around the whole of ``text`` and the entries between, if there are several."""
    match = _BRACKETS.fullmatch(text.strip())
    if match is None or not _is_one_bracket(text.strip()):
        return None
    parts = _parts(match[2], re.compile(","))
    return (match[1] + match[3], parts) if len(parts) > 1 else None


def _is_one_bracket(text: str) -> bool:
    depth = 0
    for i, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and i < len(text) - 1 and not (i == 0 and character == "\\"):
            return False
    return depth == 0


def _parts(text: str, separator: re.Pattern[str]) -> list[str]:
    if separator.search(text) is None or "\\begin" in text:
        return [text]

    def length(string: str, i: int) -> int:
        match = separator.match(string, i)
        return len(match.group()) if match else 0

    return split(text, length)


def _without_unit(text: str) -> tuple[str, str]:
    for gap in _NAMED_UNIT.finditer(text):
        if gap.start() and (found := units.unit(text, gap.start())) and not text[found[1] :].strip():
            one_letter = all(len(word) == 1 for word in re.findall(r"[A-Za-z]+", text[gap.start() :]))
            if one_letter and not _NUMBERS_ONLY.fullmatch(text[: gap.start()]):
                continue
            return text[: gap.start()], found[0]
    return text, ""


def _same_unit(expected: str, given: str) -> bool:
    if expected.startswith("deg") and given.startswith("deg"):
        return "deg" in (expected, given) or expected == given
    return expected == given


def same_number(expected: Quantity, given: Quantity) -> bool:
    if expected.unit and given.unit and not _same_unit(expected.unit, given.unit):
        return False
    ours, theirs = {expected.value}, {given.value}
    if given.percent and not expected.percent:
        theirs = _without_percent(given.value, asked=expected.value)
    if expected.percent and not given.percent:
        ours = _without_percent(expected.value, asked=given.value)
    if ours & theirs:
        return True
    if expected.decimals is None and given.decimals is not None and given.decimals >= 6 and given.digits >= 5:
        pairs = product(ours, theirs)
        return any(abs(a - b) <= min(_CLOSE, abs(a) * _RELATIVELY) and _is_endless(a) for a, b in pairs)
    return False


def _without_percent(value: Fraction, asked: Fraction) -> set[Fraction]:
    """What a percentage is beside ``asked``, a number without a percent sign."""
    values = {value / 100} if asked.denominator > 1 else set()
    if asked.denominator == 1 or abs(asked) >= 1:
        values.add(value)
    return values


def _is_endless(value: Fraction) -> bool:
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest > 1
