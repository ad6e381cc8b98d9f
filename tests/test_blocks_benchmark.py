"""`python -m benchmarks.blocks` on stored studies, and its simulation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.blocks import DRAWS, main, share
from tests.report.studies import Planted, store

PLANTED = [Planted(runs=5), Planted(opt=("fp8",), tpot_s=0.018, runs=5)]


def test_a_study_under_drift_says_how_much_narrower_pairing_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, PLANTED, drift=0.5)
    assert main([str(tmp_path / "planted")]) == 0
    head, rule, *rows, empty, median = capsys.readouterr().out.strip().split("\n")
    assert [row.split(" | ")[1] for row in rows] == ["throughput", "e2e", "ttft", "tpot"]
    assert all(row.count("|") == head.count("|") == rule.count("|") for row in rows)
    lengths = [float(row.rstrip(" |").rsplit(" | ", 1)[1]) for row in rows]
    assert max(lengths) < 0.6
    found = re.fullmatch(r"Median over 4 comparisons: (0\.\d\d)\.", median)
    assert found is not None
    assert min(lengths) <= float(found[1]) <= max(lengths)
    assert not empty


def test_a_study_without_blocks_ends_with_1_and_none_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, PLANTED)
    assert main([str(tmp_path / "planted")]) == 1
    assert "no two configurations that are compared share two blocks" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_the_simulation_sees_what_pairing_is_for() -> None:
    normal = DRAWS["normal"]
    assert share(2, 100, normal) == 0
    for paired, least, most in ((True, 60, 100), (False, 0, 20)):
        assert least <= share(6, 200, normal, effect=3.0, levels=5.0, paired=paired) <= most
