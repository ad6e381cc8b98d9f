"""Multiple choice: which option a response names, by its letter or by its text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orchestrator.grading.extract import boxed
from orchestrator.grading.notation import narrow, told_apart, visible, without_bold
from orchestrator.grading.option import (
    SEVERAL,
    consisting_of,
    entry_of,
    holds,
    index_of,
    letter_alone,
    letter_of,
    lettered,
    named_at_start,
    plain_text,
    same_text,
)
from orchestrator.grading.statements import MARKUP, statements

_BULLET = re.compile(r"^\s*(?:[-*•+|]\s+(?=\S)|\d{1,2}[.)]\s+(?=[A-Za-z]))")
_NAMED = re.compile(
    r"\b(?:correct|right|best|true|chosen|final)\s+(?:answer|option|choice|statement|one)\b[^\n.:?]{0,60}?"
    r"(?:\s(?:is|are|would\ be|should\ be|must\ be)\b|:)"
    r"|(?:^|(?<=[.;:!,\n])|\b(?:I|we)(?:\s+(?:would|will|must|should|can|have\s+to)|['’](?:d|ll))?\b"
    r"|\b(?:so|thus|hence|therefore|must|should|let['’]s|let\s+us|best\s+to|and))"
    r"[ \t]{0,9}(?:\b(?:then|therefore|thus)\s{1,9})?"
    r"\b(?:choose|select|pick|go\s+with|选择?|選)(?![A-Za-z])(?:\s+(?:option|choice|answer))?",
    re.IGNORECASE | re.MULTILINE,
)
_NOT_BEFORE = re.compile(
    r"(?:\b(?:not|never|cannot|wouldn|shouldn|if|why|whether|don|would\s+not)\b|n['’]t)[^.\n]{0,20}$",
    re.IGNORECASE,
)
_NOT = re.compile(
    r"\b(?:not|never|no|cannot|neither|nor|wrong|incorrect|eliminated?|ruled\s+out|rejected?|except|unlike|unsure)\b|n['’]t\b",
    re.IGNORECASE,
)
_LONGEST_LINE = 1000  # characters: an option and some words
_MOST = 50


def read(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that ``text`` names, "A" being the first; None when it names none, or
    several at once.

    In order: the last ``\\boxed{}``, unless it is no option and a statement follows it; the last statement of
    an answer; the last "the correct option is"; a response or a last line that is nothing but a letter or an
    option; and the only option whose text stands in the last line. A letter elsewhere in the text is never
    taken for an answer.
    """
    text, options = visible(text), [narrow(option) for option in options]
    boxes = boxed(text)
    if boxes.unfinished:
        return None
    if boxes.contents:
        named = {consisting_of(content, options) for content in boxes.contents}
        if named != {None}:
            return named.pop() if len(named) == 1 else None
        if any(SEVERAL.search(content) for content in boxes.contents):
            return None
        found = _stated(without_bold(told_apart(text[boxes.end :])), options)
    else:
        plain = without_bold(told_apart(text))
        found = _stated(plain, options) or _closing(plain, options)
    return None if found == "-" else found


def _stated(plain: str, options: Sequence[str]) -> str | None:
    """The option that a statement names; "-" where it names several."""
    for statement in statements(plain):
        content = statement.content
        if statement.retracted:
            return _closing(plain[statement.end :], options)
        if statement.denied:
            line = content.split("\n", 1)[0]
            whole = None if statement.reversed else same_text(line, options)
            if whole and "?" not in line:
                return whole
            asked = lettered(line, options) or "-"
            if asked != "-" and line.strip().endswith(options[index_of(asked)]) and line.strip()[-1] == "?":
                return asked  # the option itself is a question
            continue
        if statement.reversed:
            if letter := consisting_of(content, options):
                return letter
            if SEVERAL.search(content):
                return "-"
        elif letter := named_at_start(content, options):
            return letter
    for match in reversed(list(_NAMED.finditer(plain))[-_MOST:]):
        if _NOT_BEFORE.search(plain[max(0, match.start() - 40) : match.start()]):
            continue
        start = MARKUP.match(plain, match.end())
        content = plain[start.end() if start else match.end() :][:400]
        if not re.match(r"not\b", content) and (letter := named_at_start(content, options)):
            return letter
    return None


def _closing(plain: str, options: Sequence[str]) -> str | None:
    lines = [
        _BULLET.sub("", line) for line in plain.splitlines() if line.strip() and len(line) <= _LONGEST_LINE
    ]
    if not lines:
        return None
    last, first = entry_of(lines[-1], options), entry_of(lines[0], options)
    listed = last is not None and _ends_list(last, lines[-_MOST:-1], options)
    if last is not None and not listed:
        return last[1]
    if first is not None and not _begins_list(first, lines[1:_MOST], options):
        return first[1]
    if not listed and "?" not in lines[-1]:
        spoken = plain_text(lines[-1])
        found = [i for i, option in enumerate(options) if holds(spoken, plain_text(option))]
        if len(found) == 1 and (not _NOT.search(spoken) or _NOT.search(plain_text(options[found[0]]))):
            return letter_of(found[0])
    return None


def _ends_list(last: tuple[str, str], earlier: Sequence[str], options: Sequence[str]) -> bool:
    """Whether an entry is only the end of the options given back: the one before it in its form is an earlier
    option."""
    before_it = _first_in_form(last[0], reversed(earlier), options)
    return before_it is not None and before_it < last


def _begins_list(first: tuple[str, str], after: Sequence[str], options: Sequence[str]) -> bool:
    after_it = _first_in_form(first[0], after, options)
    return after_it is not None and first < after_it


def _first_in_form(form: str, lines: Iterable[str], options: Sequence[str]) -> tuple[str, str] | None:
    """The first entry of that form. A letter alone costs little to look for, the others do not."""
    for line in lines:
        if form == "letter" and letter_alone(line, options) is None:
            continue
        entry = entry_of(line, options)
        if entry is not None and entry[0] == form:
            return entry
    return None
