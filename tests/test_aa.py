"""The report on pairs of equal cells (`benchmarks.aa`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.aa.__main__ import main, report
from benchmarks.aa.study import compared, false_positives, flags, pairs, seeds
from orchestrator.measure.row import cell_row
from orchestrator.plan.plan import Job, make_plan
from orchestrator.store.write import commit
from tests.support.compose import config_of

pytestmark = pytest.mark.slow

RUNS = 3


def store(folder: Path, pair: int, rates: tuple[list[float], list[float]], flagged: bool = False) -> None:
    """The throughputs of the runs of either cell."""
    common = ("engine=simulated", "hardware=h200", "model=r1-7b", "limit=4", "study_name=aa")
    for seed, values in zip(seeds(pair), rates, strict=True):
        own = (*common, f"results_dir={folder}", f"seed={seed}", f"runs={RUNS}")
        plan = make_plan([Job(own, config_of(*own))])
        for planned, rate in zip(plan.cells, values, strict=False):
            row = cell_row(
                planned.cell,
                study="aa",
                status="invalid" if flagged else "done",
                flags=("host_busy",) if flagged else (),
                attempts=1,
                gpus=1,
                nodes=1,
                items=4,
                metrics={"output_token_per_s": rate},
            )
            commit(folder / "aa", planned.cell.cell_id, row, (), (), ())


ALIKE = [100.0, 102.0, 98.0], [101.0, 99.0, 100.5]
APART = [100.0, 102.0, 98.0], [201.0, 199.0, 200.5]


def test_equal_cells_that_look_different_are_counted_before_and_after_holm(tmp_path: Path) -> None:
    store(tmp_path, 0, ALIKE)
    store(tmp_path, 1, APART)
    store(tmp_path, 2, ([100.0, 101.0, 99.0], [103.2, 102.5, 101.9]))
    found = pairs(tmp_path / "aa", range(5))
    assert [one.number for one in found] == [0, 1, 2]
    told = compared(tmp_path / "aa", found)
    assert false_positives(told, adjusted=False) == (2, 3)
    assert false_positives(told, adjusted=True) == (1, 3)
    assert report(tmp_path / "aa", 3, RUNS, busy=False) == 1


def test_pairs_that_do_not_count_are_not_compared_and_their_flags_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, 0, ALIKE)
    store(tmp_path, 1, APART, flagged=True)
    store(tmp_path, 2, ([100.0, 101.0], [200.0, 201.0]))  # a run is missing
    found = pairs(tmp_path / "aa", range(3))
    assert [one.counts(RUNS) for one in found] == [True, False, False]
    assert flags(found) == {"host_busy": 6}
    assert main(["--report", "--pairs", "3", "--results", str(tmp_path)]) == 0
    assert report(tmp_path / "aa", 3, RUNS, busy=True) == 0
    said = capsys.readouterr().out
    assert "1 of 3 pairs of equal cells compared" in said
    assert "16 runs of 3 pairs, 2 pairs not compared; flags: host_busy 6" in said


def test_a_pair_beside_busy_loops_must_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, 0, ALIKE)
    store(tmp_path, 1, ALIKE)
    assert report(tmp_path / "aa", 2, RUNS, busy=False) == 0
    assert report(tmp_path / "aa", 2, RUNS, busy=True) == 1
    assert "1 pairs with busy loops beside them passed" in capsys.readouterr().out


def test_nothing_compared_is_no_success(tmp_path: Path) -> None:
    assert report(tmp_path / "aa", 3, RUNS, busy=False) == 1


@pytest.mark.parametrize(
    "arguments", [["--part", "0/4"], ["--part", "5/4"], ["--part", "x"], ["--pairs", "0"]]
)
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--report", *arguments])
