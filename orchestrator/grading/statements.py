"""Where a response says what its answer is, for problems and multiple choice alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MOST = 50  # of each form are looked at: the answer is near the end
_LONGEST = 400  # characters of one statement

_FOREIGN = (
    r"(?:Antwort|Lösung|Ergebnis|Réponse|Reponse|Respuesta|Solución|Risposta|Resposta|Ответ|Odpowiedź"
    r"|Antwoord|Svar)"
)
_STATEMENT = re.compile(
    rf"""
    ^\#{{4}}[ \t]*(?=[-+$\\(\[{{.\d\ue000]|[a-zA-Z]\s*(?:[-+=^*/_\\]|$))  # GSM8K's own mark, not a heading
    | \banswers?\b(?P<gap>[^\n.:=;?!]{{0,80}}?)
      (?: \s*[:=]+                                                   # Answer: x
        | \s(?:is|are|was|would\ be|will\ be|should\ be|must\ be|equals|comes\ out\ to(?:\ be)?)\b
          (?:\s+(?:therefore|thus|hence|then|simply|just|indeed|equal\ to|given\ by|option|choice)\b)*\s*:?
      )
    | ^[\s\#]{{0,12}}(?:final\s+)?answers?\s{{0,6}}$                     # a heading of its own line
    | (?:答案|答え|答|정답|답)\s*(?:应该|應該|就)?\s*(?:(?:是|为|為|选|選|は|은)\s*:?|:)
    | \b{_FOREIGN}\b[^\n.:;?!\d]{{0,40}}?(?:\s*[:=]|\s(?:ist|lautet|est|es|è|é|jest|is|är)\b\s*:?)
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_REVERSED = re.compile(
    r"""\s(?:is|must\ be|would\ be|should\ be)\s+(?:(?:therefore|thus|hence|clearly|indeed|then)\s+)?
      (?: the\s+(?:(?:correct|right|final|best|true)\s+)?(?:answer|option|choice)\b
          (?!\s+(?:to|for)\s+(?:the\s+first|part|a)\b)
        | the\s+(?:correct|right|best|true)\s+(?:one|statement|response)\b
        | (?:the\s+)?(?:correct|right)\b(?!\s+\w+ly\b) )""",
    re.IGNORECASE | re.VERBOSE,
)
_CLAUSE = re.compile(
    r"[\n;:,?!]|\.\s|\b(?:so|thus|hence|therefore|then|that|because|and|but)\s", re.IGNORECASE
)
_GAP_BREAK = re.compile(
    r"\b(?:and|but|so|because|since|which|not|isn|cannot|depends)\b|n['’]t\b", re.IGNORECASE
)
EMPTY_BOX = re.compile(r"[^\d\n]{0,80}\\boxed\s*\{\s*\}")  # "within \\boxed{}", the prompt given back
MARKUP = re.compile(r"[\s*_`>~:]*")
_DENIAL = re.compile(
    r"""(?:(?:definitely|certainly|clearly|probably|obviously|simply|surely|also|actually)\s+)?
      (?:not|never|wrong|incorrect|neither|unclear|unknown)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_DOUBT = re.compile(
    r"""(?:\bnot\s+(?:the\s+case\s+|true\s+|sure\s+|clear\s+)?(?:that|if|whether)|n['’]t\s+(?:think|believe|say|mean|know)
      |\bif|\bsuppose|\bwhether|\bassum\w+|\bunless|\bdoubt|\bwhy|\bhow|\bpretend|\bclaims?|\bguess(?:ed)?\s+that|\bwrong\s+that)
      \b[^.\n;]{0,30}$""",
    re.IGNORECASE | re.VERBOSE,
)
_RETRACTION = re.compile(
    r"[^\n]{0,60}?[.!?,;-]\s+(?:no\b[,.!]|wait\b|hmm\b|oops\b|scratch\s+that|actually,?\s+(?:no|wait|that))",
    re.IGNORECASE,
)
_LAST_WORD = re.compile(r"[\w.,]+$")
_QUESTION = re.compile(r"[^.!\n]{0,120}\?(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Statement:
    """``content`` is what is said to be the answer and what follows; ``reversed`` where it stood before ("B
    is the answer"), then nothing follows. ``denied``: said not to be, asked, or only supposed. ``retracted``:
    taken back right after; ``end`` is where its first line ends in the response."""

    content: str
    denied: bool
    retracted: bool
    reversed: bool
    end: int


def statements(text: str) -> Iterator[Statement]:
    """What follows each "the answer is", "Answer:" or "####", or stands before "is the answer", the last one
    first, at most 400 characters and not past the next statement. The text has no Markdown any more."""
    found: list[tuple[int, int, re.Match[str] | None]] = []
    found += [(m.start(), m.end(), m) for m in list(_STATEMENT.finditer(text))[-_MOST:]]
    found += [(m.start(), m.end(), None) for m in list(_REVERSED.finditer(text))[-_MOST:]]
    end = len(text)
    for start, stop, match in sorted(found, key=lambda one: one[:2], reverse=True):
        if match is None:
            clause = text[max(0, start - 80) : start]
            breaks = list(_CLAUSE.finditer(clause))
            content = clause[breaks[-1].end() :].strip() if breaks else clause.strip()
            before = text[max(0, start - 120) : start]
            if content and not re.match(
                r"(?:this|that|which|it|what|here|one|there)\b", content, re.IGNORECASE
            ):
                denied = bool(_DOUBT.search(before)) or _QUESTION.match(text[stop : stop + 140]) is not None
                yield Statement(content, denied, _retracted(text, stop), reversed=True, end=stop)
            continue
        if match["gap"] and _GAP_BREAK.search(match["gap"]):
            continue
        marked = MARKUP.match(text, stop)
        content = _uncut(text, marked.end() if marked else stop, min(end, stop + _LONGEST))
        end = start
        if not content.strip() or EMPTY_BOX.match(content):
            continue
        denied = bool(
            _DENIAL.match(content)
            or _QUESTION.match(content)
            or _DOUBT.search(text[max(0, start - 60) : start])
        )
        line_end = text.find("\n", marked.end() if marked else stop)
        yield Statement(
            content, denied, _retracted(content, 0), reversed=False, end=line_end if line_end > 0 else stop
        )


def _uncut(text: str, start: int, stop: int) -> str:
    """The text between, without a word or number at its end that goes on after ``stop``."""
    content = text[start:stop]
    return _LAST_WORD.sub("", content) if text[stop : stop + 1].isalnum() else content


def _retracted(text: str, start: int) -> bool:
    return _RETRACTION.match(text, start) is not None
