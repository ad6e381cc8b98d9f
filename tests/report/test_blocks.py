"""Runs in blocks on a machine that becomes slower: what a report makes of them, and what it says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.metrics.compare import Comparison
from orchestrator.report.blocks import blocks_note
from orchestrator.report.build import find, make_report
from orchestrator.report.comparisons import Line
from orchestrator.report.explain.answer_time import answer_time
from orchestrator.report.explain.step_time import REST, step_time
from orchestrator.report.explain.throughput import throughput
from orchestrator.report.explain.waterfall import Waterfall
from orchestrator.report.findings import Findings
from orchestrator.report.options import Options
from orchestrator.report.pairs import Pair
from orchestrator.report.tables import comparison_tables
from orchestrator.report.words import runs_needed, units, words
from tests.report.studies import Planted, runs_of, store
from tests.report.test_step_time import Side, bars, config, pair, stepping

BASE = Planted(runs=8)
FAST = BASE.but(opt=("fp8",), tpot_s=0.02 / 1.1)
DRIFT = 0.3


def findings(*planted: Planted, seed: int = 1, drift: float | None = DRIFT) -> Findings:
    return find(runs_of(planted, seed, drift), Options())


def unpaired(*planted: Planted, seed: int = 1) -> Findings:
    """Of the same runs, as if nothing was known of their blocks."""
    nowhere = {"block": None, "block_position": None}
    runs = [replace(run, row={**run.row, **nowhere}) for run in runs_of(planted, seed, DRIFT)]
    return find(runs, Options())


def line(found: Findings, measure: str = "throughput", opt: str = "fp8") -> Line:
    (one,) = (
        one for one in found.lines if one.measure.key == measure and one.pair.variant.facts["opt"] == opt
    )
    return one


def width(comparison: Comparison | None) -> float:
    """Of its interval."""
    assert comparison is not None
    assert comparison.low is not None
    assert comparison.high is not None
    return comparison.high - comparison.low


def said(found: Findings, measure: str = "throughput") -> str:
    return words(line(found, measure), Options())


def test_a_gain_smaller_than_the_drift_is_found_with_its_size_and_not_without_pairing() -> None:
    found, without = findings(BASE, FAST), unpaired(BASE, FAST)
    rate = line(found)
    assert rate.verdict == "different"
    assert rate.difference == pytest.approx(0.1, abs=0.03)
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low < 0.1 < rate.high
    assert rate.comparison is not None
    assert (rate.comparison.unit, rate.comparison.units, rate.comparison.method) == ("block", 8, "student")
    assert said(found).endswith(" %, paired by block")
    assert said(found).startswith("higher by ")
    assert units(rate) == "8 against 8 runs, paired by block"
    assert line(without).verdict == "undecided"
    assert "paired" not in said(without)
    ungraded = [one.but(changes=(("accuracy", None),)) for one in (BASE, FAST)]
    (answer,) = findings(*ungraded).answers
    assert answer.decided
    assert answer.sure[0].startswith("8 against 8 runs, paired by block, p ")


@pytest.mark.slow
def test_of_200_reports_on_equal_cells_under_drift_at_most_5_percent_claim_anything() -> None:
    equal = [Planted(opt=opt, noise=0.02, runs=7) for opt in (("none",), ("fp8",), ("awq",))]
    claiming = sum(bool(findings(*equal, seed=seed).claims) for seed in range(200))
    assert claiming <= 10


def test_runs_without_a_partner_are_left_out_and_counted() -> None:
    found = findings(BASE, FAST.but(runs=6))
    rate = line(found)
    assert rate.comparison is not None
    assert rate.comparison.units == 6
    assert said(found).endswith("6 of 8 against 6 of 6 runs paired by block")
    assert units(rate) == "6 of 8 against 6 of 6 runs paired by block"
    assert rate.a is not None
    assert rate.b is not None
    assert rate.b / rate.a - 1 == pytest.approx(rate.difference, abs=0.005), "of the same runs"
    of_all = rate.pair.baseline.mean("output_token_per_s")
    assert of_all is not None
    assert rate.a > of_all * 1.02, "the last blocks are the slow ones"


def test_one_shared_block_is_compared_as_before() -> None:
    found = findings(BASE, FAST.but(runs=1))
    assert line(found).verdict == "within this run"
    assert blocks_note(found.lines) is None


def test_what_is_not_decided_says_how_many_blocks_would() -> None:
    found = findings(BASE.but(runs=3, noise=0.03), FAST.but(runs=3, noise=0.03))
    rate = line(found)
    assert rate.verdict == "undecided"
    needed = runs_needed(rate, 3, 0.05)
    assert needed is not None
    assert "paired by block): " in said(found)
    assert f"{needed - 3} blocks more would decide" in said(found)


def test_one_run_in_a_block_says_how_many_blocks_can_tell() -> None:
    """Three tests: of runs that are not paired, four against four, no p is below 0.05 / 3."""
    for drift, runs in ((DRIFT, 6), (None, 5)):
        found = findings(BASE.but(runs=1), FAST.but(runs=1), drift=drift)
        assert f"runs={runs} tells" in next(iter(found.answers)).sure[-1]


def test_the_table_and_the_note_say_that_runs_are_paired() -> None:
    found = findings(BASE, FAST)
    (table,) = comparison_tables(found.lines, Options(), found.names)
    assert table.head[6] == "Compared"
    by_measure = {row[1]: row[6] for row in table.cells}
    assert by_measure["Throughput"] == "8 against 8 runs, paired by block"
    assert by_measure["Accuracy"] == "15 questions"
    note = blocks_note(found.lines)
    assert note is not None
    assert note.startswith(
        "Paired by block: 4 of 4 comparisons of times and rates. Their 95 % intervals are 0."
    )
    row = next(row for row in table.rows if row["measure"] == "throughput")
    assert row["paired_by_block"]
    assert (row["baseline_runs_paired"], row["runs_paired"], row["units"]) == (8, 8, 8)
    without = line(unpaired(BASE, FAST)).comparison
    paired = line(found).comparison
    ratio = width(paired) / width(without)
    assert row["width_over_unpaired"] == pytest.approx(ratio)
    assert ratio < 0.5
    other = unpaired(BASE, FAST)
    (table,) = comparison_tables(other.lines, Options(), other.names)
    assert "Compared" not in table.head
    assert table.rows[0]["paired_by_block"] is False


@pytest.mark.parametrize(
    ("explain", "bar"), [(answer_time, "time per token"), (throughput, "time of a step")]
)
@pytest.mark.parametrize("runs", [8, 6])
def test_what_a_difference_is_made_of_is_told_from_the_paired_runs(
    explain: Callable[[Pair], Waterfall | None], bar: str, runs: int
) -> None:
    """The sides alone have other machines, as it were: their intervals are much wider."""
    shapes = Planted(runs=8, changes=(("in_flight_mean", 8.0), ("running_mean", 8.0)))
    sides = shapes, shapes.but(opt=("fp8",), tpot_s=0.02 / 1.1, runs=runs)
    found, without = (explain(line(one(*sides)).pair) for one in (findings, unpaired))
    assert found is not None
    assert without is not None
    assert f"of 8 and {runs} runs." not in found.note
    assert f"{runs} and {runs} runs, paired by block" in found.note
    assert f"8 and {runs} runs" in without.note
    widths = []
    for waterfall in (found, without):
        (one,) = (one for one in waterfall.bars if one.name == bar)
        assert one.low is not None
        assert one.high is not None
        widths.append(one.high - one.low)
    assert widths[0] < 0.5 * widths[1]
    (sure,) = (one for one in found.bars if one.name == bar)
    assert sure.sure


def test_a_slower_host_is_told_from_the_paired_runs_where_the_machine_drifts() -> None:
    """Steps of 20 ms become half as long again from the first block to the last; the other side's are 10 %
    longer than those beside them."""
    steps = [0.02 * (1 + 0.1 * block) * (1 + 0.002 * (block % 2)) for block in range(6)]

    def side(factor: float, blocks: list[int], known: bool) -> Side:
        rows = [stepping(config(), factor * steps[block]) for block in blocks]
        return config(), [
            row | {"block": f"b{block}" if known else None} for row, block in zip(rows, blocks, strict=True)
        ]

    both = [0, 1, 2, 3, 4]
    for known in (True, False):
        found = step_time(pair(side(1.0, [*both, 5], known), side(1.1, both, known)))
        assert found is not None
        rest = bars(found)[REST]
        assert rest.sure == known
        assert f"{5 if known else 6} and 5 runs{', paired by block' if known else ''}." in found.note
        if known:
            assert rest.value == pytest.approx(100 * np.exp(np.mean(np.log(steps[:5]))), rel=0.01)


def test_the_page_and_its_files_say_so(tmp_path: Path) -> None:
    store(tmp_path, [BASE, FAST], drift=DRIFT)
    out = tmp_path / "report"
    options = Options(results_dir=tmp_path, studies=("planted",), out=out)
    text = make_report(options, "command").page.read_text().replace("\u00a0", " ")
    assert "Paired by block: 4 of 4 comparisons of times and rates." in text
    assert "8 against 8 runs, paired by block" in text
    with (out / "files" / "table-optimizations.csv").open() as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
    assert rows["throughput"]["paired_by_block"] == "true"
    assert float(rows["throughput"]["width_over_unpaired"]) < 0.5
    assert rows["accuracy"]["width_over_unpaired"] == ""
    assert "paired by block" in (out / "wandb-report.json").read_text()
