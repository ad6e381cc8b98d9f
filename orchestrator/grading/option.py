"""What a piece of a response says of a question's options: which one it is, begins with or holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from orchestrator.grading import before, quantity
from orchestrator.grading.equality import same_number
from orchestrator.grading.notation import BOLD, CLOSE, OPEN, UNBOLD
from orchestrator.grading.spelling import normalized
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
SEVERAL = re.compile(
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
_ABBREVIATED = 40  # characters of a long option are enough to tell that it is meant


def entry_of(line: str, options: Sequence[str]) -> tuple[str, str] | None:
    """In which form a line is nothing but an option, "B", its text or "B) its text", and which option."""
    if letter := letter_alone(line, options):
        return "letter", letter
    if letter := same_text(line, options):
        return "text", letter
    letter = lettered(line, options)
    return ("both", letter) if letter and letter != "-" else None


def _lists(content: str, options: Sequence[str]) -> bool:
    """Whether what follows "Answer:" is the options given back, each on its own line and nothing more."""
    lines = [line for line in content.splitlines() if line.strip()][:2]
    entries = [entry_of(line, options) for line in lines]
    if len(lines) < 2 or None in entries:
        return False
    (form, letter), (next_form, next_letter) = (entry for entry in entries if entry)
    whole = form == "letter" or plain_text(lines[1]).endswith(plain_text(options[index_of(next_letter)]))
    return form == next_form and index_of(next_letter) == index_of(letter) + 1 and whole


def letter_alone(content: str, options: Sequence[str]) -> str | None:
    """A letter of either case and nothing else, in any dress. A small one is an option's text first."""
    content = re.sub(r"^(?:(?:so|thus|therefore|hence|only|I\s+think|clearly)\b[,\s]*)+", "", content.strip())
    match = _ALONE.fullmatch(content)
    if match is None:
        return None
    if match["letter"].islower() and match["letter"] in options:
        return letter_of(list(options).index(match["letter"]))
    letter = match["letter"].upper()
    return letter if index_of(letter) < len(options) else None


def lettered(line: str, options: Sequence[str]) -> str | None:
    """The letter of "B) its text", or of "B" alone: "-" where it names several, has another option's text or
    another number, None where what follows is neither."""
    match = _LETTER.match(line)
    if match is None or index_of(match["letter"]) >= len(options):
        return None
    letter, after = match["letter"], match["after"]
    if SEVERAL.match(line, match.start("letter")) or _OVERRULED.match(after):
        return "-"
    if _REFUTED.match(after):
        return None
    rest = re.sub(r"^(?:[\s).:\]}*_,=|\\]|-(?![\d.]))+", "", after)
    if not plain_text(rest):
        return letter
    own, spoken = plain_text(options[index_of(letter)]), plain_text(rest)
    if same := same_text(rest, options):
        return letter if own == plain_text(options[index_of(same)]) else "-"
    begun = [text for text in map(plain_text, options) if _starts(spoken, text)]
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
        return own not in [plain_text(option) for option in options[index_of(letter[1].upper()) :][:1]]
    others = {plain_text(other) for other in options} - {own, ""}
    return any(re.match(rf"{re.escape(other)}(?!\w)", left) for other in others)


def named_at_start(content: str, options: Sequence[str]) -> str | None:
    """The option at the start of a statement: one whose text it consists of, a letter (unless it is the word
    "A" or "I"), or the option with the longest text that it begins with; "-" where it names several."""
    if _lists(content, options):
        return None
    line = content.lstrip().split("\n", 1)[0]
    if letter := letter_alone(line, options):
        return letter
    for text in (content, line):
        if letter := same_text(text, options):
            return letter
    if letter := lettered(line, options):
        return letter
    match = _LETTER.match(line)
    if match is not None and index_of(match["letter"]) < len(options):
        if _REFUTED.match(match["after"]):
            return None
        if _GOES_ON.match(match["after"]):
            return match["letter"]
    return _begins(line, options)


def _begins(line: str, options: Sequence[str]) -> str | None:
    spoken = plain_text(line)
    found = []
    for i, option in enumerate(options):
        text = plain_text(option)
        if text and spoken.startswith(text) and _TEXT_GOES_ON.match(spoken, len(text)):
            left = spoken[len(text) :]
            if not _REFUTED.match(left):
                found.append((len(text), -i, _names_another(left, text, options)))
    if not found:
        return None
    _, position, several = max(found)
    return "-" if several else letter_of(-position)


def same_text(text: str, options: Sequence[str]) -> str | None:
    """The option whose text this is: letter by letter if there is one, else in another dress or case, else
    the only one of the same value."""
    forms: tuple[Callable[[str], str], ...] = (_bare, _undressed, plain_text, _dense)
    for form in forms:
        same = [i for i, option in enumerate(options) if form(text) and form(option) == form(text)]
        if same:
            return letter_of(same[0])
    if len(text) <= 60 and re.search(r"\d", text) and (given := quantity.read(normalized(text))) is not None:
        values = [quantity.read(normalized(option), letters=False) for option in options]
        same = [i for i, value in enumerate(values) if value is not None and same_number(value, given)]
        if len(same) == 1:
            return letter_of(same[0])
    return None


def consisting_of(text: str, options: Sequence[str]) -> str | None:
    """The option that a line or a box consists of: "B", "**(B)**", "B) its text", or its text alone."""
    entry = entry_of(text, options)
    return entry[1] if entry else None


def _bare(text: str) -> str:
    return re.sub(f"[{OPEN}{CLOSE}{BOLD}{UNBOLD}$]", "", text).strip().removesuffix(".")


def _undressed(text: str) -> str:
    """Without LaTeX's dressing, markdown, runs of spaces, and punctuation at the ends."""
    text = re.sub(f"[{OPEN}{CLOSE}{BOLD}{UNBOLD}]", "", text)
    text = normalized(re.sub(r"[*_`]{1,3}", "", text)) if "\\" in text else re.sub(r"[*`$]", "", text)
    return re.sub(r"\s+", " ", text).strip(" .,;:()|\"'")


def plain_text(text: str) -> str:
    return _undressed(text).lower()


def _dense(text: str) -> str:
    return re.sub(r"\s*([-+*/=^<>(),])\s*", r"\1", plain_text(text))


def holds(text: str, part: str) -> bool:
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


def index_of(letter: str) -> int:
    return ord(letter) - ord("A")


def letter_of(index: int) -> str:
    return chr(ord("A") + index)
