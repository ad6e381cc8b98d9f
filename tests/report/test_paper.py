"""The figures of the paper, from its own numbers: what is wrong with them the report says by itself."""

from __future__ import annotations

import csv
import re
from html import unescape
from pathlib import Path

import pytest

from benchmarks.report.paper import SOURCE, STUDY, store
from orchestrator.report.__main__ import main
from orchestrator.report.build import find
from orchestrator.report.options import Options
from orchestrator.report.page import unmeasured
from orchestrator.report.read import read_runs
from orchestrator.store import load
from tests.report.studies import Planted, runs_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    assert len(list(store(folder))) == 46
    assert main([f"results_dir={folder}", f"study={STUDY}", f"out={folder / 'out'}"]) == 0
    return folder


def said(results: Path) -> str:
    """The page's text, without its figures."""
    page = (results / "out" / "index.html").read_text()
    text = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).replace("\u00a0", " ").split())


def numbers(results: Path, name: str) -> list[dict[str, str]]:
    with (results / "out" / "files" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_is_quoted_and_the_page_says_so_before_the_answer(results: Path) -> None:
    text = said(results)
    first = text.index(f"All of this is QUOTED from {SOURCE}: none of it was measured here")
    assert first < text.index("Limits: ")  # with which the answer begins
    assert "which of the questions were right is drawn at random" in text
    assert "measured once" not in text
    assert "The same sweep" not in text
    assert "orchestrator.sweep" not in text  # no command measures it again
    frames = load(results, STUDY)
    for frame in (frames.cells, frames.requests, frames.telemetry):
        assert frame.collect()["simulated"].all()


def test_gpqa_below_chance_is_flagged_each_time(results: Path) -> None:
    rows = [row for row in numbers(results, "table-accuracy") if row["dataset"] == "gpqa-diamond"]
    assert sorted(float(row["accuracy"]) for row in rows) == [
        0.07,
        0.15,
        0.15,
        0.153,
        0.157,
        0.19,
        0.19,
        0.217,
    ]
    assert all("below_chance" in row["flags"] for row in rows)
    assert {row["flags"] for row in numbers(results, "table-accuracy") if row not in rows} == {
        "",
        "far_from_reference",
    }
    text = said(results)
    assert "8 × below_chance" in text
    assert text.count("below the 25 % of guessing") == 8
    assert "40 points under the card's 62.1 %" in text  # the 32B without a cache


def test_the_baseline_that_figure_6_lacks_is_named(results: Path) -> None:
    text = said(results)
    missing = text.split("no cell that counts has opt=none and all else the same. So without a comparison: ")[
        1
    ]
    missing = missing.split(". ")[0]
    for dataset in ("aime24", "gpqa-diamond", "gsm8k", "math500"):
        assert f"r1-7b · vllm · speculative-decoding · {dataset}" in missing
    assert (
        text.count("Only vllm · speculative-decoding was measured here, without its baseline opt=none") == 4
    )
    assert not [
        row for row in numbers(results, "table-optimizations") if row["opt"] == "speculative-decoding"
    ]


def test_it_is_named_where_figure_6_is_all_there_is(tmp_path: Path) -> None:
    assert len(list(store(tmp_path, figures=[6]))) == 4
    found = find(read_runs(Options(results_dir=tmp_path, studies=(STUDY,))), Options())
    assert [one.variant.facts["opt"] for one in found.alone] == ["speculative-decoding"] * 4
    assert not found.lines


def test_what_the_numbers_say_of_prefix_caching_is_no_improvement(results: Path) -> None:
    assert (
        "prefix-cache against no optimization: tokens/s more in 1 of 4, fewer in 3 of 4 (−2.5 to +0.62 %), "
        "none significant; E2E longer in 4 of 4 (+1.7 to +4.7 %), none significant; accuracy higher in 1 of "
        "4, lower in 2 of 4 (−5.3 to +2.0 points), none significant. That it is faster, or slower, is shown "
        "in none of 4 comparisons."
    ) in said(results)
    assert "Take vllm · prefix-cache" not in said(results)


def test_each_figure_has_its_counterpart(results: Path) -> None:
    asu = numbers(results, "table-asu")
    pilot = {(row["model"], row["dataset"]): row for row in asu if "16 in flight" in row["setting"]}
    assert len(pilot) == 8  # figure 2: accuracy and time; the engine over time is below
    assert float(pilot["r1-7b", "gpqa-diamond"]["e2e_s_mean"]) == 24.2
    pairs = [row for row in numbers(results, "table-reasoning") if row["measure"] == "accuracy"]
    assert {row["dataset"]: round(100 * float(row["difference"])) for row in pairs} == {
        **{"gsm8k": 8, "math500": 63, "gpqa-diamond": 12},
        "aime24": 23,
    }
    kv, running = numbers(results, "kv"), numbers(results, "running")
    peaks = {(row["label"], row["setting"]): float(row["value"]) for row in kv}
    assert len(peaks) == 12
    assert {round(value, 1) for (label, of), value in peaks.items() if "gamma" in of} == {100.0}  # figure 7
    assert max(value for (label, of), value in peaks.items() if "gamma" not in of) == pytest.approx(18.7)
    last = {row["setting"].split(" ")[0]: float(row["value"]) for row in running if row["t_s"] == "200.0"}
    assert last == {"math500": 2.0, "aime24": 11.0}
    compared = {(row["model"], row["opt"]) for row in numbers(results, "table-optimizations")}
    assert compared == {
        *(("r1-7b", f"weights-bar-{bar}") for bar in (2, 3, 4, 5)),  # figure 3
        *(("r1-14b", opt) for opt in ("kv-fp8", "kv-fp8-e5m2")),  # figure 4
        ("r1-32b", "prefix-cache"),  # figure 5
    }
    alone = [row for row in asu if row["opt"] == "speculative-decoding"]  # figure 6: shown, not compared
    assert [float(row["output_token_per_s"]) for row in alone] == [250, 240, 380, 228]


def test_quoted_numbers_never_stand_beside_measured_ones(results: Path) -> None:
    quoted = read_runs(Options(results_dir=results, studies=(STUDY,)))
    found = find([*quoted, *runs_of([Planted(runs=1)])], Options())
    assert [one.row["simulated"] for one in found.variants] == [False]
    assert {(one.kind, one.why) for one in found.apart} == {
        ("quoted", f"its numbers are quoted from {SOURCE} and were not measured here")
    }
    assert len(found.apart) == 46
    simulated = find([*quoted, *runs_of([Planted(runs=1, engine="simulated")])], Options())
    assert [one.split(" is ")[0] for one in unmeasured(simulated)] == ["A part of this", "A part of this"]
