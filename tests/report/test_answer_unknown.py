"""A configuration whose numbers are absent is not chosen among as if it had given nothing."""

from __future__ import annotations

import pytest

from orchestrator.report.answer import Answer
from orchestrator.report.build import find
from orchestrator.report.options import Options
from tests.report.studies import Planted, runs_of

BASE = Planted(runs=5, noise=0.002, items=10)
SLOWER = BASE.but(opt=("eager",), tpot_s=0.03)
FASTER = BASE.but(opt=("fp8",), tpot_s=0.01)
UNKNOWN = BASE.but(opt=("awq",), changes=(("output_token_per_s", None),))
NO_NUMBER = (("output_token_per_s", None),)
SLO = (("slo_ttft_s", 1.0), ("goodput_per_s", 2.0), ("slo_attainment", 0.99))


def answer(*planted: Planted) -> Answer:
    (found,) = find(runs_of(planted), Options(accuracy_margin=0.9)).answers
    return found


def test_that_nothing_gives_more_is_not_said_of_what_is_not_known() -> None:
    known = answer(BASE, SLOWER)
    assert (known.choice, known.decided) == ("vllm · no optimization", True)
    found = answer(BASE, SLOWER, UNKNOWN)
    assert (found.choice, found.decided) == ("vllm · no optimization", False)
    assert "How much vllm · awq gave is not known: not among the choices" in found.sure


def test_a_gain_that_is_shown_stays_one() -> None:
    found = answer(BASE, FASTER, UNKNOWN)
    assert (found.choice, found.decided) == ("vllm · fp8", True)
    assert any("vllm · awq gave is not known" in one for one in found.sure)


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ((BASE, UNKNOWN), "How much vllm · awq gave is not known: there is nothing to choose."),
        (
            (BASE.but(changes=NO_NUMBER), FASTER),
            "How much vllm · no optimization gave is not known: there is nothing to hold the others against.",
        ),
        (
            (BASE.but(changes=NO_NUMBER), UNKNOWN),
            "How much vllm · awq, vllm · no optimization gave is not known: there is nothing to choose.",
        ),
        (
            (BASE.but(changes=SLO), FASTER.but(changes=(*SLO[:2], ("slo_attainment", None)))),
            "How much vllm · fp8 gave is not known: there is nothing to choose.",
        ),
    ],
)
def test_without_numbers_there_is_no_choice(planted: tuple[Planted, ...], said: str) -> None:
    found = answer(*planted)
    assert (found.take, found.choice, found.decided) == (said, None, False)
