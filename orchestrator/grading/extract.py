"""Where in a response the answer to a problem is: the text of the answer, not yet its meaning.

The order is that of how clearly an answer is marked: the last ``\\boxed{}``; the last statement of the form
``#### x``, "the answer is x", "Answer: x" or "x is the answer"; and, when a response has neither, its end
(see `closing`). Every pattern is bounded, so that reading takes time linear in the response's length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.grading import before
from orchestrator.grading.notation import (
    BOLD,
    CLOSE,
    OPEN,
    UNBOLD,
    closing_brace,
    is_prose,
    told_apart,
    visible,
    without_bold,
)
from orchestrator.grading.quantity import DENIED, and_tail, read
from orchestrator.grading.spelling import has_relation, normalized, unlabelled
from orchestrator.grading.statements import EMPTY_BOX, Statement, statements

_BOXES = 50  # at most are looked at: the answer is near the end
_LONGEST_BOX = 10_000
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=\{|\d)")
_BARE = re.compile(r"[\d.,]{0,20}\d")
_GLUE = re.compile(
    r"""(?: [\s$.,;:&*~{}()\[\]\\-] | \\(?:quad|qquad|text|mathrm|textbf|hspace\{[^{}]*\}|newline|left|right)
          | \b(?:and|or|also)\b )*""",
    re.VERBOSE,
)
_BOX_LABEL = re.compile(
    r"(?:^|[\s$,;&\\])(?P<label>[A-Za-z](?:_\{?\w\}?)?|[A-Za-z]\([a-z]\))\s*[=:]\s*[$\s]*$"
)

_FORMULA = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")
_LIST_GLUE = re.compile(r"\s*(?:[,;]|,?\s*(?:and|or)(?!\s+not))\s*")
_SENTENCE_END = re.compile(r"[.!?;]\s*(?:$|\s+(?=[A-Z(\"*\\\ue000\ue002]))|[.!?;]?\n")
_COPULA = re.compile(
    r"\b(?:is|are|was|were|equals|be|totals|makes|gives|leaves)\b\s*(?:equal\s+to\s+|then\s+|therefore\s+)?:?\s*"
)
_HEDGE = re.compile(
    r"""\s*(?:either|between|at\s+least|at\s+most|(?:more|less|fewer|greater|larger|smaller|higher|lower|other)\s+than
      |up\s+to|over|under|above|below|no\s+(?:more|less|fewer)\s+than|not|almost|nearly|anything|any)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_SENTENCES = re.compile(r"(?<=[.!?;])(?=\s)|(?=\n)")
_DENIAL = re.compile(
    r"\b(?:if|suppose|supposing|assum\w+|whether|pretend)\b.*\banswers?\b|"
    r"\banswers?\b.*(?:\bnot\b|\bcannot\b|n['’]t\b)|\banswer\b.*\b(?:is|was|be|seems)\s+(?:\w+ly\s+)?"
    r"(?:wrong|incorrect|false|impossible|invalid)\b|(?:\bnot|n['’]t\s+be)\s+the\s+(?:\w+\s+)?answer\b",
    re.IGNORECASE,
)
_SO = re.compile(r"(?:So|Thus|Hence|Therefore|Then)\b,?\s+")
_NOT_ANOTHER = re.compile(
    r",\s*(?:and\s+)?not\s+(?:[A-Za-z]\s*=\s*)?[-\d].*", re.DOTALL
)  # "x = 5, not x = 7"
_TAKEN_BACK = re.compile(
    r"\s*(?:but\s+)?(?:that|this|it|which)\s+(?:is|was|seems|must\s+be)\s+(?:\w+ly\s+)?"
    r"(?:wrong|incorrect|false|impossible|not\s+(?:right|correct|possible|true)|n['’]t)\b",
    re.IGNORECASE,
)
_FIRST_WORD = re.compile(r"^\S+")
_ARITHMETIC = re.compile(r"[\d\s.+*/×÷()-]+=")
_SUM = re.compile(r"\d\s*[-+*/×÷x]\s*\$?\s*\d[^=]{0,60}=")
_END = 4000  # characters at the end in which an unmarked answer is looked for
NUMBER = re.compile(  # the minus of "7 - 2" is not a sign; a fraction, a ratio or a time is one thing
    r"(?<![\w.^_\\])(?:(?<![\d)]\s)(?<![\d)])[-+])?\s?(?:[$€£]\s?)?[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:\s?[/:^]\s?\d[\d,]*(?:\.\d+)?)*(?:\s?\\?%)?"
)
_ALGEBRA = re.compile(
    r"(?<![A-Za-z])(?:\d+[a-z](?![a-z])|[a-z]\s*[\^*/+-]|[-+*/]\s*[a-z](?![A-Za-z]))|[<>!]\s*$"
)


@dataclass(frozen=True, slots=True)
class Boxes:
    """The contents of the last box and of those that belong together with it, in order, and where the last
    one ends; ``unfinished`` when the last box never closes."""

    contents: tuple[str, ...]
    end: int
    unfinished: bool = False


def answer(text: str) -> str | None:
    """The answer that a response states, None where it states none."""
    text = visible(text)
    boxes = boxed(text)
    if boxes.unfinished:
        return None
    if boxes.contents:
        return ", ".join(boxes.contents)
    marked = told_apart(text)
    plain = without_bold(marked)
    for statement in statements(plain):
        if statement.retracted:
            return closing(plain[statement.end :])
        if not statement.denied and (found := _stated(statement)):
            return found
    return closing(marked)


def boxed(text: str) -> Boxes:
    """The last ``\\boxed{}`` that has any content, braces balanced, with those before it that only spacing, a
    comma, "and", "or", a line break or a label ("y =") separates: they are one answer. Said twice is once."""
    parts: list[str] = []
    after = last = -1
    for match in reversed(list(_BOX.finditer(text))[-_BOXES:]):
        content, end = _braced(text, match.end())
        if end < 0:
            if last < 0:
                return Boxes((), len(text), unfinished=True)
            break
        if not content.strip(" $"):
            continue
        if after >= 0:
            if after - end > 60:
                break
            label = _BOX_LABEL.search(text[end:after])
            glue = text[end : end + label.start("label")] if label else text[end:after]
            if _GLUE.fullmatch(glue) is None:
                break
            if label:
                parts[-1] = f"{label['label']} = {parts[-1]}"
        parts.append(content.strip())
        last, after = max(last, end), match.start()
    if len(parts) > 1 and (label := _BOX_LABEL.search(text[max(0, after - 20) : after])):
        parts[-1] = f"{label['label']} = {parts[-1]}"
    return Boxes(tuple(dict.fromkeys(reversed(parts))), last)


def _braced(text: str, start: int) -> tuple[str, int]:
    """The group that starts at ``start`` and where it ends; ("", -1) when it is not closed."""
    if text[start] != "{":
        token = _BARE.match(text, start)
        return (token.group(), token.end()) if token else ("", start)
    end = closing_brace(text, start, start + _LONGEST_BOX)
    return (text[start + 1 : end], end + 1) if end >= 0 else ("", -1)


def _stated(statement: Statement) -> str | None:
    if not statement.reversed:
        return expression(statement.content)
    return statement.content if re.search(rf"[\d{OPEN}]", statement.content) else None


def expression(content: str) -> str | None:
    """The mathematical answer at the start of a statement: its first formula or number, with the words
    after it that may change it; or, if its sentence only comes to it ("the largest n is 34"), what follows
    the verb; a sentence without numbers as it stands."""
    sentence = _sentence(content)
    if _HEDGE.match(sentence):
        return sentence.strip()
    while (verb := _COPULA.search(sentence)) is not None:
        names, after = sentence[: verb.start()], sentence[verb.end() :]
        if not re.search(rf"[\d{OPEN}]", after) or not _only_names(names):
            break
        sentence = after
        if _HEDGE.match(sentence):
            return sentence.strip()
    first = _FORMULA.search(sentence)
    number = NUMBER.search(sentence)
    if first is not None and (number is None or first.start() <= number.start()):
        if before.is_changed(sentence, first.start()):
            return _FORMULA.sub(r"\1", sentence).strip()
        return _with_its_list(sentence, first)
    sentence = sentence.strip(" _`\n\"'")
    if number is None:
        return sentence or None
    if is_prose(sentence) and not _begins_with_number(sentence):
        if "=" in sentence:
            return _right_of_equals(sentence)
        last = list(NUMBER.finditer(sentence))[-1]
        return sentence if before.is_changed(sentence, last.start()) else _last_number(sentence)
    if (right := _computed(sentence)) is not None:
        return right
    return _NOT_ANOTHER.sub("", sentence) or None


def _sentence(content: str) -> str:
    content = content.lstrip()
    masked = _FORMULA.sub(lambda m: "x" * len(m.group()), content)
    end = _SENTENCE_END.search(masked)
    return content[: end.start()] if end else content


def _only_names(text: str) -> bool:
    """Whether these words, with formulas that are names, only lead up to a value."""
    names = _FORMULA.findall(text)
    words = _FORMULA.sub(" ", text)
    if re.search(r"\d", words) or "," in words:
        return False
    if text.lstrip().startswith(OPEN) and not re.fullmatch(
        r"[A-Za-z]\w?(?:_\{?\w\}?)?|[A-Za-z]\([a-z]\)", names[0]
    ):
        return False
    return all(re.search(r"[A-Za-z]", name) for name in names) and bool(words.strip() or names)


def _begins_with_number(sentence: str) -> bool:
    match = NUMBER.search(sentence)
    return match is not None and not sentence[: match.start()].strip(" ≈~")


def _computed(sentence: str) -> str | None:
    """What stands right of "7 * 2 = 14", or of "7 times 2 is 14"."""
    match = re.match(
        r"[-+$\d.,\s]+(?:[-+*/×÷x(]|\b(?:times|plus|minus|divided|multiplied|of)\b)[^=\n]{0,80}?(?:=|\b(?:is|equals|makes|gives)\b)",
        sentence,
    )
    if match is None or _ALGEBRA.search(match.group()) or _ARITHMETIC.fullmatch(match.group()):
        return None  # whether an equation of numbers holds is seen when it is compared
    right = sentence[match.end() :].strip()
    return right if not is_prose(right) or NUMBER.match(right) else None


def _with_its_list(sentence: str, first: re.Match[str]) -> str:
    answer, stop = first[1], first.end()
    for other in _FORMULA.finditer(sentence, stop):
        if not _LIST_GLUE.fullmatch(sentence[stop : other.start()]):
            break
        answer, stop = f"{answer}, {other[1]}", other.end()
    lead = sentence[: first.start()].strip().rpartition(" ")[2].lower()
    lead = {"negative": "-", "minus": "-"}.get(lead, "")
    tail = sentence[stop:]
    return f"{lead}{answer}{and_tail(tail)}"


def closing(marked: str) -> str | None:
    """The answer of a response that marks none: of the last line that has any of these, the last formula,
    what stands right of the last equals sign or verb such as "is", the last bold text with a number, or the
    last number. What is asked or denied is no answer."""
    end = marked if len(marked) <= _END else _FIRST_WORD.sub("", marked[-_END:])
    sentences = _SENTENCES.split(end)
    taken_back = [_TAKEN_BACK.match(one) is not None for one in [*sentences[1:], ""]]
    text = "".join(
        one
        for one, back in zip(sentences, taken_back, strict=True)
        if not (back or one.rstrip().endswith("?") or _denies(one))
    )
    lines = [line for line in text.splitlines() if line.strip() and not EMPTY_BOX.match(line)]
    if len(lines) == 1 and len(lines[0]) <= 120 and not is_prose(_FORMULA.sub(" ", lines[0])):
        line = _SO.sub("", without_bold(lines[0]).strip())
        if not _COPULA.search(line) and not _SUM.search(line):
            return expression(line)
    denied: set[str] = set()
    for line in reversed(lines):
        found = _in_line(line)
        if found is not None and found.strip() not in denied:
            return found
        denied |= _denied_in(line)
    return None


def _denies(sentence: str) -> bool:
    lowered = sentence[:1000].lower()
    return "answer" in lowered and _DENIAL.search(lowered) is not None


def _in_line(line: str) -> str | None:
    formulas = [f for f in _FORMULA.finditer(line) if not re.fullmatch(r"\s*[A-Za-z]\s*", f[1])]
    plain = without_bold(line)
    if len(plain) <= 80 and not NUMBER.search(plain) and read(normalized(plain)) is not None:
        return plain.strip()
    if formulas and not NUMBER.search(line[formulas[-1].end() :]):
        denied = _denied_in(line)
        while formulas and formulas[-1][1].strip() in denied:
            formulas.pop()
        return _with_those_before(line, formulas) if formulas else None
    if "=" in plain and (right := _right_of_equals(plain)) is not None:
        return right
    if (verb := list(_COPULA.finditer(plain))) and not before.is_denied(plain, verb[-1].start()):
        right = plain[verb[-1].end() :].strip(" .*_")
        if (
            right
            and not _HEDGE.match(right)
            and (_begins_with_number(right) or (not NUMBER.search(plain) and not is_prose(right)))
        ):
            return right
    for bold in reversed(re.findall(f"{BOLD}([^{UNBOLD}]*){UNBOLD}", line)):
        if (number := NUMBER.search(bold)) and number.group().strip():
            return bold if not is_prose(bold) else _with_tail(bold, number)
    return _last_number(plain)


def _is_denied(line: str, found: re.Match[str]) -> bool:
    """Whether a line says that a number or formula in it is not the answer: "not 5", "5 is not possible"."""
    return before.is_denied(line, found.start()) or DENIED.match(line, found.end()) is not None


def _denied_in(line: str) -> set[str]:
    """The numbers and formulas that a line says are not the answer, wherever else they stand."""
    numbers = {one.group().strip() for one in NUMBER.finditer(line) if _is_denied(line, one)}
    return numbers | {one[1].strip() for one in _FORMULA.finditer(line) if _is_denied(line, one)}


def _with_those_before(line: str, formulas: list[re.Match[str]]) -> str:
    """The last formula, with those before it that "or", "and" or a comma makes one list of: values, or bare
    assignments, but no steps of a computation."""
    last = formulas.pop()
    answer, start = last[1], last.start()
    while formulas and _LIST_GLUE.fullmatch(line[formulas[-1].end() : start]):
        if has_relation(unlabelled(formulas[-1][1])[1]) or has_relation(unlabelled(last[1])[1]):
            break
        answer, start = f"{formulas[-1][1]}, {answer}", formulas.pop().start()
    return f"{before.factor(line, start)}{answer}{and_tail(line[last.end() :])}"


def _right_of_equals(line: str) -> str | None:
    """What follows the last "=", unless algebra stands before it ("2x = 10", "x >= 5"): then the relation."""
    left, _, right = line.rpartition("=")
    last_left = re.split(r"=|[.;:]\s|,\s|\s{2,}", left)[-1]
    if not NUMBER.search(right):
        return None
    if _ALGEBRA.search(last_left) and not re.search(r"\d\s*x\s*[\d$]", last_left):
        return f"{last_left.strip()} = {right.strip()}"
    number = NUMBER.search(right)
    assert number is not None
    if right[: number.start()].strip(" $≈~\"'("):
        return _last_number(right)
    return _with_tail(right, number)


def _last_number(line: str) -> str | None:
    """The last number of a line with the words after it that may change it, unless it is denied."""
    denied = _denied_in(line)
    for number in reversed(list(NUMBER.finditer(line))):
        if number.group().strip() not in denied:
            return _with_tail(line, number)
    return None


def _with_tail(line: str, number: re.Match[str]) -> str:
    lead = re.search(r"\b(negative|minus)\s+$", line[: number.start()], re.IGNORECASE)
    sign = "-" if lead and not re.search(r"\d\s*\w*\s*$", line[: lead.start()]) else ""
    lead_in = before.factor(line, number.start()) or sign
    return f"{lead_in}{number.group().strip()}{and_tail(line[number.end() :])}"
