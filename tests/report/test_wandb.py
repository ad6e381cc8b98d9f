"""The Report of Weights & Biases: what its spec says and asks for, that the tracker's runs have it, and what
a push sends, to a stand-in of the service."""

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
from orchestrator.report.read import read_runs
from orchestrator.report.tables import Table
from orchestrator.report.wandb_push import SPEC
from orchestrator.report.wandb_report import bars, markdown, tracked, varied
from orchestrator.store.read import read_cells
from orchestrator.track.tracker import Tracker
from orchestrator.track.wandb_run import DEFAULT_PROJECT, run_id
from tests.report.studies import Planted, runs_of, store
from tests.support.wandb_file import records
from tests.support.wandb_service import ENTITY, REPORT_ID, Service, served

KEY = "0" * 40
COLUMNS = {"kv_usage_max": 0.4, "running_mean": 4.0, "output_length_mean": 100.0}
LOGGED = Planted(
    runs=3, items=4, changes=tuple(COLUMNS.items()), tracker=(("name", "wandb"), ("project", "bench"))
)
STUDY = (
    LOGGED,
    LOGGED.but(opt=("fp8",), tpot_s=0.015),
    LOGGED.but(opt=("awq",), runs=1, changes=(("status", "invalid"), ("reason", "a | b"))),
    LOGGED.but(max_tokens=1024),
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
    answers = find(read_runs(options), options).answers
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
    assert names["Run History Line Plot"] == {"t_s", "kv_usage", "running"}
    assert names["Run History Line Plot"] <= history
    (runset,) = grid_of(spec)["runSets"]
    assert {key["name"].removesuffix(".value") for key in runset["grouping"]} <= config
    assert run.run_id in _conditions(runset["filters"])[0]["value"]
    assert run.project == spec["project"]


@pytest.fixture
def logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """With a key that is none, and nothing of this machine's own settings."""
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    wandb.teardown()
    return monkeypatch


def pushed(folder: Path, out: Path, *arguments: str) -> int:
    return main([f"results_dir={folder}", "study=planted", f"out={out}", "wandb=push", *arguments])


def test_a_push_sends_the_spec_and_the_next_replaces_it(
    folder: Path, tmp_path: Path, logged_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with served(Service()) as service:
        logged_in.setenv("WANDB_BASE_URL", service.url)
        assert pushed(folder, out) == 0
        said = capsys.readouterr()
        first = json.loads((out / SPEC).read_text())
        assert pushed(folder, out, "model=r1-7b") == 0
    sent, again = service.sent("upsertView")
    assert (sent["id"], again["id"]) == (None, REPORT_ID)
    assert (sent["entityName"], sent["projectName"], sent["type"]) == (ENTITY, "bench", "runs")
    assert sent["displayName"] == "Report: planted"
    assert without_ids(json.loads(sent["spec"])) == without_ids(spec_of(folder)["spec"])
    assert json.loads(sent["spec"]) == first["spec"]
    assert [one["input"]["name"] for one in service.sent("CreateProject")] == ["bench"]
    assert said.out.splitlines()[-1] == f"Weights & Biases: {first['pushed']['url']}"
    assert f"/{ENTITY}/bench/reports/" in first["pushed"]["url"]
    assert KEY not in said.out + said.err + json.dumps(first)


def without_ids(node: Any) -> Any:
    """The library draws an id for each panel and run set."""
    if isinstance(node, dict):
        return {key: without_ids(value) for key, value in node.items() if key not in ("id", "__id__")}
    return [without_ids(one) for one in node] if isinstance(node, list) else node


@pytest.mark.parametrize(
    ("refuse", "url", "message"),
    [
        ({"upsertView": "permission denied"}, None, "permission denied"),
        ({}, "http://127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_what_the_service_refuses_is_one_line_and_the_spec_stays(
    refuse: dict[str, str],
    url: str | None,
    message: str,
    folder: Path,
    tmp_path: Path,
    logged_in: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    with served(Service(projects=["bench"], refuse=refuse)) as service:
        logged_in.setenv("WANDB_BASE_URL", url or service.url)
        assert pushed(folder, out) == 1
    said = capsys.readouterr()
    assert said.out == f"report: {out / 'index.html'}\n"
    (line,) = [one for one in said.err.splitlines() if not one.startswith("report: ")]
    assert line.startswith("error: wandb=push: ")
    assert message in line
    assert line.endswith(f"the report's spec is {out / SPEC}")
    kept = json.loads((out / SPEC).read_text())
    assert without_ids(kept) == without_ids(spec_of(folder))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("wandb=pull", "wandb=pull: must be push"),
        ("wandb.project=a/b", "wandb.project=a/b: must be a name"),
        ("wandb.entity=", "wandb.entity=: must be a name"),
    ],
)
def test_bad_input_is_said_before_anything_starts(
    argument: str, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"results_dir={folder}", "study=planted", f"out={tmp_path / 'out'}", argument]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()


def test_a_push_without_the_library_is_refused_and_a_report_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("orchestrator.report.wandb_push.find_spec", lambda name: None)
    store(tmp_path, [LOGGED])
    assert pushed(tmp_path, tmp_path / "out") == 2
    assert "wandb-workspaces" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([f"results_dir={tmp_path}", "study=planted", f"out={tmp_path / 'out'}"]) == 0
    assert not (tmp_path / "out" / SPEC).exists()


def test_without_tracked_runs_there_are_words_and_tables_and_no_panels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    store(tmp_path, [LOGGED.but(tracker=(("name", "none"),)), LOGGED.but(opt=("fp8",), tracker=())])
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
    plain = LOGGED.but(tracker=(("name", "wandb"),))
    other = LOGGED.but(opt=("fp8",), runs=1, tracker=(("name", "wandb"), ("project", "p"), ("entity", "e")))
    options = Options(studies=("planted",))
    assert logged([plain], options) == (DEFAULT_PROJECT, "team", 3, 0)
    assert logged([other], options) == ("p", "e", 1, 0)
    assert logged([plain, other], options) == (DEFAULT_PROJECT, "team", 3, 1)
    named = Options(studies=("planted",), wandb_project="all", wandb_entity="us")
    assert logged([plain, other], named) == ("all", "us", 4, 0)


def test_goodput_under_other_limits_than_the_runs_own_is_no_panel() -> None:
    limits = (("slo_ttft_s", 1.0), ("goodput_per_s", 2.0))
    own = (("provenance", {"config": {"slo": {"ttft_s": 1.0}}}), *limits)
    other = (("provenance", {"config": {"slo": {"ttft_s": 2.0}}}), *limits)
    for changes, shown in ((own, True), (other, False)):
        names = [column for column, _ in bars(runs_of([LOGGED.but(changes=changes)]))]
        assert ("goodput_per_s" in names) is shown
        assert "output_token_per_s" in names


def test_groups_are_told_apart_by_as_few_columns_as_do() -> None:
    def by(*planted: Planted) -> list[str]:
        return varied(find(runs_of(planted), Options()).variants)

    fp8 = LOGGED.but(opt=("fp8",))
    assert by(LOGGED) == []
    assert by(LOGGED, fp8) == ["opt"]
    assert by(LOGGED, LOGGED.but(gpus=2)) == ["gpus"]  # and the tensor parallel size with it
    assert by(LOGGED, fp8, fp8.but(max_tokens=8)) == ["opt", "max_tokens"]
    config = {"engine": {"name": "vllm", "args": {"max-num-seqs": 8}}}
    set_apart = LOGGED.but(runs=1, changes=(("provenance", {"config": config}), ("cell_id", "own")))
    assert by(LOGGED, set_apart, fp8) == ["opt", "run_of"]
