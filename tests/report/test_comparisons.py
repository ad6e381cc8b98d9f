"""Planted effects are found with sign and size, equal cells are left alone, equivalence is called so."""

from __future__ import annotations

import pytest

from orchestrator.metrics.significance import holm
from orchestrator.report.build import find
from orchestrator.report.comparisons import Line
from orchestrator.report.findings import Findings
from orchestrator.report.options import Options
from orchestrator.report.words import runs_needed, words
from tests.report.studies import Planted, runs_of

BASE = Planted()
FAST = BASE.but(opt=("fp8",), tpot_s=0.02 / 1.25)


def findings(*planted: Planted, seed: int = 0, options: Options | None = None) -> Findings:
    return find(runs_of(planted, seed), options or Options())


def line(found: Findings, measure: str, opt: str = "fp8") -> Line:
    (one,) = (
        one
        for one in found.lines
        if one.measure.key == measure
        and one.pair.variant.facts["opt"] == opt
        and one.pair.axis.name == "optimizations"
    )
    return one


def said(found: Findings, measure: str, opt: str = "fp8") -> str:
    return words(line(found, measure, opt), Options())


def test_a_planted_gain_is_found_with_its_sign_and_size() -> None:
    found = findings(BASE.but(runs=7), FAST.but(runs=7))
    rate, token = line(found, "throughput"), line(found, "tpot")
    assert rate.verdict == "different"
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low < 0.25 < rate.high
    assert rate.high - rate.low < 0.1
    assert rate.better
    assert token.verdict == "different"
    assert token.difference == pytest.approx(-0.2, abs=0.03)
    assert token.better
    assert said(found, "tpot").startswith("faster by 1")
    assert said(found, "throughput").startswith("higher by 2")


def test_a_planted_loss_is_said_to_be_one() -> None:
    found = findings(BASE.but(runs=7), BASE.but(opt=("fp8",), tpot_s=0.02 * 1.1, runs=7))
    assert line(found, "tpot").better is False
    assert said(found, "tpot").startswith("slower by ")
    assert said(found, "throughput").startswith("lower by ")


def test_fewer_tokens_are_not_faster_tokens() -> None:
    found = findings(BASE.but(runs=7), BASE.but(opt=("fp8",), tokens=70.0, runs=7))
    tokens, token = line(found, "tokens"), line(found, "tpot")
    assert tokens.verdict == "different"
    assert tokens.difference == pytest.approx(-0.3, abs=0.03)
    assert said(found, "tokens").startswith("fewer tokens by ")
    assert token.verdict == "equivalent"
    assert line(found, "e2e").verdict == "different"  # which alone would look like a faster engine


@pytest.mark.slow
def test_of_200_reports_on_equal_cells_at_most_5_percent_claim_anything() -> None:
    equal = [BASE.but(opt=opt, noise=0.05) for opt in (("none",), ("fp8",), ("awq",))]
    claiming = sum(bool(findings(*equal, seed=seed).claims) for seed in range(200))
    assert claiming <= 10


def test_a_planted_equivalence_is_called_equivalent() -> None:
    alike = [BASE.but(opt=opt, noise=0.005, runs=6) for opt in (("none",), ("fp8",))]
    found = findings(*alike)
    for measure in ("throughput", "tpot", "e2e"):
        assert line(found, measure).verdict == "equivalent", measure
    assert said(found, "throughput").startswith("unchanged within ±")
    (answer,) = found.answers
    assert answer.decided
    assert "for now" not in answer.take
    many = [BASE.but(opt=opt, items=1500, accuracy=0.99, runs=1) for opt in (("none",), ("fp8",))]
    accurate = findings(*many)
    assert line(accurate, "accuracy").verdict == "equivalent"
    assert said(accurate, "accuracy").startswith("accuracy unchanged within ±")
    assert said(accurate, "accuracy").endswith(" points")


def test_one_equivalent_and_one_undecided_is_open() -> None:
    noisy = BASE.but(opt=("awq",), noise=0.2, tpot_s=0.018)
    found = findings(BASE.but(noise=0.005, runs=6), BASE.but(opt=("fp8",), noise=0.005, runs=6), noisy)
    assert line(found, "throughput", "awq").verdict == "undecided"
    assert not next(iter(found.answers)).decided


def test_one_run_has_no_significance_and_says_so() -> None:
    found = findings(BASE.but(runs=1), FAST.but(runs=1))
    assert not [one for one in found.claims if one.measure.kind in ("time", "rate")]
    assert line(found, "throughput").verdict == "within this run"
    assert "no significance" in said(found, "throughput")
    asked = next(one for one in found.answers).sure[-1]
    assert "runs=5" in asked  # three tests: of four against four no p is below 0.05 / 3
    within = said(found, "tpot")
    assert "no significance; within this run faster by 1" in within


def test_what_is_not_decided_says_how_many_runs_would() -> None:
    found = findings(BASE.but(noise=0.03), BASE.but(opt=("fp8",), noise=0.03, tpot_s=0.02 / 1.06))
    undecided = line(found, "throughput")
    assert undecided.verdict == "undecided"
    needed = runs_needed(undecided, 4, 0.05)
    assert needed is not None
    assert f"{needed - 4} runs more on each side would decide" in said(found, "throughput")
    enough = findings(
        BASE.but(noise=0.03, runs=3 * needed),
        BASE.but(opt=("fp8",), noise=0.03, tpot_s=0.02 / 1.06, runs=3 * needed),
    )
    assert line(enough, "throughput").verdict in ("different", "equivalent")


def test_what_decides_is_corrected_over_the_whole_report() -> None:
    found = findings(BASE, FAST, BASE.but(opt=("awq",)), BASE.but(opt=("gptq",), accuracy=0.4))
    deciding = [one for one in found.lines if one.measure.key in ("throughput", "accuracy", "tokens")]
    assert len(deciding) == 9
    assert [one.adjusted_p for one in deciding] == holm([one.p for one in deciding])


def test_the_rest_of_a_pair_is_never_surer_than_what_decides_it() -> None:
    found = findings(BASE.but(runs=6), FAST.but(runs=6), BASE.but(opt=("awq",), runs=6))
    for opt, opened in (("fp8", True), ("awq", False)):
        gate = min(line(found, key, opt).adjusted_p or 0.0 for key in ("throughput", "accuracy", "tokens"))
        assert (gate < 0.05) == opened
        for key in ("ttft", "tpot", "e2e"):
            one = line(found, key, opt)
            assert one.adjusted_p is not None
            assert one.p is not None
            assert one.adjusted_p >= max(gate, one.p)
    assert line(found, "tpot").verdict == "different"


def test_accuracy_is_compared_item_by_item_and_lost_points_are_said() -> None:
    found = findings(
        BASE.but(items=200, accuracy=0.95, runs=1), BASE.but(opt=("fp8",), items=200, accuracy=0.6, runs=1)
    )
    accuracy = line(found, "accuracy")
    assert accuracy.comparison is not None
    assert (accuracy.comparison.unit, accuracy.comparison.items) == ("item", 200)
    assert accuracy.verdict == "different"
    assert said(found, "accuracy").startswith("worse by ")


def test_a_zero_is_no_share_of_anything() -> None:
    found = findings(BASE, FAST.but(changes=(("output_token_per_s", 0.0),)))
    assert line(found, "throughput").verdict is None
    assert "not compared" in said(found, "throughput")


def test_deployments_of_different_sizes_are_compared_per_gpu() -> None:
    found = findings(BASE.but(runs=7), BASE.but(gpus=2, runs=7))
    (rate,) = (one for one in found.lines if one.measure.key == "throughput" and one.pair.axis.name == "gpus")
    assert rate.measure.per_gpu
    assert rate.difference == pytest.approx(-0.5, abs=0.05)
