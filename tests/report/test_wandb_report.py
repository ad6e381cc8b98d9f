"""The Report of Weights & Biases: what its spec says and asks for, and that the tracker's runs have it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import wandb
from rich.console import Console

from orchestrator.config.schema import TrackerConfig
from orchestrator.report.__main__ import main
from orchestrator.report.build import find
from orchestrator.report.options import Options
from orchestrator.report.overall import overall
from orchestrator.report.page import ANSWERS_SHOWN
from orchestrator.report.read import read_runs
from orchestrator.report.tables import Table
from orchestrator.report.wandb_push import SPEC
from orchestrator.report.wandb_report import bars, markdown, report_of, tracked, unsent, varied
from orchestrator.store.read import read_cells
from orchestrator.track.tracker import Tracker
from orchestrator.track.wandb_run import DEFAULT_PROJECT, run_id
from tests.report.studies import TRACKED, Planted, runs_of, store
from tests.support.wandb_file import records

pytestmark = pytest.mark.slow

STUDY = (
    TRACKED,
    TRACKED.but(opt=("fp8",), tpot_s=0.015),
    TRACKED.but(opt=("awq",), runs=1, changes=(("status", "invalid"), ("reason", "a | b"))),
    TRACKED.but(max_tokens=1024),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and the report on them, made where the service cannot be asked."""
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        patch.setattr(wandb, "Api", None)
        store(folder, STUDY)
        assert main([f"results_dir={folder}", "study=planted", f"out={folder / 'out'}"]) == 0
    return folder


def spec_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / SPEC).read_text())
    return found


def texts(node: Any) -> list[str]:
    """Every text of a spec's blocks, in order."""
    if isinstance(node, dict):
        own = [node["text"]] if isinstance(node.get("text"), str) else []
        own += [node["content"]] if node.get("type") == "markdown-block" else []
        return own + [text for key, value in node.items() if key != "content" for text in texts(value)]
    return [text for one in node for text in texts(one)] if isinstance(node, list) else []


def grid_of(spec: dict[str, Any]) -> dict[str, Any]:
    (grid,) = [one for one in spec["spec"]["blocks"] if one["type"] == "panel-grid"]
    found: dict[str, Any] = grid["metadata"]
    return found


def asked(spec: dict[str, Any]) -> dict[str, set[str]]:
    """The names that panels ask for, by the kind of panel."""
    found: dict[str, set[str]] = {}
    for panel in grid_of(spec)["panelBankSectionConfig"]["panels"]:
        config = panel["config"]
        axes = [config.get(axis, "").removeprefix("summary:") for axis in ("xAxis", "yAxis")]
        names = {*config.get("metrics", []), *(axis for axis in axes if axis)}
        found.setdefault(panel["viewType"], set()).update(names)
    return found


def test_it_says_what_the_page_says(folder: Path) -> None:
    page = unescape((folder / "out" / "index.html").read_text()).replace("\u00a0", " ")
    said = texts(spec_of(folder)["spec"]["blocks"])
    options = Options(folder, ("planted",))
    found = find(read_runs(options), options)
    answers = found.answers
    switched = overall(found.lines, options)
    assert switched
    for one in switched:
        assert any(text.startswith(f"{one.opt}: {one.verdict}") for text in said)
        assert one.verdict in page
    sentences = [one for answer in answers for one in (*answer.gains, *answer.sure, *answer.limits)]
    assert len(sentences) > 3
    for sentence in sentences:
        assert sentence in said
        assert sentence in page
    for answer in answers:
        assert f"{'Decided' if answer.decided else 'Open'}: {answer.take}" in said
        assert answer.take in page
    assert (
        said.index("The answer") < said.index("Optimizations against the baseline") < said.index("The runs")
    )


def test_answers_that_the_page_folds_are_folded() -> None:
    options = Options(studies=("planted",))
    found = find(
        runs_of([TRACKED.but(runs=1, max_tokens=1000 + one) for one in range(ANSWERS_SHOWN + 2)]), options
    )
    blocks = report_of(found, [], options, tracked(found, options))._to_model().spec.model_dump(by_alias=True)
    (folded,) = [one for one in blocks["blocks"] if one.get("collapsedChildren")]
    assert texts([folded["children"]]) == ["2 more settings"]
    assert [answer.where in texts(folded["collapsedChildren"]) for answer in found.answers] == [
        *([False] * ANSWERS_SHOWN),
        *([True] * 2),
    ]


def test_its_table_has_the_rows_of_the_page(folder: Path) -> None:
    said = texts(spec_of(folder)["spec"]["blocks"])
    table = said[said.index("Optimizations against the baseline") :]
    (first,) = [one for one in table[:4] if one.startswith("| Configuration | Measure |")]
    (row,) = [one for one in first.splitlines() if "| Throughput |" in one]
    assert "fp8" in row
    assert len(re.split(r"(?<!\\)\|", row)) == 10
    assert any("a \\| b" in one for one in said)  # why a cell stands apart


def test_a_table_is_text_not_markup() -> None:
    cells = [["a", "<b>*x*</b> | $y$"], ["a", "two\nlines"], ["b", "`z`"]]
    assert markdown(Table("t", "T", "", ("One", "Two_"), cells, [])).splitlines() == [
        "| One | Two\\_ |",
        "| --- | --- |",
        "| a | \\<b\\>\\*x\\*\\</b\\> \\| \\$y\\$ |",
        "|  | two lines |",
        "| b | \\`z\\` |",
    ]


def test_its_run_set_is_the_runs_that_the_page_compares(folder: Path) -> None:
    spec = spec_of(folder)
    assert (spec["project"], spec["entity"], spec["pushed"]) == ("bench", None, None)
    (runset,) = grid_of(spec)["runSets"]
    ids = {run_id(row) for row in read_cells(folder / "planted").to_pylist() if row["status"] == "done"}
    (condition,) = _conditions(runset["filters"])
    assert condition["key"] == {"section": "run", "name": "name"}
    assert condition["op"] == "IN"
    assert set(condition["value"]) == ids
    assert len(ids) == 9
    assert [key["name"] for key in runset["grouping"]] == ["opt.value", "max_tokens.value"]


def _conditions(filters: dict[str, Any]) -> list[dict[str, Any]]:
    own = [filters] if filters.get("key") else []
    return own + [one for below in filters.get("filters") or [] for one in _conditions(below)]


def test_panels_ask_for_what_an_offline_run_holds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from what the library wrote, as ``wandb sync`` does."""
    rows = read_cells(folder / "planted").to_pylist()
    cell_id = next(row["cell_id"] for row in rows if row["opt"] == ["fp8"])
    with Tracker(
        folder / "planted", TrackerConfig("wandb", "bench", mode="offline"), Console(file=io.StringIO())
    ) as tracker:
        tracker.log(cell_id)
    (path,) = (folder / "planted" / "wandb").glob("offline-run-*/run-*.wandb")
    written = list(records(path))
    run = next(one.run for one in written if one.HasField("run"))
    summary = {update.key for one in written for update in one.summary.update}
    history = {item.nested_key[0] for one in written for item in one.history.item}
    config = {one.key for one in run.config.update}
    spec = spec_of(folder)
    names = asked(spec)
    measured = {"output_token_per_s", "ttft_s_p50", "tpot_s_mean", "accuracy", "output_length_mean"}
    assert names["Bar Chart"] >= measured
    assert names["Bar Chart"] | names["Scatter Plot"] <= summary
    assert names["Run History Line Plot"] == {"t_s", "kv_usage", "running", "waiting"}
    assert names["Run History Line Plot"] <= history
    (runset,) = grid_of(spec)["runSets"]
    assert {key["name"].removesuffix(".value") for key in runset["grouping"]} <= config
    assert run.run_id in _conditions(runset["filters"])[0]["value"]
    assert run.project == spec["project"]


def test_without_tracked_runs_there_are_words_and_tables_and_no_panels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    store(tmp_path, [TRACKED.but(tracker=(("name", "none"),)), TRACKED.but(opt=("fp8",), tracker=())])
    assert main([f"results_dir={tmp_path}", "study=planted", f"out={tmp_path / 'out'}"]) == 0
    spec = spec_of(tmp_path)
    assert spec["project"] == "mine"
    assert not [one for one in spec["spec"]["blocks"] if one["type"] == "panel-grid"]
    said = texts(spec["spec"]["blocks"])
    assert any(one.startswith("There are no runs of these cells on Weights & Biases") for one in said)
    assert any(one.startswith("| Configuration | Measure |") for one in said)


def logged(planted: Sequence[Planted], options: Options) -> tuple[str, str | None, int, int]:
    found = tracked(find(runs_of(planted), options), options)
    return found.project, found.entity, len(found.runs), found.elsewhere


def test_runs_are_where_the_tracker_logged_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setenv("WANDB_ENTITY", "team")
    plain = TRACKED.but(tracker=(("name", "wandb"),))
    other = TRACKED.but(opt=("fp8",), runs=1, tracker=(("name", "wandb"), ("project", "p"), ("entity", "e")))
    options = Options(studies=("planted",))
    assert logged([plain], options) == (DEFAULT_PROJECT, "team", 3, 0)
    assert logged([other], options) == ("p", "e", 1, 0)
    assert logged([plain, other], options) == (DEFAULT_PROJECT, "team", 3, 1)
    named = Options(studies=("planted",), wandb_project="all", wandb_entity="us")
    assert logged([plain, other], named) == ("all", "us", 4, 0)


def test_runs_that_are_on_this_machine_alone_are_said_until_they_are_synchronised(tmp_path: Path) -> None:
    store(tmp_path, [TRACKED])
    options = Options(tmp_path, ("planted",))
    found = tracked(find(read_runs(options), options), options)
    assert unsent(found, options) is None
    ids = [run_id(run.row) for run in found.runs]
    for name in (*ids[:2], "another-run"):
        (tmp_path / "planted" / "wandb" / f"offline-run-20260101_000000-{name}").mkdir(parents=True)
    folder = tmp_path / "planted" / "wandb"
    assert unsent(found, options) == (
        f"2 runs of it on this machine alone; to upload: wandb sync {folder}/offline-run-*"
    )
    for name in ids[:2]:
        (folder / f"offline-run-20260101_000000-{name}" / f"run-{name}.wandb.synced").touch()
    assert unsent(found, options) is None


def test_goodput_under_other_limits_than_the_runs_own_is_no_panel() -> None:
    limits = (("slo_ttft_s", 1.0), ("goodput_per_s", 2.0))
    own = (("provenance", {"config": {"slo": {"ttft_s": 1.0}}}), *limits)
    other = (("provenance", {"config": {"slo": {"ttft_s": 2.0}}}), *limits)
    for changes, shown in ((own, True), (other, False)):
        names = [column for column, _ in bars(runs_of([TRACKED.but(changes=changes)]))]
        assert ("goodput_per_s" in names) is shown
        assert "output_token_per_s" in names


def test_groups_are_told_apart_by_as_few_columns_as_do() -> None:
    def by(*planted: Planted) -> list[str]:
        return varied(find(runs_of(planted), Options()).variants)

    fp8 = TRACKED.but(opt=("fp8",))
    assert by(TRACKED) == []
    assert by(TRACKED, fp8) == ["opt"]
    assert by(TRACKED, TRACKED.but(gpus=2)) == ["gpus"]  # and the tensor parallel size with it
    assert by(TRACKED, fp8, fp8.but(max_tokens=8)) == ["opt", "max_tokens"]
    config = {"engine": {"name": "vllm", "args": {"max-num-seqs": 8}}}
    set_apart = TRACKED.but(runs=1, changes=(("provenance", {"config": config}), ("cell_id", "own")))
    assert by(TRACKED, set_apart, fp8) == ["opt", "run_of"]
    older = set_apart.but(changes=(*set_apart.changes, ("run_of", None)))
    assert by(TRACKED, older, fp8) == ["opt", "cell_id"]
