"""Numbers written as English words: strict, so that what is only partly a number is none."""

from __future__ import annotations

import re
from fractions import Fraction

# These begin a clause that leaves the number or option before it alone.
CLAUSE = r"because|since|as|for|which|when|where|so"

_SMALL_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: i for i, word in enumerate(_SMALL_WORDS.split())}
_TENS = {word: 10 * i for i, word in enumerate(_TENS_WORDS.split(), start=2)} | {"fourty": 40}
SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "lakh": 10**5,
    "crore": 10**7,
}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
_PARTS |= {"ninth": 9, "tenth": 10, "hundredth": 100, "thousandth": 1000}
_PLURAL = {"halves": 2} | {f"{word}s": value for word, value in _PARTS.items() if word != "half"}
NUMBER_WORDS = frozenset(
    [*list(_SMALL)[1:11], *SCALES, *(f"{word}s" for word in SCALES), *_PARTS, *_PLURAL]
)  # up to ten, scales and fractions, as whole words
ORDINAL = (
    r"(?:\d+\s?(?:st|nd|rd|th)|first|second|third"
    r"|(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|\w{3,9}teen|n|k)th)"
)
_MOST_SCALES = 4  # "hundred thousand million": more is no number that anybody writes
_NEXT_WORD = re.compile(r"[\s-]*([A-Za-z]+)")
_TOKEN = re.compile(r"([A-Za-z]+)(?:[ -](?=[A-Za-z])|)")


def number(text: str, start: int = 0) -> tuple[Fraction, int] | None:
    """The number whose words begin at ``start`` ("forty-two", "two and a half", "three quarters", "half a
    million"), and where they end; None where none begins."""
    words: list[tuple[str, int]] = []
    position = start
    while (token := _TOKEN.match(text, position)) and len(words) < 24:
        words.append((token[1].lower(), token.end(1)))
        position = token.end()
    whole = _cardinal(words, 0)
    value, used = whole if whole is not None else (Fraction(0), 0)
    if part := _part(words, used, value if whole is not None else None):
        value, used = part
    elif whole is None:
        return None
    elif added := _and_part(words, used):
        value, used = value + added[0], added[1]
    return (value, words[used - 1][1]) if used else None


def and_part(text: str, start: int) -> tuple[Fraction, int] | None:
    """The "and a half" after a number, and where it ends."""
    space = re.compile(r"\s*").match(text, start)
    position = space.end() if space else start
    words: list[tuple[str, int]] = []
    while (token := _TOKEN.match(text, position)) and len(words) < 4:
        words.append((token[1].lower(), token.end(1)))
        position = token.end()
    found = _and_part(words, 0)
    return (found[0], words[found[1] - 1][1]) if found else None


def scaled(text: str, start: int) -> tuple[Fraction, int] | None:
    """The factor that scale and fraction words right after a number make, and where they end: "hundred
    thousand", "thirds"."""
    factor, end = Fraction(1), start
    for _ in range(_MOST_SCALES):
        word = _NEXT_WORD.match(text, end)
        if word is None:
            break
        name = word[1].lower()
        singular = name.removesuffix("s")
        if singular in SCALES:
            factor *= SCALES[singular]
        elif name in _PLURAL:
            factor /= _PLURAL[name]
        else:
            break
        end = word.end()
    return (factor, end) if end > start else None


def _cardinal(words: list[tuple[str, int]], i: int) -> tuple[Fraction, int] | None:
    total, group, used, last = 0, 0, 0, 10**30
    ones_allowed = tens_allowed = True
    while i < len(words):
        word = words[i][0]
        singular = word.removesuffix("s")
        if word in _SMALL and ones_allowed and (tens_allowed or 0 < _SMALL[word] < 10):
            group += _SMALL[word]
            ones_allowed = tens_allowed = False
        elif word in _TENS and tens_allowed:
            group += _TENS[word]
            tens_allowed = False
        elif singular in SCALES and (used or singular == "dozen"):
            scale = SCALES[singular]
            if scale == 100:
                group = max(group, 1) * 100
            elif scale <= last:
                total, group, last = total + max(group, 1) * scale, 0, scale
            else:
                return None
            ones_allowed = tens_allowed = True
        elif word in ("a", "an") and not used and i + 1 < len(words) and words[i + 1][0] in SCALES:
            group = 1
            ones_allowed = tens_allowed = False
        elif word == "and" and used and words[i - 1][0] in SCALES and i + 1 < len(words):
            if words[i + 1][0] not in _SMALL and words[i + 1][0] not in _TENS:
                break
            i += 1
            continue
        else:
            break
        i += 1
        used = i
    return (Fraction(total + group), used) if used else None


def _part(words: list[tuple[str, int]], i: int, value: Fraction | None) -> tuple[Fraction, int] | None:
    """A fraction's words after its numerator, which may be "a" or missing before "half"."""
    if i >= len(words):
        return None
    word = words[i][0]
    if value is None and word in ("a", "an") and i + 1 < len(words) and words[i + 1][0] in _PARTS:
        return Fraction(1, _PARTS[words[i + 1][0]]), i + 2
    if value is None and word == "half":
        scale = [name for name, _ in words[i + 1 : i + 3]]
        if scale[:1] == ["a"] and scale[1:] and scale[1] in SCALES:
            return Fraction(SCALES[scale[1]], 2), i + 3
        return Fraction(1, 2), i + 1
    if value is not None and word in _PLURAL:
        return value / _PLURAL[word], i + 1
    if value == 1 and word in _PARTS:
        return value / _PARTS[word], i + 1
    return None


def _and_part(words: list[tuple[str, int]], i: int) -> tuple[Fraction, int] | None:
    if i >= len(words) or words[i][0] != "and":
        return None
    if part := _part(words, i + 1, None):
        return part if words[i + 1][0] in ("a", "an") else None
    numerator = _cardinal(words, i + 1)
    return _part(words, numerator[1], numerator[0]) if numerator else None
