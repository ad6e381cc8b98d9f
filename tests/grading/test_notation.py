"""What is taken off a response, and what only looks like it."""

from __future__ import annotations

import pytest

from orchestrator.grading.notation import visible


@pytest.mark.parametrize(
    "text",
    [
        "x<5 and y>3",
        "a<b and c>d",
        "p<i and q>u",
        "0<p, q>1",
        "i<b - 2 and c>0",
        "if a <b or c> d",
        "$a<b$ and $c>0$",
        "x < p > y is no tag",
    ],
)
def test_inequalities_are_no_tags(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "<b>5</b>",
        "<p>5</p>",
        "5<br/>",
        "5<br />",
        '<span style="color:red">5</span>',
        "<div class='a b' id=c>5</div>",
        "<font color=#ff0000>5</font>",
        "<strong>5</strong>",
    ],
)
def test_tags_are_taken_off(text: str) -> None:
    assert visible(text).strip() == "5"
