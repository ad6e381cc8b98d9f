"""The words right before a number or formula that make another number of it, a bound, or no answer at all."""

from __future__ import annotations

import re

_NEAR = 200  # characters before it are looked at
_PART = r"(?:third|quarter|fourth|fifth|sixth|eighth|tenth)"
_BETWEEN = r"(?:\s+(?:the|of|number|value|that))*\s*[$€£]?\s*$"  # "half of the number ", "less than $"
# "half of", "twice", "all integers except".
_FACTOR = re.compile(
    rf"""(?: (?:\b(?:half|(?:one|two|three|four|\d+)[\s-]{_PART}s?|an?\s+{_PART}
          |percent|squares?|cubes?|roots?|reciprocal|inverse|opposite|negation|negative|complement|factorial
          |logarithm|log|absolute\s+value|multiples?|(?<!by\sa\s)factors?|divisors?|\w+\s+powers?)|%)\s+of
      | \b(?:twice|thrice|double|triple|quadruple|half|squared?|sqrt|log|ln|sin|cos|tan|coprime\s+to
          |(?:divisible|divided|multiplied|increased|decreased|reduced)\s+by|except(?:\s+for)?|excluding
          |other\s+than|(?:apart|aside|different|subtracted)\s+from|not\s+counting|as\s+\w+\s+as
          |(?:all|any\w*|every\w*)\b[^.\n]{{0,40}}\bbut)
      | (?<![A-Za-z])[\w)]\s+to\s+the(?:\s+power(?:\s+of)?)?
      | \b(?:sum|product|difference|quotient)\s+of\s(?:(?!\b(?:is|equals|gives|makes)\b)[^.=\n])*?
    ){_BETWEEN}""",
    re.IGNORECASE | re.VERBOSE,
)
_BOUND = re.compile(
    rf"""(?:\b(?:at\s+least|at\s+most|up\s+to|under|above|below|beyond|exceed(?:s|ing)?|between|either|from
        |(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger)\s+than(?!\s+or\b)
        |(?:less|greater|more|smaller|larger)\s+than\s+or\s+equal\s+to
      )\b){_BETWEEN}""",
    re.IGNORECASE | re.VERBOSE,
)
_DENIED = re.compile(
    r"""(?:\b(?:not|never|neither|nor|cannot|rather\s+than|instead\s+of|unlike)\b|n['’]t\b|\\ne(?:q)?\b|≠|!=)
      \s*(?:be\b|equal(?:\s+to)?\b|just\b|simply\b)?\s*$""",
    re.IGNORECASE | re.VERBOSE,
)


def factor(text: str, start: int) -> str:
    """The words before ``start`` that make another number of the one that begins there: "half of "; or ""."""
    found = _FACTOR.search(_near(text, start))
    return found.group() if found else ""


def is_changed(text: str, start: int) -> bool:
    """Whether the words before ``start`` make another number of the one there, or a bound: "less than "."""
    return bool(factor(text, start)) or _BOUND.search(_near(text, start)) is not None


def is_denied(text: str, start: int) -> bool:
    """Whether the words before ``start`` say that it is not what begins there."""
    return _DENIED.search(_near(text, start)) is not None


def _near(text: str, start: int) -> str:
    return text[max(0, start - _NEAR) : start]
