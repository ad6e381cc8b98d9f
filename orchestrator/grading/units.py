"""The closed list of units, and the words that change the number before them."""

from __future__ import annotations

import re

from orchestrator.grading import words

_PREFIXED = {
    "m": "meter metre", "g": "gram gramme", "s": "sec second", "L": "l liter litre", "N": "newton",
    "J": "joule", "W": "watt", "V": "volt", "A": "amp ampere", "Hz": "hertz", "Pa": "pascal", "C": "coulomb",
    "F": "farad", "Te": "tesla", "eV": "electronvolt", "mol": "mole", "By": "byte", "bit": "bit",
    "cal": "calorie", "Ω": "ohm", "Wh": "", "Gy": "", "Bq": "becquerel",
}  # fmt: skip
_SHORT_PREFIXES = ("", "k", "c", "m", "μ", "µ", "n", "M", "G", "T", "d", "p", "h")
_LONG_PREFIXES = {
    "": "", "kilo": "k", "centi": "c", "milli": "m", "micro": "μ", "nano": "n", "mega": "M", "giga": "G",
    "tera": "T", "deci": "d",
}  # fmt: skip
_PLAIN = {
    "h": "hr hrs hour", "min": "mins minute", "day": "", "week": "wk wks", "month": "", "year": "yr yrs",
    "decade": "", "century": "centuries", "in": "inch inches", "ft": "foot feet", "yd": "yard", "mi": "mile",
    "acre": "", "ha": "hectare", "oz": "ounce", "lb": "lbs pound", "ton": "tonne", "gal": "gallon",
    "qt": "quart", "pt": "pint", "cup": "", "tbsp": "tablespoon", "tsp": "teaspoon", "mph": "", "kph": "",
    "fps": "", "rpm": "", "K": "kelvin", "deg": "degree", "degC": "", "degF": "", "rad": "radian",
    "sr": "steradian", "dollar": "buck USD", "cent": "", "euro": "EUR", "GBP": "", "rupee": "Rs INR",
    "yen": "JPY", "yuan": "RMB CNY", "unit": "", "atm": "", "bar": "", "psi": "", "dB": "decibel", "au": "AU",
    "ly": "", "pixel": "px", "person": "people", "child": "children", "time": "",
}  # fmt: skip
_CJK = (
    "个個元块塊米厘毫千克公里斤升吨小时時分钟鐘秒天年月周岁歲人只隻本支枝张張颗顆件条"
    "條次度平方立箱位名台辆包双円個匹冊枚才개명원살"
)


def _names() -> dict[str, str]:
    names: dict[str, str] = {}
    for unit, spellings in _PREFIXED.items():
        names |= {prefix + unit: prefix + unit for prefix in _SHORT_PREFIXES}
        for word in spellings.split():
            for long, short in _LONG_PREFIXES.items():
                names |= {long + word: short + unit, f"{long}{word}s": short + unit}
    names |= {"l": "L", "ml": "mL", "cl": "cL", "dl": "dL", "cc": "mL"}
    for unit, spellings in _PLAIN.items():
        for word in [unit, *spellings.split()]:
            names |= {word: unit} | ({f"{word}s": unit} if len(word) > 2 else {})
    names |= {"mph": "mi/h", "kph": "km/h", "kmh": "km/h", "fps": "ft/s"}
    for name, unit in list(names.items()):
        if len(name) > 3:
            names.setdefault(name.lower(), unit)
            names.setdefault(name.capitalize(), unit)
    return names


_UNITS = _names()
# Words after a number that make it another number, and such that leave it open.
_CHANGING_WORDS = (
    "and base below bn choose cos cubed divided equals exp factorial fold googol grand gross infinity k "
    "least ln log minus mn mod modulo most multiplied negative nor not ones or pct percent percentage pi "
    "plus point power powers quadrillion raised remainder root roots score short sin sqrt squared tan tau "
    "tens"
)
CHANGING = words.NUMBER_WORDS | frozenset(_CHANGING_WORDS.split())
_SIGN_WORD = re.compile(r"[A-Za-zΩμµ]+")
_POWER = re.compile(r"\s*(?:\^\s*\{?\s*(-?[1-4])\s*\}?|\*\*\s*([23])|([²³]))")
_SQUARE = re.compile(r"\s*(square|sq\.?|cubic|cu\.?)\s+", re.IGNORECASE)
_PER = re.compile(r"\s*(?:/|(?<=\s)(?:per|an?|each|every)(?=\s)|\bper\b)\s*")
_BETWEEN = re.compile(r"\s*(?:\*|\\cdot|·)\s*|(?<=\w)\s+(?=(?:s|kg|m|N|h)\b)")
_DEGREES = re.compile(r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|°|\\degree|℃|℉)\s*(?:\\?\s*([CFK])\b)?")


def unit(text: str, start: int) -> tuple[str, int] | None:
    """The unit of the closed list that begins at ``start``, in one spelling ("square feet" and "ft^2" are
    "ft2", "meters per second" is "m/s"), and where it ends; None where there is none."""
    if degrees := _DEGREES.match(text, start):
        scale = degrees[1] or {"℃": "C", "℉": "F"}.get(degrees.group().strip(), "")
        end = degrees.end()
        return f"deg{scale}", end
    if (one := _one(text, start)) is None:
        return None
    parts, end = one
    while True:
        if (per := _PER.match(text, end)) and (other := _one(text, per.end())) is not None:
            parts, end = f"{parts}/{other[0]}", other[1]
        elif (times := _BETWEEN.match(text, end)) and (other := _one(text, times.end())) is not None:
            parts, end = f"{parts}*{other[0]}", other[1]
        else:
            break
    if parts == "deg" and (of := re.match(r"\s+(celsius|fahrenheit|[CF]\b)", text[end:], re.IGNORECASE)):
        return f"deg{of[1][0].upper()}", end + of.end()
    return parts, end


def _one(text: str, start: int) -> tuple[str, int] | None:
    if character := re.compile(rf"\s*[{_CJK}]{{1,4}}").match(text, start):
        return character.group().strip(), character.end()
    power = ""
    if square := _SQUARE.match(text, start):
        power, start = ("2" if square[1].lower().startswith("sq") else "3"), square.end()
    space = len(text) - len(text[start:].lstrip()) if text[start : start + 1].isspace() else start
    word = _SIGN_WORD.match(text, space)
    if word is None or word.group() not in _UNITS or (text[word.end() : word.end() + 1] in ("'", "’")):
        return None
    if len(word.group()) == 1 and space == start and start and text[start - 1].isdigit():
        return None  # "5m" may as well be a product
    end = word.end()
    if raised := _POWER.match(text, end):
        power = raised[1] or raised[2] or {"²": "2", "³": "3"}[raised[3]]
        end = raised.end()
    return _UNITS[word.group()] + (power if power != "1" else ""), end
