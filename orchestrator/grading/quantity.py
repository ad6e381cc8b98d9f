"""Numbers with what people write around them: signs, money, percent, scale words, units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from orchestrator.grading import units, words
from orchestrator.grading.notation import BOLD, CLOSE, OPEN, UNBOLD

_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?:
        (?P<whole>\d+)?\s*\\frac\{{\s*(?P<n>-?\d+)\s*\}}\{{\s*(?P<d>-?\d+)\s*\}}
      | (?:(?P<whole2>\d+)\s+)?(?P<n2>\d+)\s*/\s*(?P<d2>\d+)
      | \\frac\{{\s*(?P<n3>-?{_DECIMAL})\s*\}}\{{\s*(?P<d3>-?{_DECIMAL})\s*\}}
      | (?P<decimal>{_DECIMAL})
        (?:\s*(?:\\times|\\cdot|×|\*|x)\s*10\s*(?:\^|\*\*)\s*\{{?\s*(?P<power>[-+]?\d{{1,4}})\s*\}}?
          |[eE](?P<exp>[-+]?\d{{1,4}}))?
    )(?![\d.]*\d)""",
    re.VERBOSE,
)
_CURRENCY = re.compile(r"\s*(?:US|A|C)?(\\?\$|€|£|¥|₹|(?:USD|EUR|GBP|JPY|RMB|CNY|INR|Rs\.?)(?![A-Za-z]))\s*")
_MONEY = {"$": "dollar", "\\$": "dollar", "USD": "dollar", "€": "euro", "EUR": "euro", "£": "GBP"}
_MONEY |= {"¥": "yen", "JPY": "yen", "₹": "rupee", "INR": "rupee", "Rs": "rupee", "Rs.": "rupee"}
_NEGATIVE = re.compile(r"(?:negative|minus)\s+", re.IGNORECASE)
_ABOUT = re.compile(
    r"(?:approximately|about|around|roughly|exactly|only|just|a\s+total\s+of|equal\s+to|≈|\\approx|simply)\s*(?=\W|\d|\s|[a-z])",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"\s*(?:\\?%|(?:percent(?:age)?|per\s+cent|pct)\b(?:\s+points?\b)?)", re.IGNORECASE)
_SHORT_SCALE = re.compile(
    r"(?:(k|K)|(M|m(?=\b)|mn|mil)|(B|bn|b(?=\b)))(?![A-Za-z/^*\\])|\s+(?:(?:(mn)|(bn)))\b"
)
_CJK_SCALE = {"百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
# What leaves the number before it: the end, a bracket or a comma with words, or words.
_NEXT_NUMBER = (
    r"(?:\(?[-+$€£]{0,2}\s?\.?\d|\\frac|\\sqrt|(?:one|two|three|four|five|six|seven|eight|nine|ten"
    r"|hundred|thousand|million|dozen)\b)"
)
_POWER = (
    rf"(?:raised\s+)?to\s+(?:(?:the|an?|its)\s+)?(?:(?:[-\w]+\s+){{0,2}}power\b|{words.ORDINAL}\b|[b-z]\b|\\)"
)
_OUT_OF = rf"(?:in|out\s+of|for|per|of|to|against)\s+(?:the\s+)?(?:every|each)\s+{_NEXT_NUMBER}"
_ANOTHER = re.compile(
    rf"""\s*(?:[,;&]|\b(?:and|or|to|through|plus|minus|over|out\s+of|by|versus|vs)\b|[-+±*/×÷:=<>≤≥^!|])
       (?:\s*(?:and|or|then|also|possibly|maybe|perhaps|even)\b)*\s*{_NEXT_NUMBER}
    | \s*\(\s*or\b | \s+{_POWER} | \s+{_OUT_OF}
    | [\s,]*\(?\b(?:or|and)\s+(?:more|less|fewer|greater|higher|lower|above|below|up|over|under|beyond
        |so|counting|smaller|larger|bigger|older|younger|an?\s+(?:half|quarter|third|fraction|bit))\b
    | \s+\(?or\b(?!\s+(?:not|never)\b)
    | \s*[-+±*/×÷^=<>≤≥!|\\_{{}}\]&] | \s*\[(?!\s*[A-Za-z])""",
    re.IGNORECASE | re.VERBOSE,
)
_WORD = re.compile(r"[\s-]*([A-Za-z][A-Za-z'’-]*)")
_PER_WORD = re.compile(rf"\s*(?:/|per\b)\s*(?!{_NEXT_NUMBER})[A-Za-z]{{2,}}")
_CLAUSE = re.compile(rf"\s*(?:and\b|not|rather|instead|{words.CLAUSE}|after|before)\b")
_TIMES = re.compile(  # "5 times a week" is 5, "5 times x" is not
    r"""\s+(?!(?:as|more|less|fewer|\w+er|per|each|every|daily|weekly|in|on|at|during|before|after|today|total
      |together|altogether|faster|and|or|is|was|a(?:n)?\s+(?:second|minute|hour|day|night|week|month|year)
      |[A-Za-z]{2,}ed)\b)[\w\\]""",
    re.VERBOSE,
)
_THAN = re.compile(  # "5 more than x", but not "$5 more than on Monday"
    r"""\s*(?:more|less|fewer|greater|smaller|higher|lower)\s+than\s+
      (?:[-$]?\d|[A-Za-z]\b|\\|twice|double|triple|half|one|two|three|the\s+(?:sum|product|square))""",
    re.IGNORECASE | re.VERBOSE,
)
_EACH = re.compile(
    r"\s+(?:an?|each|every|per)\s+(?!half|quarter|third|dozen|hundred|thousand|million)[A-Za-z]{3,}"
)
_TAIL_OPEN = re.compile(
    rf"""^[^.;\n]{{0,60}}?\b(?:{_POWER}|{_OUT_OF}
      |or\s+(?:more|less|fewer|greater|higher|lower|above|below|over|under)
      |at\s+(?:least|most)|and\s+(?:above|up|over|below|a\s+half|a\s+quarter|a\s+third)|(?:or|and)\s+[-$]?\d)""",
    re.IGNORECASE | re.VERBOSE,
)

# What refuses the number before it: "is not possible", "doesn't work", "is extraneous"; but "5 are not red"
# and "5 students do not play" count what is not.
DENIED = re.compile(
    r"""(?:\s+\w+){0,2}?\s+(?:(?:is|was|seems?|must\s+be|would\s+be)\s+(?:\w+ly\s+|also\s+)?
        (?:wrong|incorrect|impossible|invalid|false|extraneous|inadmissible|unacceptable|rejected|discarded|excluded
          |ruled\s+out|no\s+(?:solution|answer)|too\s+(?:large|small|big|high|low|many|few|much|little)
          |not\s+(?:\w+ly\s+)?(?:an?\b|the\b|possible|correct|right|valid|allowed|acceptable|true|enough)))\b
      | \s*(?:is|was)(?:n['’]t|\s+not)\b | \s+fails\b
      | \s*(?:does(?:n['’]t|\s+not)|fails?)\s+(?:to\s+)?
        (?:work|satisfy|fit|solve|count|hold|make\s+sense|check)\b
      | \s*can(?:not|\s+not|['’]t)\s+(?:be\s+(?:the|an?|right|correct|true|valid|it)\b|work\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_MOST_DIGITS = 2000  # before and after the point, and of a power of ten


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact value; ``decimals`` is how many digits were written after the point (None: a fraction or
    words), ``unit`` that of the closed list in one spelling, or ""."""

    value: Fraction
    percent: bool
    decimals: int | None
    unit: str

    @property
    def digits(self) -> int:
        """Significant digits of a decimal."""
        return len(str(abs(self.value) * 10 ** (self.decimals or 0)).split("/")[0])


def read(text: str, *, letters: bool = True) -> Quantity | None:
    """The quantity that ``text`` states: a number (integer, decimal, fraction, mixed number, power of ten,
    words) that is all of it, or that only a unit, the name of what is counted, or words that do not change it
    follow: "about 18 dollars for the 7 days" is 18, "5 or more" and "5 squared" are none.

    The text is as `spelling.normalized` gives it. Without ``letters``, "2k" is no number but a product.
    """
    about = _ABOUT.match(text)
    position = about.end() if about else 0
    sign, currency = 1, ""
    for _ in range(3):
        if negative := _NEGATIVE.match(text, position):
            sign, position = -sign, negative.end()
        if re.compile(r"-\s*(?=\\?[$€£])").match(text, position):
            sign, position = -sign, position + 1
        if money := _CURRENCY.match(text, position):
            currency, position = _MONEY.get(money[1], money[1]), money.end()
    if (number := _numeral(text, position)) is not None:
        value, decimals, end = number
    elif (spelled := words.number(text, position)) is not None:
        value, end = spelled
        decimals = None
    else:
        return None
    if (added := words.and_part(text, end)) is not None:
        value, decimals, end = value + added[0], None, added[1]
    if (scale := _scale(text, end, currency, letters)) is not None:
        value, end = value * scale[0], scale[1]
        decimals = decimals if value.denominator > 1 else 0
    percent = _PERCENT.match(text, end)
    if percent:
        end = percent.end()
        if re.match(r"\s+of\s+[-$\\]?\d", text[end:]):
            return None
    if not currency and (money := _CURRENCY.match(text, end)):
        currency, end = _MONEY.get(money[1], money[1]), money.end()
    unit = currency
    named = None if percent or re.match(r"\s*in\s+[A-Za-z\d]", text[end:]) else units.unit(text, end)
    if named is not None:
        if named[0] == "time" and _TIMES.match(text, named[1]):
            return None
        unit, end = currency or named[0], named[1]
        if (added := words.and_part(text, end)) is not None:
            return None  # "5 hours and a half" is left to a reader
        if re.match(rf"\s*{_NEXT_NUMBER}", text[end:]):
            return None  # 5 feet 6 inches
    elif re.match(r"\s+\S", text[end:]) and not percent and not _counted(text, end):
        return None
    if _changed(text, end):
        return None
    return Quantity(sign * value, percent is not None, decimals, unit)


_MARKS = re.compile(f"[{BOLD}{UNBOLD}]")
_INNER = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")
_NEW_CLAUSE = re.compile(rf"\b(?:and\s+not|not|rather|instead|{words.CLAUSE})\b", re.IGNORECASE)
_TAIL = re.compile(
    r"""[\s-]*(?:[A-Za-zπ√%°²³¢€£¥/]|\\%|\(?or\b|[-+±*×÷^=<>≤≥!]\s*[\d$(\ue000])
    | ,?\s+(?:and|or)\b | \s*[,&]\s*[-$]?\d""",
    re.VERBOSE,
)


def and_tail(rest: str) -> str:
    """Of the text after a number or formula, its sentence where that may change it or name its unit, else
    nothing. Formulas in it count as their text, up to a new clause; relations ("at $x = 2$") are left out."""
    rest = _MARKS.sub("", rest)
    end = re.search(r"[.;!?](?:\s|$)|\n", rest)
    tail = (rest[: end.start()] if end else rest)[:100]
    if OPEN in tail:
        clause = _NEW_CLAUSE.search(tail)
        tail = tail[: clause.start()] if clause else tail
        tail = _INNER.sub(lambda inner: "" if re.search(r"[=<>]|\\[lgn]e", inner[1]) else inner[1], tail)
        tail = tail.partition(OPEN)[0]
    if not _TAIL.match(tail):
        return ""
    return tail.rstrip() if tail[:1].isspace() or not tail[:1].isalpha() else f" {tail.rstrip()}"


def _numeral(text: str, start: int) -> tuple[Fraction, int | None, int] | None:
    match = _NUMBER.match(text, start)
    if match is None:
        return None
    part = match.groupdict()
    if match.end() - start > _MOST_DIGITS or abs(int(part["power"] or part["exp"] or 0)) > _MOST_DIGITS:
        return None
    sign = -1 if part["sign"] == "-" else 1
    decimals: int | None = None
    try:
        if part["decimal"] is not None:
            power = int(part["power"] or part["exp"] or 0)
            value = Fraction(part["decimal"].rstrip(".")) * Fraction(10) ** power
            decimals = max(0, len(part["decimal"].partition(".")[2]) - power)
        elif part["n3"] is not None:
            value = Fraction(part["n3"]) / Fraction(part["d3"])
        else:
            whole = Fraction(part["whole"] or part["whole2"] or 0)
            value = whole + Fraction(part["n"] or part["n2"]) / Fraction(part["d"] or part["d2"])
    except ZeroDivisionError:
        return None
    return sign * value, decimals, match.end()


def _scale(text: str, start: int, currency: str, letters: bool) -> tuple[Fraction, int] | None:
    if (found := words.scaled(text, start)) is not None:
        return found
    if text[start : start + 1] in _CJK_SCALE:
        return Fraction(_CJK_SCALE[text[start]]), start + 1
    if (letters or currency) and (short := _SHORT_SCALE.match(text, start)):
        if not currency and short.group() in ("m", "b", "B"):
            return None
        if short[1]:
            return Fraction(1000), short.end()
        return Fraction(10**6 if short[2] or short[4] else 10**9), short.end()
    return None


def _counted(text: str, start: int) -> bool:
    """Whether the words after a number name what is counted, or begin a new clause, and do not change it."""
    if text[start : start + 1] in ",;.!?:([":
        return True
    if _PER_WORD.match(text, start) or _EACH.match(text, start) or _CLAUSE.match(text, start):
        return True
    word = _WORD.match(text, start)
    if word is None or _THAN.match(text, start):
        return bool(re.match(r"\s*[,;.!?:(\[¢\"'—]", text[start:]))
    name = word[1].lower()
    if len(name) < 2 or name in units.CHANGING or name.partition("-")[0] in units.CHANGING:
        return False
    if name == "more" and re.match(r"\s+or\b", text[word.end() :]):
        return False
    if name in ("in", "out", "of", "by", "on", "per", "from", "over"):
        next_value = rf"\s+(?:of\s+)?(?:every\s+|each\s+)?(?:{_NEXT_NUMBER}|[b-z]\b|\\)"
        return re.match(next_value, text[word.end() :]) is None
    return re.match(rf"\s*{_NEXT_NUMBER}|\s*[=^_]|\s*\(?\d", text[word.end() :]) is None


def _changed(text: str, end: int) -> bool:
    """Whether what follows makes it another number, one of several, or a bound."""
    rest = text[end:]
    if DENIED.match(rest):
        return True
    if _PER_WORD.match(rest):
        return False
    return bool(_ANOTHER.match(rest) or _TAIL_OPEN.match(rest) or re.match(r"[A-Za-z_\\{(\[]", rest))
