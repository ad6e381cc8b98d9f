"""Where in a response the answer is: the text of the answer, not yet its meaning.

The order is that of how clearly an answer is marked: the last ``\\boxed{}``; the last statement of the form
``#### x``, "the answer is x" or "Answer: x"; and, when a response has neither, its end (see `closing`).
Every pattern is bounded, so that reading takes time linear in the response's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

STATEMENTS = 50  # of each form, at most, are looked at: the answer is near the end

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=\{|\d)")
_BARE = re.compile(r"[\d.,]{0,20}\d")
_JOINED = re.compile(r"[\s$.,;]*(?:\\[()\[\]][\s$,]*)*(?:,|and|or)?[\s$,]*(?:\\[()\[\]][\s$,]*)*")
_CONNECTOR = re.compile(r",|and|or")

_STATEMENT = re.compile(
    r"""
    ^\#{4}[ \t]*(?=[-+$\\(\[{.\d]|[a-zA-Z]\s*(?:[-+=^*/_\\]|$))           # GSM8K's own mark, not a heading
    | \banswers?\b[^\n.:=]{0,80}?
      (?: [*_]{0,3}\s*[:=]                                             # Answer: x   **Answer**: x
        | \s(?:is|are|was|would\ be|will\ be|should\ be|must\ be|equals)\b
          (?:\s+(?:therefore|thus|hence|then|simply|just|indeed|equal\ to|given\ by|option|choice)\b)*\s*:?
      )
    | ^[\s\#*_]{0,12}(?:final\s+)?answers?[\s*_]{0,6}$                 # a heading of its own line
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_EMPTY_BOX = re.compile(r"[^\d\n]{0,80}\\boxed\s*\{\s*\}")  # "within \\boxed{}", the prompt given back
_MARKUP = re.compile(r"[\s*_`>~:]*")

_MATH = re.compile(
    r"\$\$(?P<dd>.{1,400}?)\$\$|\\\[(?P<db>.{1,400}?)\\\]|\\\((?P<ip>.{1,400}?)\\\)"
    r"|(?<!\\)\$(?P<id>(?:\\.|[^$\n\\]){1,400}?)\$",
    re.DOTALL,
)
_WORDS = re.compile(r"(?<![A-Za-z])[A-Za-z]{2,}+[,;]?\s++[A-Za-z]{2}")
_COMMAND = re.compile(r"\\[A-Za-z]+\s*(?:\{[^{}]*\})?")
_SENTENCE_END = re.compile(r"[.!?;][\s*_]*(?:$|\s+(?=[A-Z(\"*\\]))|\n")
_VERB = re.compile(r"\b(?:is|are|equals|makes|gives)\b")
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
NUMBER = re.compile(  # the minus of "7 - 2" is not a sign
    r"(?<![\w.])(?:(?<![\d)]\s)[-+−]\s?)?(?:\\?\$)?\s?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:\s?\\?%)?"
)


def boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{}`` that has any, braces balanced. Boxes that a comma, "and" or "or"
    joins are one answer: "\\boxed{1} and \\boxed{2}" gives "1, 2"."""
    parts: list[str] = []
    after: int | None = None  # where the box to the right begins
    for match in reversed(list(_BOX.finditer(text))[-STATEMENTS:]):
        content, end = _braced(text, match.end())
        if not content.strip(" $"):
            continue
        if after is not None:
            between = text[end:after]
            if len(between) > 40 or not (_JOINED.fullmatch(between) and _CONNECTOR.search(between)):
                break
        parts.append(content.strip())
        after = match.start()
    return ", ".join(reversed(parts)) or None


def _braced(text: str, start: int) -> tuple[str, int]:
    """The group that starts at ``start`` and where it ends; ("", start) when it is not closed within 1,000
    characters."""
    if text[start] != "{":
        token = _BARE.match(text, start)
        return (token.group(), token.end()) if token else ("", start)
    depth = 0
    for position in range(start, min(len(text), start + 1000)):
        if text[position] in "{}" and text[position - 1] != "\\":
            depth += 1 if text[position] == "{" else -1
            if depth == 0:
                return text[start + 1 : position], position + 1
    return "", start


def statements(text: str) -> Iterator[str]:
    """What follows each "the answer is", "Answer:" or "####", the last one first, at most 400 characters and
    not past the next statement."""
    end = len(text)
    for match in reversed(list(_STATEMENT.finditer(text))[-STATEMENTS:]):
        start = match.end()
        marked = _MARKUP.match(text, start)
        content = text[marked.end() if marked else start : min(end, start + 400)]
        end = match.start()
        if content.strip() and not content.startswith("not ") and not _EMPTY_BOX.match(content):
            yield content


def expression(content: str) -> str | None:
    """The mathematical answer at the start of a statement: its first formula when no number comes before it,
    otherwise its first sentence, or, if that tells more before it comes to a number, its last number."""
    sentence = content[: end.start()] if (end := _SENTENCE_END.search(_masked(content))) else content
    formulas = list(_formulas(content))
    if formulas:
        (start, stop, first), *others = formulas
        if not re.search(r"\d", content[:start]) and start <= len(sentence):
            answer = first
            for start, end_, formula in others:
                between = content[stop:start]
                if not re.fullmatch(r"\s*(?:,|,?\s*and|,?\s*or)\s*", between):
                    break
                answer, stop = f"{answer}, {formula}", end_
            return answer + ("%" if re.match(r"\s*\\?%", content[stop:]) else "")
    sentence = sentence.strip(" *_`\n")
    if _prose(sentence) and not NUMBER.match(sentence) and (numbers := NUMBER.findall(sentence)):
        return str(numbers[-1]).strip()
    return sentence or None


def closing(text: str) -> str | None:
    """The answer of a response that marks none: of the last line that has any of these, the last formula,
    what stands right of the last equals sign or verb such as "is", the last bold text with a number, or the
    last number."""
    lines = [line for line in text.splitlines() if line.strip() and not _EMPTY_BOX.match(line)]
    if len(lines) == 1 and len(lines[0]) <= 120 and not _prose(lines[0]) and not _VERB.search(lines[0]):
        return expression(lines[0].strip())
    paragraphs = list(_formulas(text))
    if paragraphs and not text[paragraphs[-1][1] :].strip(" \n.*"):
        return paragraphs[-1][2]
    for line in reversed(lines):
        if formulas := list(_formulas(line)):
            return formulas[-1][2]
        _, *parts = re.split(rf"=|{_VERB.pattern}", line)
        right = parts[-1].strip(" .*_") if parts else ""
        if right and not _prose(right) and (re.search(r"[\d\\]", right) or not NUMBER.search(line)):
            return right
        for bold in reversed(_BOLD.findall(line)):
            if number := NUMBER.search(bold):
                return bold if not _prose(bold) else number.group()
        if numbers := NUMBER.findall(line):
            return str(numbers[-1]).strip()
    return None


def _formulas(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of each formula between math delimiters. Two dollar signs with prose between
    them are amounts of money."""
    position = 0
    while match := _MATH.search(text, position):
        content = next(group for group in match.groups() if group is not None)
        if match.group("id") is not None and _prose(content):
            position = match.start() + 1
            continue
        yield match.start(), match.end(), content.strip()
        position = match.end()


def _masked(text: str) -> str:
    """The text with every formula blanked, of the same length, so that a full stop inside ends nothing."""
    parts, position = [], 0
    for start, stop, _ in _formulas(text):
        parts += [text[position:start], "x" * (stop - start)]
        position = stop
    return "".join([*parts, text[position:]])


def _prose(text: str) -> bool:
    return _WORDS.search(_COMMAND.sub(" ", text)) is not None
