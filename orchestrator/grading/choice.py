"""Multiple choice: which option a response names, by its letter or by its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from orchestrator.grading import quantity
from orchestrator.grading.equality import same_number
from orchestrator.grading.extract import boxed
from orchestrator.grading.notation import BOLD, CLOSE, OPEN, UNBOLD, told_apart, visible, without_bold
from orchestrator.grading.spelling import normalized
from orchestrator.grading.statements import statements

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
# "B" that goes on as "B, C", "B and C" or "B/C": no single option is named.
_SEVERAL = re.compile(
    rf"{_CLOSERS}(?:,|;|&|/|\+|-|\\&|\band\b|\bor\b|\\text\{{\s*(?:and|or)\s*\}})+[\s(*\[]*(?:(?:and|or|also|either|even|possibly|maybe|perhaps)\s+)*"
    r"(?:option\s+|choice\s+)?[(\[*]*[A-J]\b(?!['’]|\s+(?!and\b|or\b)[a-z])",
    re.IGNORECASE,
)
_REFUTED = re.compile(
    rf"{_CLOSERS}\s*(?:is|was|are)\s*(?:n['’]t|not|in?correct\b(?<=incorrect)|wrong|false|never|ruled)",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    rf"""{_CLOSERS}(?: $ | [.;!?\n:,—(–-] | \b(?:because|since|as|for|which|due|based|from|by|with|in|on
       |given|where       |here|indeed|so|not|rather|instead|if|when|that|and\s+not|is|after|according|would|应|因|。)(?![A-Za-z]) )""",
    re.VERBOSE,
)
_TEXT_GOES_ON = re.compile(
    r"""\s*(?:$|[.,;!?)](?=\s|$)|\((?!\s*[\d-])|\s(?:because|since|as|for|which|due|based|from|with|in|when|given|where|so|overall|here)\b(?!\s*\d))"""
)
_NAMED = re.compile(
    r"\b(?:correct|right|best|true|chosen|final)\s+(?:answer|option|choice|statement|one)\b[^\n.:?]{0,60}?"
    r"(?:\s(?:is|are|would\ be|should\ be|must\ be)\b|:)"
    r"|\b(?:choose|select|pick|go\s+with|选择?|選)(?![A-Za-z])(?:\s+(?:option|choice|answer))?",
    re.IGNORECASE,
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
_MARKUP = re.compile(r"[\s*_`>~:]*")


def read(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that ``text`` names, "A" being the first; None when it names none, or
    several at once.

    In order: the last ``\\boxed{}``, unless it is no option and a statement follows it; the last statement of
    an answer; the last "the correct option is"; a response or a last line that is nothing but a letter or an
    option; and the only option whose text stands in the last line. A letter elsewhere in the text is never
    taken for an answer.
    """
    text = visible(text)
    boxes = boxed(text)
    if boxes.unfinished:
        return None
    if boxes.contents:
        named = {_boxed(content, options) for content in boxes.contents}
        if named != {None}:
            return named.pop() if len(named) == 1 else None
        if any(_SEVERAL_IN_BOX.search(content) for content in boxes.contents):
            return None
        return _stated(without_bold(told_apart(text[boxes.end :])), options)
    marked = told_apart(text)
    plain = without_bold(marked)
    return _stated(plain, options) or _closing(plain, options)


_SEVERAL_IN_BOX = re.compile(
    r"^[\s(]*[A-J][\s)]*(?:,|/|&|and\b|or\b|\\text\{\s*(?:and|or)\s*\}|\\&)", re.IGNORECASE
)


def _stated(plain: str, options: Sequence[str]) -> str | None:
    for statement in statements(plain):
        content = statement.content
        if statement.retracted:
            return _closing(plain[statement.end :], options)
        if statement.denied:
            line = content.split("\n", 1)[0]
            whole = None if statement.reversed else _same(line, options)
            if whole and "?" not in line:
                return whole
            continue
        if statement.reversed:
            if letter := _alone(content, options) or _same(content, options):
                return letter
            if _both(content):
                return None
        elif letter := _named(content, options):
            return letter if letter != "-" else None
    for match in reversed(list(_NAMED.finditer(plain))[-_MOST:]):
        if _NOT_BEFORE.search(plain[max(0, match.start() - 40) : match.start()]):
            continue
        start = _MARKUP.match(plain, match.end())
        content = plain[start.end() if start else match.end() :][:400]
        if re.match(r"not\b", content):
            continue
        if letter := _named(content, options):
            return letter if letter != "-" else None
    return None


def _closing(plain: str, options: Sequence[str]) -> str | None:
    lines = [line for line in plain.splitlines() if line.strip() and len(line) <= _LONGEST_LINE]
    for line in dict.fromkeys([*lines[-1:], *lines[:1]]):
        if letter := _whole(line, options):
            return letter
    if lines and "?" not in lines[-1]:
        spoken = _plain(lines[-1])
        found = [i for i, option in enumerate(options) if _holds(spoken, _plain(option))]
        if len(found) == 1 and (not _NOT.search(spoken) or _NOT.search(_plain(options[found[0]]))):
            return _letter(found[0])
    return None


def _both(content: str) -> bool:
    return re.search(r"\b[A-J]\b\W*(?:,|and|or|/)\W*\b[A-J]\b", content) is not None


def _boxed(content: str, options: Sequence[str]) -> str | None:
    """The option that a box holds: a letter alone, a letter and that option's text, or an option's text."""
    return _alone(content, options) or _same(content, options) or _with_its_text(content, options)


def _alone(content: str, options: Sequence[str]) -> str | None:
    """A letter of either case and nothing else, in any dress."""
    content = re.sub(r"^(?:(?:so|thus|therefore|hence|only|I\s+think|clearly)\b[,\s]*)+", "", content.strip())
    match = _ALONE.fullmatch(content)
    if match is None:
        return None
    letter = match["letter"].upper()
    return letter if _index(letter) < len(options) else None


def _with_its_text(content: str, options: Sequence[str]) -> str | None:
    """ "B) its text": None where the text is another option's."""
    match = _LETTER.match(content)
    if match is None or _index(match["letter"]) >= len(options):
        return None
    rest = _plain(re.sub(r"^[\s).:\]}*_,=\\-]+", "", match["after"]))
    option = _plain(options[_index(match["letter"])])
    if not rest:
        return match["letter"]
    if not option or _SEVERAL.match(match["after"]):
        return None
    return (
        match["letter"]
        if rest.startswith(option[:40]) or (len(rest) > 3 and option.startswith(rest))
        else None
    )


def _named(content: str, options: Sequence[str]) -> str | None:
    """The option at the start of a statement: one whose text it consists of, a letter (unless it is the word
    "A" or "I"), or the option with the longest text that it begins with; "-" where it names several."""
    line = content.lstrip().split("\n", 1)[0]
    if letter := _alone(line, options):
        return letter
    for text in (content, line):
        if letter := _same(text, options):
            return letter
    match = _LETTER.match(line)
    if match is not None and _index(match["letter"]) < len(options):
        letter, after = match["letter"], match["after"]
        if _SEVERAL.match(after):
            return "-"
        if _REFUTED.match(after):
            return None
        if _with_its_text(line, options):
            return letter
        others = _same(re.sub(r"^[\s).:\]}*_,=-]+", "", after), options)
        if others and others != letter:
            return "-"
        if _GOES_ON.match(after):
            return letter
    return _begins(line, options)


def _begins(line: str, options: Sequence[str]) -> str | None:
    spoken = _plain(line)
    found = []
    for i, option in enumerate(options):
        text = _plain(option)
        if text and spoken.startswith(text) and _TEXT_GOES_ON.match(spoken, len(text)):
            rest = spoken[len(text) :].lstrip(" ,;")
            others = (_plain(other) for other in options)
            if not any(
                other and other != text and re.match(rf"(?:(?:and|or)\s+)?{re.escape(other)}(?!\w)", rest)
                for other in others
            ):
                found.append((len(text), -i))
    return _letter(-max(found)[1]) if found else None


def _same(text: str, options: Sequence[str]) -> str | None:
    """The option whose text this is: letter by letter if there is one, else in another dress or case, else
    the only one of the same value."""
    forms: tuple[Callable[[str], str], ...] = (_bare, _undressed, _plain)
    for form in forms:
        same = [i for i, option in enumerate(options) if form(text) and form(option) == form(text)]
        if same:
            return _letter(same[0])
    if len(text) <= 60 and re.search(r"\d", text) and (given := quantity.read(normalized(text))) is not None:
        values = [quantity.read(normalized(option), letters=False) for option in options]
        same = [i for i, value in enumerate(values) if value is not None and same_number(value, given)]
        if len(same) == 1 and values[same[0]] is not None:
            return _letter(same[0])
    return None


def _whole(line: str, options: Sequence[str]) -> str | None:
    """The option that a line consists of: "B", "**(B)**", "B) its text", or its text alone."""
    return _alone(line, options) or _same(line, options) or _with_its_text(line, options)


def _bare(text: str) -> str:
    return re.sub(f"[{OPEN}{CLOSE}{BOLD}{UNBOLD}$]", "", text).strip().removesuffix(".")


def _undressed(text: str) -> str:
    """Without LaTeX's dressing, markdown, runs of spaces, and punctuation at the ends."""
    text = re.sub(f"[{OPEN}{CLOSE}{BOLD}{UNBOLD}]", "", text)
    text = normalized(re.sub(r"[*_`]{1,3}", "", text)) if "\\" in text else re.sub(r"[*`$]", "", text)
    return re.sub(r"\s+", " ", text).strip(" .,;:()\"'")


def _plain(text: str) -> str:
    return _undressed(text).lower()


def _holds(text: str, part: str) -> bool:
    """Whether an option's text stands in a line, not as a part of another number or word."""
    if not part:
        return False
    pattern = rf"(?<![\w/^:\\.-])(?<!\d,){re.escape(part)}(?!\w|[/^:{{\\]|[.,]\d|\s*[-+*=]\s*\d)"
    found = re.search(pattern, text)
    if found is None or (value := quantity.read(part)) is None:
        return found is not None
    stated = quantity.read(text[found.start() :])
    return stated is not None and same_number(value, stated)


def _index(letter: str) -> int:
    return ord(letter) - ord("A")


def _letter(index: int) -> str:
    return chr(ord("A") + index)
