"""What counts as the answer to a problem, and when it equals the reference."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.grading import grade
from orchestrator.grading.extract import boxed
from orchestrator.records import Grade, Item


def item(reference: str) -> Item:
    return Item("x", (), reference, "math")


def is_right(reference: str, text: str) -> bool:
    return bool(grade(item(reference), text, truncated=False).correct)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        # the last box, wherever other numbers stand
        ("204", "The result: 12. Then \\boxed{204}"),
        ("2", "The answer is \\boxed{2} because 3 is not."),
        ("5", "Thus, the answer is therefore $\\boxed 5$."),
        ("5", "\\boxed{}\nThe answer is 5."),
        ("1,-2", "\\boxed{1} and \\boxed{-2}"),
        ("1,-2", "\\boxed{x=1} or \\boxed{x=-2}"),
        # statements
        ("18", "The answer is $18 and not $20."),
        ("70000", "**Answer:** $70,000."),
        ("5", "The answer is: \n\n5"),
        ("5", "The answer is 5, which I put in \\boxed{}."),
        ("14", "So, 7 * 2 = 14.\n\nThe answer is within \\boxed{}."),
        ("5", "### Final Answer\n\n5"),
        ("5", "Answer: **5**"),
        ("5", "**Answer**: 5 apples"),
        ("5", "Final answer: $$5$$"),
        ("5", "The answer is 5, since 2+3=5."),
        ("5", "The answer is 5 (five)."),
        ("5", "The correct answer should be 5! Great."),
        ("3.5", "The answer is 3.5."),
        ("3", "The answer is \\(3\\)."),
        ("72", "So, the final answer is:\n\nAvery will spend $72.00 on place settings."),
        ("1,-2", "The answer is $-2$ and $1$."),
        ("18", "The answer is 18 dollars for the 7 days."),
        ("p - q", "2 + 3 = 5\n#### p - q"),
        # no statement: the end of the response
        ("18", "She makes 9 * 2 = $18 every day at the farmer's market."),
        ("18", "So she has $9 \\times 2 = 18$ dollars."),
        ("18", "\\[ 9 \\times 2 = 18 \\]"),
        ("3", "There are **3** of them in 2 rows."),
        ("2", "I think it's 2"),
        ("18", "3 times 6 is 18."),
        ("3, 5", "x = 3 or x = 5"),
        ("11", "Ben buys 4 more stamps. 4 + 7 = 11, which is Ben's total."),
        ("\\text{Evelyn}", "The fastest is Evelyn."),
        ("\\frac{4}{3}", "\\frac{4}{3}"),
    ],
)
def test_the_stated_answer_is_read(reference: str, text: str) -> None:
    assert is_right(reference, text)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("-5", "\\boxed{−5}"),
        ("10,\\!080", "\\boxed{10080}"),
        ("11,\\! 111,\\! 111,\\! 100", "\\boxed{11111111100}"),
        ("58,500", "\\boxed{58500}"),
        ("\\$18.90", "\\boxed{18.9}"),
        ("\\$32,\\!348", "So it comes to $\\$32,\\!348$."),
        (".35625", "\\boxed{0.35625}"),
        ("326.5", "\\boxed{\\frac{653}{2}}"),
        ("1\\frac{4}{5}", "\\boxed{\\frac{9}{5}}"),
        ("1\\frac{4}{5}", "\\boxed{1.8}"),
        ("\\frac 59", "\\boxed{\\dfrac{5}{9}}"),
        ("\\frac{3}{4}", "The answer is 3/4."),
        ("\\frac{1}{3}", "\\boxed{0.3333333}"),
        ("45", "The answer is 45%."),
        ("0.15", "\\boxed{15\\%}"),
        ("90^\\circ", "The angle is 90 degrees."),
        ("\\frac{270}7\\text{ degrees}", "\\boxed{\\frac{270}{7}^\\circ}"),
        ("864 \\mbox{ inches}^2", "The answer is 864 square inches."),
        ("15\\mbox{ cm}^2", "\\boxed{15 cm^2}"),
        ("5.4 \\text{ cents}", "\\boxed{5.4}"),
        ("540", "\\boxed{540 \\, \\mathrm{m/week}}"),
        ("540", "\\boxed{\\text{540 meters}}"),
        ("540", "The total is USD 540."),
        ("10080", "\\boxed{10{,}080}"),
        ("6.72 \\times 10^{-5}", "\\boxed{.0000672}"),
        ("\\frac{14}{3}", "\\boxed{4\\frac{2}{3}}"),
        ("\\cot x", "\\boxed{\\frac{\\cos x}{\\sin x}}"),
        ("52_8", "\\boxed{52_{8}}"),
        ("52_8", "\\boxed{52}"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "\\boxed{(3,\\pi/2)}"),
        ("\\text{Evelyn}", "The final answer is Evelyn."),
        ("\\text{(C)}", "The answer is (C)."),
        ("x \\in [-2,7]", "\\boxed{[-2,7]}"),
        ("y = 2x + 3", "\\boxed{3+2x}"),
        ("(a+5)(b+2)", "\\boxed{(b+2)(a+5)}"),
        ("3 \\pm 2 \\sqrt{2}", "\\boxed{3+2\\sqrt2, 3-2\\sqrt2}"),
        ("3, 5, 7", "\\boxed{7,5,3}"),
        ("5x - 7y + 11z + 4 = 0", "\\boxed{-5x+7y-11z-4=0}"),
        ("\\begin{pmatrix} 1/5 \\\\ 2 \\end{pmatrix}", "\\boxed{\\begin{bmatrix} 0.2 \\\\ 2 \\end{bmatrix}}"),
        ("(5,\\infty)", "\\boxed{x>5}"),
    ],
)  # fmt: skip
def test_the_same_value_in_another_spelling_is_right(reference: str, text: str) -> None:
    assert is_right(reference, text)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("10000", "\\boxed{10001}"),  # within a relative tolerance of 1e-4
        ("28800", "\\boxed{28802}"),
        ("12", "The answer is 1,2"),
        ("2", "The answer is 200%."),
        ("14", "\\boxed{6 + 8}"),
        ("42", "The answer is $6 \\times 7$."),
        ("5", "The answer is -5."),
        ("6", "The answer is $x + 1 = 6$."),
        ("9000", "\\boxed{1,000}"),
        ("\\frac{1}{3}", "\\boxed{0.333}"),
        ("7", "The answer is 7 or 8."),
        ("3, 5, 7", "\\boxed{3,5}"),
        ("52_8", "\\boxed{52_9}"),
        ("52_8", "\\boxed{42}"),  # its value in base ten: the question asks for base eight
        ("(3,4]", "\\boxed{(3,4)}"),
        ("(5,\\infty)", "\\boxed{x\\ge5}"),
        ("5", "\\boxed{x>5}"),
        ("\\text{Evelyn}", "**Answer:** Carla"),
        ("5", "\\boxed{}"),
        ("5", "I do not know."),
        ("5", ""),
    ],
)
def test_another_value_is_wrong(reference: str, text: str) -> None:
    assert not is_right(reference, text)


@given(value=st.integers(-(10**9), 10**9), other=st.integers(-(10**9), 10**9))
def test_integers_are_equal_exactly(value: int, other: int) -> None:
    assert is_right(str(value), f"\\boxed{{{value:,}}}")
    assert is_right(str(value), f"The answer is {value}.")
    assert is_right(str(value), f"\\boxed{{{other}}}") == (value == other)


@given(numerator=st.integers(-999, 999), denominator=st.integers(1, 999), factor=st.integers(1, 20))
def test_fractions_are_equal_by_value(numerator: int, denominator: int, factor: int) -> None:
    reference = f"\\frac{{{numerator}}}{{{denominator}}}"
    assert is_right(reference, f"\\boxed{{\\dfrac{{{numerator * factor}}}{{{denominator * factor}}}}}")
    assert is_right(reference, f"The answer is {Fraction(numerator, denominator)}.")
    assert not is_right(reference, f"\\boxed{{\\frac{{{numerator + 1}}}{{{denominator}}}}}")


@given(before=st.text(max_size=200), value=st.integers(0, 999))
def test_a_box_at_the_end_is_read_after_any_text(before: str, value: int) -> None:
    assert grade(item(str(value)), f"{before}\n\n$\\boxed{{{value}}}$", truncated=False).correct


@given(st.text(alphabet="\\boxed{}frac$1234 answeris:#*()\n.,", max_size=300))
def test_reading_never_fails(text: str) -> None:
    result = grade(item("\\text{Evelyn}"), text, truncated=False)
    assert result.correct is False
    boxed(text)


def test_nothing_in_a_truncated_response_counts() -> None:
    assert grade(item("5"), "The answer is \\boxed{5}. Wait", truncated=True) == Grade(None, correct=False)


def test_an_item_without_a_reference_has_no_grade() -> None:
    assert grade(Item("x", (), "", "none"), "\\boxed{5}", truncated=False) == Grade(None, None)


def test_what_was_read_is_told_even_when_wrong() -> None:
    assert grade(item("5"), "So \\boxed{x = 7}", truncated=False) == Grade("x = 7", correct=False)
