"""Prompt styles: how a question becomes the one user message that is sent.

No style uses a system message; DeepSeek's card for R1 asks for that, and some chat templates have none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.datasets.question import Question


@dataclass(frozen=True, slots=True)
class Style:
    """The instruction after a question with a free answer (``math``) or with options (``choice``), and how a
    worked example states its ``answer``."""

    math: str
    choice: str
    answer: str


_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped one is found with its backslash, and is none

STYLES = {
    "plain": Style(
        math="Reply with the final answer only.",
        choice="Reply with the letter of the correct option only.",
        answer="{}",
    ),
    "cot": Style(
        math='Think step by step. End with a line of the form "Answer: X", where X is the final answer.',
        choice='Think step by step. End with a line of the form "Answer: X", where X is the letter of the '
        "correct option.",
        answer="Answer: {}",
    ),
    "boxed": Style(
        math=r"Please reason step by step, and put your final answer within \boxed{}.",
        choice=r"Please reason step by step, and put the letter of your final answer within \boxed{}.",
        answer=r"\boxed{{{}}}",
    ),
    "bare": Style(math="", choice="", answer="{}"),
}


def render(question: Question, style: Style, shots: Sequence[Question] = ()) -> str:
    """The text of the user message: ``shots`` as worked examples, the question, the style's instruction."""
    instruction = style.choice if question.options else style.math
    asked = [part for part in (_asked(question), instruction) if part]
    if not shots:
        return "\n\n".join(asked)
    examples = [f"Question: {_asked(shot)}\n\n{_worked(shot, style)}" for shot in shots]
    return "\n\n".join([*examples, "Question: " + "\n\n".join(asked)])


def _asked(question: Question) -> str:
    if not question.options:
        return question.text
    return "\n".join(
        [question.text, "", *(f"{chr(65 + i)}) {option}" for i, option in enumerate(question.options))]
    )


def _worked(shot: Question, style: Style) -> str:
    """The answer is stated once, as the style does it: a solution's own box would make it two."""
    return "\n".join(part for part in (_unboxed(shot.worked), style.answer.format(shot.answer)) if part)


def _unboxed(solution: str) -> str:
    """Without ``\\boxed`` and ``\\fbox``, whose content stays."""
    while found := _BOX.search(solution):
        before, rest = solution[: found.start()], solution[found.end() :]
        depth = 0
        for brace in _BRACE.finditer(rest) if rest.startswith("{") else ():
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                rest = rest[1 : brace.start()] + rest[brace.end() :]
                break
        solution = before + rest
    return solution
