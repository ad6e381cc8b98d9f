"""Multiple choice: which option a response names, by its letter or by its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from orchestrator.grading import before, quantity
from orchestrator.grading.equality import same_number
from orchestrator.grading.extract import boxed
from orchestrator.grading.notation import BOLD, CLOSE, OPEN, UNBOLD, narrow, told_apart, visible, without_bold
from orchestrator.grading.spelling import normalized
from orchestrator.grading.statements import MARKUP, statements
from orchestrator.grading.words import CLAUSE

# A letter that stands for an option: "B", "(B)", "B.", "**B**", "option B", "\text{B}".
_BEFORE = r"""[\s*_`"'“”$(\[{\ue000-\ue003]*+(?:\\(?:text|textbf|mathrm|mathbf|boxed|bf)\s*\{)?[\s(\[]*+
    (?:(?:the\s+)?(?:correct\s+)?(?:option|choice|letter|answer|选项|選項)\s*:?\s*)?[*_"'“(\[{$\ue000-\ue003]*+
    (?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?[\s(\[]*+"""
_LETTER = re.compile(
    rf"{_BEFORE}(?P<letter>[A-Z])(?![A-Za-z0-9'’_^=+\\])(?P<after>.*)", re.VERBOSE | re.DOTALL
)
_ALONE = re.compile(
    rf"(?:{_BEFORE})(?P<letter>[A-Za-z])[\s)\]}}*_\"'”$.:,!\ue000-\ue003]*", re.VERBOSE | re.IGNORECASE
)
_CLOSERS = r"[\s)\]}*_\"'”$\ue000-\ue003]*"
# "B" that goes on as "B, C", "B and C", "B/C" or "B (or C)": no single option is named.
_JOIN = (
    r"(?:[,;&/+-]|\\&|\b(?:and|or|plus|as\s+well\s+as|also|possibly|maybe|perhaps|alternatively)\b"
    r"|\\text\{\s*(?:and|or)\s*\})"
)
_SEVERAL = re.compile(
    rf"\b[A-J]\b{_CLOSERS}[(\[]*(?:{_JOIN}[\s(*\[]*)+(?:(?:either|both|even|so)\s+)*"
    r"(?:option\s+|choice\s+)?[(\[*]*[A-J]\b(?!['’]|\s+(?!and\b|or\b)[a-z])",
    re.IGNORECASE,
)
# "B, but C is better."
_OVERRULED = re.compile(
    r"[^.\n]{0,80}?\b(?:but|though|although|while|whereas|however|yet)\b[^.\n]{0,30}?"
    r"\b[A-J]\)?\s+(?:is|was|may\s+be|might\s+be|could\s+be|would\s+be|seems|looks|fits|works)\b(?!\s+(?:not|wrong|incorrect|false|never|ruled|close)\b|n['’]t)"
)
_REFUTED = re.compile(
    rf"{_CLOSERS}[\s:,(—–-]*(?:(?:which|that|it)\s+)?(?:(?:is|was|are)\s*(?:n['’]t|not\b)|(?:(?:is|was|are)\s+)?(?:\w+ly\s+)?"
    r"(?:wrong|incorrect|false|never|ruled|eliminated|rejected|impossible|out\b))",
    re.IGNORECASE,
)
_CLAUSE = rf"{CLAUSE}|due|based|from|with|in|given|here|overall"
_GOES_ON = re.compile(
    rf"""{_CLOSERS}(?: $ | [.;!?\n:,—(–-] | \b(?:{_CLAUSE}|by|on|indeed|not|rather|instead|if|that|and\s+not
       |is|after|according|would|应|因|。)(?![A-Za-z]) )""",
    re.VERBOSE,
)
_TEXT_GOES_ON = re.compile(
    rf"\s*(?:$|[.,;!?)](?=\s|$)|\((?!\s*[\d-])|\s(?:{_CLAUSE})\b(?!\s*\d))", re.IGNORECASE
)
# After an option's text: not the middle of another number, word or formula.
_TEXT_ENDS = r"(?!\w|[/^:{\\%]|[.,]\d|\s*[-+*=×÷<>]\s*\d|\s*[+*=^]\s*[\w\\(])"
# A number after these is a part of another: "x + 10", "1 in 10".
_TERM_BEFORE = re.compile(
    r"(?:[-+*/×÷^]|\d\s+(?:in|of|out\s+of|per|to|times|over|by|for|x)(?:\s+every)?)\s*$"
)
_BULLET = re.compile(r"^\s*(?:[-*•+|]\s+(?=\S)|\d{1,2}[.)]\s+(?=[A-Za-z]))")
_ABBREVIATED = 40  # characters of a long option are enough to tell that it is meant
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
        named = {_whole(content, options) for content in boxes.contents}
        if named != {None}:
            return named.pop() if len(named) == 1 else None
        if any(_SEVERAL.search(content) for content in boxes.contents):
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
            whole = None if statement.reversed else _same(line, options)
            if whole and "?" not in line:
                return whole
            asked = _lettered(line, options) or "-"
            if asked != "-" and line.strip().endswith(options[_index(asked)]) and line.strip()[-1] == "?":
                return asked  # the option itself is a question
            continue
        if statement.reversed:
            if letter := _whole(content, options):
                return letter
            if _SEVERAL.search(content):
                return "-"
        elif letter := _named(content, options):
            return letter
    for match in reversed(list(_NAMED.finditer(plain))[-_MOST:]):
        if _NOT_BEFORE.search(plain[max(0, match.start() - 40) : match.start()]):
            continue
        start = MARKUP.match(plain, match.end())
        content = plain[start.end() if start else match.end() :][:400]
        if not re.match(r"not\b", content) and (letter := _named(content, options)):
            return letter
    return None


def _closing(plain: str, options: Sequence[str]) -> str | None:
    lines = [
        _BULLET.sub("", line) for line in plain.splitlines() if line.strip() and len(line) <= _LONGEST_LINE
    ]
    if not lines:
        return None
    last, first = _entry(lines[-1], options), _entry(lines[0], options)
    listed = last is not None and _ends_list(last, [_entry(line, options) for line in lines[-_MOST:-1]])
    if last is not None and not listed:
        return last[1]
    if first is not None and not _begins_list(first, [_entry(line, options) for line in lines[1:_MOST]]):
        return first[1]
    if not listed and "?" not in lines[-1]:
        spoken = _plain(lines[-1])
        found = [i for i, option in enumerate(options) if _holds(spoken, _plain(option))]
        if len(found) == 1 and (not _NOT.search(spoken) or _NOT.search(_plain(options[found[0]]))):
            return _letter(found[0])
    return None


def _entry(line: str, options: Sequence[str]) -> tuple[str, str] | None:
    """In which form a line is nothing but an option, "B", its text or "B) its text", and which option."""
    if letter := _alone(line, options):
        return "letter", letter
    if letter := _same(line, options):
        return "text", letter
    letter = _lettered(line, options)
    return ("both", letter) if letter and letter != "-" else None


def _ends_list(last: tuple[str, str], earlier: list[tuple[str, str] | None]) -> bool:
    """Whether an entry is only the end of the options given back: the one before it in its form is an earlier
    option."""
    same_form = [entry for entry in earlier if entry is not None and entry[0] == last[0]]
    return bool(same_form) and same_form[-1] < last


def _lists(content: str, options: Sequence[str]) -> bool:
    """Whether what follows "Answer:" is the options given back, each on its own line and nothing more."""
    lines = [line for line in content.splitlines() if line.strip()][:2]
    entries = [_entry(line, options) for line in lines]
    if len(lines) < 2 or None in entries:
        return False
    (form, letter), (next_form, next_letter) = (entry for entry in entries if entry)
    whole = form == "letter" or _plain(lines[1]).endswith(_plain(options[_index(next_letter)]))
    return form == next_form and _index(next_letter) == _index(letter) + 1 and whole


def _begins_list(first: tuple[str, str], after: list[tuple[str, str] | None]) -> bool:
    same_form = [entry for entry in after if entry is not None and entry[0] == first[0]]
    return bool(same_form) and first < same_form[0]


def _alone(content: str, options: Sequence[str]) -> str | None:
    """A letter of either case and nothing else, in any dress. A small one is an option's text first."""
    content = re.sub(r"^(?:(?:so|thus|therefore|hence|only|I\s+think|clearly)\b[,\s]*)+", "", content.strip())
    match = _ALONE.fullmatch(content)
    if match is None:
        return None
    if match["letter"].islower() and match["letter"] in options:
        return _letter(list(options).index(match["letter"]))
    letter = match["letter"].upper()
    return letter if _index(letter) < len(options) else None


def _lettered(line: str, options: Sequence[str]) -> str | None:
    """The letter of "B) its text", or of "B" alone: "-" where it names several, has another option's text or
    another number, None where what follows is neither."""
    match = _LETTER.match(line)
    if match is None or _index(match["letter"]) >= len(options):
        return None
    letter, after = match["letter"], match["after"]
    if _SEVERAL.match(line, match.start("letter")) or _OVERRULED.match(after):
        return "-"
    if _REFUTED.match(after):
        return None
    rest = re.sub(r"^(?:[\s).:\]}*_,=|\\]|-(?![\d.]))+", "", after)
    if not _plain(rest):
        return letter
    own, spoken = _plain(options[_index(letter)]), _plain(rest)
    if same := _same(rest, options):
        return letter if own == _plain(options[_index(same)]) else "-"
    begun = [text for text in map(_plain, options) if _starts(spoken, text)]
    if begun:
        said = max(begun, key=len)
        if said == own:
            left = spoken[len(own) :] if spoken.startswith(own) else ""
            if _REFUTED.match(left):
                return None
            return "-" if _names_another(left, own, options) else letter
        return "-" if len(said) > 3 or re.search(r"\d", said) else None
    if len(spoken) > 3 and re.match(re.escape(spoken) + _TEXT_ENDS, own):
        return letter
    if _names_another(spoken, own, options):
        return "-"
    ours, theirs = quantity.read(own), quantity.read(spoken)
    return "-" if ours is not None and theirs is not None and not same_number(ours, theirs) else None


def _starts(spoken: str, text: str) -> bool:
    """Whether it begins with an option's text, of a long one with enough of it."""
    if not text:
        return False
    if len(text) > _ABBREVIATED and spoken.startswith(text[:_ABBREVIATED]):
        return True
    if re.match(re.escape(text) + _TEXT_ENDS, spoken) is None:
        return False
    value, said = quantity.read(text), quantity.read(spoken)
    return value is None or (said is not None and same_number(value, said))


def _names_another(left: str, own: str, options: Sequence[str]) -> bool:
    """Whether what follows an option's text is another option, by its letter or its text."""
    left = re.sub(rf"^(?:[\s(]|{_JOIN})*", "", left)
    if letter := re.match(r"(?:option\s+)?([a-j])\s*(?:[).:](?!\w)|$)", left):
        return own not in [_plain(option) for option in options[_index(letter[1].upper()) :][:1]]
    others = {_plain(other) for other in options} - {own, ""}
    return any(re.match(rf"{re.escape(other)}(?!\w)", left) for other in others)


def _named(content: str, options: Sequence[str]) -> str | None:
    """The option at the start of a statement: one whose text it consists of, a letter (unless it is the word
    "A" or "I"), or the option with the longest text that it begins with; "-" where it names several."""
    if _lists(content, options):
        return None
    line = content.lstrip().split("\n", 1)[0]
    if letter := _alone(line, options):
        return letter
    for text in (content, line):
        if letter := _same(text, options):
            return letter
    if letter := _lettered(line, options):
        return letter
    match = _LETTER.match(line)
    if match is not None and _index(match["letter"]) < len(options):
        if _REFUTED.match(match["after"]):
            return None
        if _GOES_ON.match(match["after"]):
            return match["letter"]
    return _begins(line, options)


def _begins(line: str, options: Sequence[str]) -> str | None:
    spoken = _plain(line)
    found = []
    for i, option in enumerate(options):
        text = _plain(option)
        if text and spoken.startswith(text) and _TEXT_GOES_ON.match(spoken, len(text)):
            left = spoken[len(text) :]
            if not _REFUTED.match(left):
                found.append((len(text), -i, _names_another(left, text, options)))
    if not found:
        return None
    _, position, several = max(found)
    return "-" if several else _letter(-position)


def _same(text: str, options: Sequence[str]) -> str | None:
    """The option whose text this is: letter by letter if there is one, else in another dress or case, else
    the only one of the same value."""
    forms: tuple[Callable[[str], str], ...] = (_bare, _undressed, _plain, _dense)
    for form in forms:
        same = [i for i, option in enumerate(options) if form(text) and form(option) == form(text)]
        if same:
            return _letter(same[0])
    if len(text) <= 60 and re.search(r"\d", text) and (given := quantity.read(normalized(text))) is not None:
        values = [quantity.read(normalized(option), letters=False) for option in options]
        same = [i for i, value in enumerate(values) if value is not None and same_number(value, given)]
        if len(same) == 1:
            return _letter(same[0])
    return None


def _whole(text: str, options: Sequence[str]) -> str | None:
    """The option that a line or a box consists of: "B", "**(B)**", "B) its text", or its text alone."""
    entry = _entry(text, options)
    return entry[1] if entry else None


def _bare(text: str) -> str:
    return re.sub(f"[{OPEN}{CLOSE}{BOLD}{UNBOLD}$]", "", text).strip().removesuffix(".")


def _undressed(text: str) -> str:
    """Without LaTeX's dressing, markdown, runs of spaces, and punctuation at the ends."""
    text = re.sub(f"[{OPEN}{CLOSE}{BOLD}{UNBOLD}]", "", text)
    text = normalized(re.sub(r"[*_`]{1,3}", "", text)) if "\\" in text else re.sub(r"[*`$]", "", text)
    return re.sub(r"\s+", " ", text).strip(" .,;:()|\"'")


def _plain(text: str) -> str:
    return _undressed(text).lower()


def _dense(text: str) -> str:
    return re.sub(r"\s*([-+*/=^<>(),])\s*", r"\1", _plain(text))


def _holds(text: str, part: str) -> bool:
    """Whether an option's text stands in a line, not as a part of another number or word."""
    if not part:
        return False
    found = re.search(rf"(?<![\w/^:\\.-])(?<!\d,){re.escape(part)}{_TEXT_ENDS}", text)
    if found is None or (value := quantity.read(part)) is None:
        return found is not None
    if before.is_changed(text, found.start()) or _TERM_BEFORE.search(text[: found.start()][-40:]):
        return False
    stated = quantity.read(text[found.start() :])
    return stated is not None and same_number(value, stated)


def _index(letter: str) -> int:
    return ord(letter) - ord("A")


def _letter(index: int) -> str:
    return chr(ord("A") + index)
