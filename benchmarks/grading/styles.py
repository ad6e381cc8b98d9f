"""Ways in which models state an answer, for checking that each is graded as what it says."""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.records import Item

MathStyle = Callable[[Item], str | None]
ChoiceStyle = Callable[[Item, str], str]

_REASONING = (
    "Let me think about this step by step.\n\nFirst, I set up the problem. The answer to the first part is "
    "3, written as \\boxed{3}. Wait, that is not right: with $x = 17$ it would be \\boxed{\\frac{17}{2}} "
    "or $1,000 in total. Checking again for the 7 days gives 12 + 5 = 17.\n\n"
)
_UNBOXED = _REASONING.replace("\\boxed", "")


def _thousands(item: Item) -> str | None:
    """None for a reference that no comma changes."""
    if not re.fullmatch(r"-?\d{4,}", item.reference):
        return None
    return f"In total that makes {int(item.reference):,}.\n\n**Final answer:** {int(item.reference):,}"


def _dfrac(item: Item) -> str | None:
    """Integers as fractions over 1, since most references are."""
    if re.search(r"\\[dt]?frac", item.reference):
        fractions = re.sub(r"\\[dt]?frac", r"\\dfrac", item.reference)
        return f"\\boxed{{{fractions}}}"
    if re.fullmatch(r"-?\d+", item.reference):
        return f"The answer is $\\dfrac{{{int(item.reference) * 2}}}{{2}}$."
    return None


def _units(item: Item) -> str | None:
    if not re.fullmatch(r"-?\d+(\.\d+)?", item.reference):
        return None
    return f"So we get the result.\n\n\\boxed{{{item.reference} \\text{{ meters}}}}"


def _unit_words(item: Item) -> str | None:
    if not re.fullmatch(r"-?\d+(\.\d+)?", item.reference):
        return None
    return f"The answer is {item.reference} dollars for the 7 days."


def _percent(item: Item) -> str | None:
    """None also below 1: 0.15 % is not 0.15."""
    if not re.fullmatch(r"-?[1-9]\d*(\.\d+)?|0", item.reference):
        return None
    return f"Therefore, the answer is {item.reference}%."


MATH: dict[str, MathStyle] = {
    "boxed": lambda item: f"Adding it all up.\n\n$\\boxed{{{item.reference}}}$",
    "#### N": lambda item: f"2 + 3 = 5 and so on.\n#### {item.reference}",
    "**Answer:** x": lambda item: f"Some steps with 12 and 7.\n\n**Answer:** ${item.reference}$",
    "The final answer is $x$.": lambda item: f"Steps.\n\nThe final answer is ${item.reference}$.",
    "the same without $": lambda item: f"Steps.\n\nThe final answer is {item.reference}.",
    "**Final Answer** and \\[ \\]": lambda item: f"Steps.\n\n**Final Answer**\n\n\\[ {item.reference} \\]",
    "thousands commas": _thousands,
    "\\dfrac": _dfrac,
    "units in \\text": _units,
    "unit words, other numbers after": _unit_words,
    "percent sign": _percent,
    "after long reasoning with other boxes": lambda item: (
        _REASONING * 20
        + f"So, finally:\n\\[\n\\boxed{{{item.reference}}}\n\\]\nThis took 9 steps in 2 parts."
    ),
    "no mark, last line": lambda item: f"Counting 4 and 9 first.\n\nSo it comes to ${item.reference}$.",
}


def _boxed_letter(item: Item, letter: str) -> str:
    return f"A reason against {_other(item, letter)}.\n\n\\boxed{{{letter}}}"


def _parentheses(item: Item, letter: str) -> str:
    return f"Option {_other(item, letter)} is tempting. The answer is ({letter})."


def _letter_and_text(item: Item, letter: str) -> str:
    return f"A plan: {_other(item, letter)} fails.\n\n**Answer:** {letter}) {_option(item, letter)}"


def _option_text(item: Item, letter: str) -> str:
    return f"I looked at them all.\n\nThe correct answer is: {_option(item, letter)}"


def _long_reasoning(item: Item, letter: str) -> str:
    other = _other(item, letter)
    return (
        f"The answer is {other}? {_UNBOXED * 5}A and {other} can be ruled out.\n"
        f"Answer: {letter}\nI hope that D or A did not mislead you."
    )


def _letter_alone(item: Item, letter: str) -> str:
    return letter


CHOICE: dict[str, ChoiceStyle] = {
    "boxed letter": _boxed_letter,
    "The answer is (X).": _parentheses,
    "**Answer:** X) text": _letter_and_text,
    "option text": _option_text,
    "long reasoning, then Answer: X": _long_reasoning,
    "letter alone": _letter_alone,
}


def _option(item: Item, letter: str) -> str:
    return item.options[ord(letter) - ord("A")]


def _other(item: Item, letter: str) -> str:
    return chr(ord("A") + (ord(letter) - ord("A") + 1) % len(item.options))
