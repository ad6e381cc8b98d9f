"""Multiple choice: which option a response names, by its letter or by its text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.grading.equality import normalized
from orchestrator.grading.extract import STATEMENTS, boxed, statements

# A letter that stands for an option: "B", "(B)", "B.", "**B**", "option B", "\text{B}".
_LETTER = re.compile(
    r"""[\s*_`"'$(\[{]*+(?:\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{)?[\s(]*+
        (?:(?:option|choice|letter|answer)\s+)?[*_"'(\[]*+
        (?P<letter>[A-Z])(?![A-Za-z0-9'’_^=+\\])(?P<after>.{0,40})""",
    re.VERBOSE | re.DOTALL,
)
# "B" that goes on as "B, C" or "B and C": no single option is named.
_SEVERAL = re.compile(r"[\s)*]*(?:,|&|and\b|or\b)[\s(*]*(?:and\s+|or\s+)?\(?[A-J]\b(?!\s+[a-z])")
_ARTICLE = re.compile(
    r"[*_)\"]*\s+(?!(?:because|since|as|for|which|and|or|is|with|in|due|based|from|by)\b)[a-z]"
)
_NAMED = re.compile(
    r"\b(?:correct|right|best|true|chosen|final)\s+(?:answer|option|choice|statement|one)\b[^\n.:]{0,60}?"
    r"(?:\s(?:is|are|would\ be|should\ be)\b|:)"
    r"|\b(?:option|choice)\b(?=[\s*(]+[A-J]\b[\s*)]*\s+is\s+(?:the\s+)?(?:correct|right|best|true))"
    r"|\b(?:choose|select|pick|go\s+with)\b(?:\s+(?:option|choice|answer))?",
    re.IGNORECASE,
)
_LONGEST_LINE = 1000  # characters: an option and some words
_MARKUP = re.compile(r"[\s*_`>~:]*")


def read(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that ``text`` names, "A" being the first; None when it names none, or
    several at once.

    In order: the last ``\\boxed{}``, the last statement of an answer, the last "the correct option is", a
    response or a last line that is nothing but a letter or an option, and the only option whose text stands
    in the last line. A letter elsewhere in the text is never taken for an answer.
    """
    box = boxed(text)
    if box is not None:
        return _named(box, options)
    for content in statements(text):
        if letter := _named(content, options):
            return letter
    for match in reversed(list(_NAMED.finditer(text))[-STATEMENTS:]):
        start = _MARKUP.match(text, match.end())
        if letter := _named(text[start.end() if start else match.end() :][:400], options):
            return letter
    lines = [line for line in text.splitlines() if line.strip() and len(line) <= _LONGEST_LINE]
    for line in dict.fromkeys([*lines[-1:], *lines[:1]]):
        if letter := _whole(line, options):
            return letter
    if lines:
        spoken = _plain(lines[-1])
        found = [i for i, option in enumerate(options) if _holds(spoken, _plain(option))]
        if len(found) == 1:
            return _letter(found[0])
    return None


def _named(content: str, options: Sequence[str]) -> str | None:
    """The option at the start of ``content``: one whose text it consists of, a letter (unless it is the word
    "A" or "I"), or the option with the longest text that it begins with."""
    line = content.split("\n", 1)[0]
    match = _LETTER.match(line)
    if not (match and not match["after"].strip(" .)*}$\n")):
        for text in (content, line):
            if letter := _same(text, options):
                return letter
    if match is not None and _index(match["letter"]) < len(options):
        letter, after = match["letter"], match["after"]
        repeated = _plain(after).startswith(_plain(options[_index(letter)])[:20] or "\0")
        if letter not in "AI" or repeated or not _ARTICLE.match(after):
            return None if _SEVERAL.match(after) else letter
    return _begins(line, options)


def _begins(line: str, options: Sequence[str]) -> str | None:
    spoken = _plain(line)
    found = [
        (len(text), -i)
        for i, option in enumerate(options)
        if (text := _plain(option)) and re.match(rf"{re.escape(text)}(?![\w])", spoken)
    ]
    return _letter(-max(found)[1]) if found else None


def _same(text: str, options: Sequence[str]) -> str | None:
    """The option whose text this is: letter by letter if there is one, else in another dress or case."""
    for form in (_bare, _undressed, _plain):
        same = [i for i, option in enumerate(options) if form(text) and form(option) == form(text)]
        if same:
            return _letter(same[0])
    return None


def _whole(line: str, options: Sequence[str]) -> str | None:
    """The option that a line consists of: "B", "**(B)**", "B) its text", or its text alone."""
    match = _LETTER.match(line)
    if match is not None and _index(match["letter"]) < len(options):
        rest = _plain(line[match.start("after") :])
        option = _plain(options[_index(match["letter"])])
        if not rest or (option and rest.startswith(option[:20])):
            return match["letter"]
    return _same(line, options)


def _bare(text: str) -> str:
    return text.strip().removesuffix(".")


def _undressed(text: str) -> str:
    """Without LaTeX's dressing, markdown, runs of spaces, and punctuation at the ends."""
    text = normalized(re.sub(r"[*_`]{1,3}", "", text)) if "\\" in text else re.sub(r"[*`$]", "", text)
    return re.sub(r"\s+", " ", text).strip(" .,;:()\"'")


def _plain(text: str) -> str:
    return _undressed(text).lower()


def _holds(text: str, part: str) -> bool:
    return bool(part) and re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) is not None


def _index(letter: str) -> int:
    return ord(letter) - ord("A")


def _letter(index: int) -> str:
    return chr(ord("A") + index)
