"""One spelling for what means the same: LaTeX's dressing, Unicode's symbols, plain-text mathematics."""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.grading.notation import BOLD, CLOSE, OPEN, UNBOLD, closing_brace

_UNICODE = {
    "π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ",
    "≈": r"\approx ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}",
    "⅛": r"\frac{1}{8}", "−": "-", "–": "-",
}  # fmt: skip
_PRIVATE = dict.fromkeys((OPEN, CLOSE, BOLD, UNBOLD), "")
_TRANSLATE = str.maketrans(_UNICODE | _PRIVATE)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_SPACE = re.compile(
    r"(?<!\\)\\[ ,;:>]|~|\s+"
    r"|\\(?:quad|qquad|enspace|thinspace|hspace\{[^{}]*\}|phantom\{[^{}]*\})(?![A-Za-z])"
)
_NOTHING = re.compile(
    r"""\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|bf|it|rm|bfseries|large|Large|boldmath)
        (?![A-Za-z])\s*""",
    re.VERBOSE,
)
_COLOR = re.compile(r"\\(?:text)?color\s*\{[^{}]*\}\s*")
_WORDS_IN = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|emph|mathrm|mathit|mathsf|mathtt|mbox|hbox|operatorname|unit|rm)\*?\s*\{([^{}]*)\}"
)
_DRESS = re.compile(
    r"\\(?:underline|underbrace|boldsymbol|mathbf|bm|pmb|boxed|fbox|ensuremath|mathop)\s*(?=\{)"
)
_PI = re.compile(r"(?<![A-Za-z\\])(?:pi|Pi|PI)(?![A-Za-z])")
_ROOT = re.compile(r"(?<![A-Za-z])\\?sqrt\s*\(([^()]*)\)|√\s*\(([^()]*)\)|√\s*\{?([\d.]+|[a-z])\}?")
_RAISED = re.compile(r"(?<=[\w)}])\s+(squared|cubed)\b")
_FRAC = re.compile(r"\\frac\s*(\{[^{}]*\}|\d|[a-zA-Z])\s*(\{[^{}]*\}|\d|[a-zA-Z])")
_SLASH = re.compile(r"(?<![\d.)}/])\(\s*(-?\d+)\s*\)\s*/\s*\(?\s*(\d+)\s*\)?")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d,])")
_CURLY = re.compile(r"(?<![\\_^A-Za-z}])\{(-?[\d.,]+%?)\}")

_GREEK = r"\\(?:theta|alpha|beta|gamma|delta|phi|varphi|lambda|mu|omega|sigma|rho|tau|Delta|epsilon|pi_\d)"
SYMBOL = rf"(?:[A-Za-z]|{_GREEK})'?(?:_\s*(?:\{{\s*\w+\s*\}}|\w)|\d)?"
_WORD = r"(?:[A-Za-z][a-z]{3,}|the|The|sum|Sum|age|num|ans|Ans|of|for|in)"
_LABEL = re.compile(
    rf"""\s*(?:{SYMBOL}(?:\s*\(\s*(?:{SYMBOL}|-?\d+)(?:\s*,\s*(?:{SYMBOL}|-?\d+))*\s*\))?
       | \|?[A-Z]{{2,3}}\|? | m?\s*\\(?:angle|overline|triangle)\s*(?:\{{[A-Z]{{1,3}}\}}|[A-Z]{{1,3}})
       | \[[A-Z]{{3,4}}\] | {_WORD}(?:\s{_WORD}){{0,5}}(?:(?<=of)\s[A-Za-z])? )\s*
       (?: =(?!=) | \\in(?![A-Za-z]) | :(?=\s) )\s*(?=\S)""",
    re.VERBOSE,
)
_LAST_LABEL = re.compile(rf"\s*(?<![<>!:\\])=\s*({SYMBOL})\s*$")
_MOST_BRACES = 10  # one inside the other
_MOST_DRESSES = 50
_RELATION = re.compile(
    r"[=<>≡]|\\(?:le|ge|ne|lt|gt|leq|geq|neq|leqslant|geqslant|equiv|approx|sim|in)(?![A-Za-z])"
)


def normalized(text: str) -> str:
    """The text without what does not change its meaning: delimiters, spacing and sizing commands, colours,
    thousands commas; words out of ``\\text{}``; and with one spelling of fractions, roots, powers and pi."""
    text = text.translate(_TRANSLATE).strip().strip("$").strip()
    text = re.sub(r"^\\[(\[]|\\[)\]]$", "", text).strip()
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m.group().translate(_SUPERSCRIPTS)}}}", text)
    text = text.replace("{,}", ",").replace("\\$", "$").replace("\\%", "%").replace("\\#", "#")
    text = re.sub(r",\s*\\!\s*", ",", text).replace("\\!", "")
    if "\\" in text:
        text = _unwrapped(_NOTHING.sub("", _COLOR.sub("", text)))
        text = re.sub(r"\\[dtc]frac", r"\\frac", text)
        text = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", text)
        text = _FRAC.sub(lambda m: rf"\frac{_group(m[1])}{_group(m[2])}", text)
    text = _SPACE.sub(" ", text).strip().rstrip(" .,;:").strip()
    text = re.sub(r"\\$", "", text).rstrip(" .,;:")
    text = _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2] or m[3]}}}", text)
    text = _PI.sub(r"\\pi ", text)
    text = _RAISED.sub(lambda m: "^{2}" if m[1] == "squared" else "^{3}", text)
    text = text.replace("**", "^")
    text = re.sub(r"(?<=[\w)}])\s*\*\s*(?=[\w(\\])", r" \\cdot ", text)
    text = _CURLY.sub(r"\1", _SLASH.sub(r"\1/\2", text))
    text = _outside_brackets(_THOUSANDS, ",", text)
    text = _outside_brackets(_SPACED, " ", text)
    return _outer_braces(text.strip())


def _outside_brackets(number: re.Pattern[str], mark: str, text: str) -> str:
    """Takes a mark out of the numbers that stand in no brackets, where it may separate entries."""
    pieces, depth, end = [], 0, 0
    for match in number.finditer(text):
        between = text[end : match.start()]
        depth += sum(map(between.count, ("(", "[", "\\{"))) - sum(map(between.count, (")", "]", "\\}")))
        pieces += [between, match.group() if depth > 0 else match.group().replace(mark, "")]
        end = match.end()
    return "".join([*pieces, text[end:]])


def unlabelled(text: str) -> tuple[str, str]:
    """The bare label that the text begins with ("x =", "f(x) =", "the total cost =") or ends with ("= x"), or
    "", and the rest. What is before "=" in "2x = 5", "x + y = 5" or "y^2 = 5" is no label."""
    label = _LABEL.match(text)
    if label is None and (last := _LAST_LABEL.search(text)) and not _RELATION.search(text[: last.start()]):
        return last[1], text[: last.start()]
    if label is None or re.match(r"\s*(?:sinh?|cosh?|tanh?|arc\w+|sqrt|logs?)\b", text):
        return "", text
    return re.sub(r"[\s=:]+$", "", label.group()).strip(), text[label.end() :]


def has_relation(text: str) -> bool:
    return _RELATION.search(text) is not None


def compact(text: str) -> str:
    """For comparing spellings: no spaces but between digits, no braces around one token, a lone choice
    without parentheses, words without case."""
    text = " ".join(text.split())
    text = re.sub(r"(?<![\d.]) | (?![\d.])", "", text) if not is_text(text) else text
    text = re.sub(r"([_^])\{(\w)\}", r"\1\2", text)
    text = re.sub(r"^\((\w)\)$", r"\1", text)
    return text.lower() if is_text(text) else text


def is_text(text: str) -> bool:
    """Words and nothing else."""
    return re.fullmatch(r"\(?[A-Za-z][A-Za-z\s'’-]+\)?", text) is not None


def split(text: str, is_separator: Callable[[str, int], int]) -> list[str]:
    """The parts between separators outside all brackets; ``is_separator`` gives a separator's length."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        character = text[i]
        if character == "\\" and text[i + 1 : i + 2] in ("{", "}"):
            i += 1
            character = text[i]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and (length := is_separator(text, i)):
            parts.append(text[start:i].strip())
            i += length
            start = i
            continue
        i += 1
    return [*parts, text[start:].strip()]


def _unwrapped(text: str) -> str:
    for _ in range(4):
        text, count = _WORDS_IN.subn(lambda m: f" {m[1]} ", text)
        if not count:
            break
    for _ in range(_MOST_DRESSES):
        dress = _DRESS.search(text)
        if dress is None:
            break
        end = closing_brace(text, dress.end())
        end = end if end >= 0 else len(text)
        text = text[: dress.start()] + text[dress.end() + 1 : end] + text[end + 1 :]
    return text


def _outer_braces(text: str) -> str:
    for _ in range(_MOST_BRACES):
        if not text.startswith("{") or closing_brace(text, 0) != len(text) - 1:
            break
        text = text[1:-1].strip()
    return text


def _group(text: str) -> str:
    return text if text.startswith("{") else f"{{{text}}}"
