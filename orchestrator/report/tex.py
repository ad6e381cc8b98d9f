"""Texts in LaTeX."""

from __future__ import annotations

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "µ": r"$\mu$"}
_TEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}
_TEX |= {"−": "$-$", "±": r"$\pm$", "·": r"$\cdot$", "–": "--", "<": "$<$", ">": "$>$"}


def tex(text: str) -> str:
    """The text as it is, where LaTeX would read some of it as its own."""
    return "".join(_TEX.get(letter, letter) for letter in text)
