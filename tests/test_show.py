"""``python -m orchestrator.show``: a stored study in every form, without its command."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.plan.plan import Job, make_plan
from orchestrator.progress.results_table import print_summary
from orchestrator.records import Grade
from orchestrator.show import run
from orchestrator.store.claims import Claims
from orchestrator.store.read import read_attempts, read_cells, read_requests
from orchestrator.store.write import commit
from tests.store.test_versions import holding, rewrite
from tests.support.compose import config_of
from tests.support.timelines import record

ROW = {
    "model": "m",
    "engine": "vllm",
    "opt": ["none"],
    "gpus": 1,
    "max_tokens": 64,
    "output_token_per_s": 100.0,
    "ttft_s_p50": 0.2,
}
ASKED = {"q1": "What is 1 + 1?", "q2": "What is 2 + 2?\x1b[31m"}


def store(study: Path, cell_id: str, *overrides: str, **change: Any) -> None:
    row = {**ROW, "status": "done", "overrides": list(overrides), **change}
    answers = [
        record(
            *(0.0, [(1.0, 1, 0)]),
            item_id=item,
            request_id=f"{cell_id}-{item}",
            response_text=f"It is {said}.",
            finish_reason="stop" if item == "q1" else "MAX_TOKENS",
        )
        for item, said in (("q1", "2"), ("q2", "22\x1b[2J"))
    ]
    grades = [Grade("2", True), Grade("22", False)]
    commit(study, cell_id, row, answers, grades, [], {"q1": "2", "q2": "4"}, ASKED)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for cell_id, tokens, opt in (("aa11", 128, "[fp8,kv-fp8]"), ("ab22", 64, "none"), ("cc33", 1024, "none")):
        store(tmp_path / "s", cell_id, f"opt={opt}", f"max_tokens={tokens}", max_tokens=tokens)
    return tmp_path / "s"


def show(study: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run([f"results_dir={study.parent}", f"study={study.name}", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert line.startswith("error: ")
    return line


def test_a_table_names_each_cell_and_what_sets_it_apart(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.split() for line in show(study, capsys).splitlines() if line]
    assert [line[:3] for line in lines[1:]] == [
        ["cell", "opt", "max_tokens"],
        ["aa11", "[fp8,kv-fp8]", "128"],
        ["ab22", "none", "64"],
        ["cc33", "none", "1024"],
    ]


def test_it_is_the_table_that_the_sweep_ended_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("engine=vllm", "hardware=h200", "model=r1-7b", f"results_dir={tmp_path}", "study_name=s")
    jobs = [(f"max_tokens={tokens}", "runs=2") for tokens in (64, 128)]
    plan = make_plan([Job(job, config_of(*common, *job)) for job in jobs])
    for number, planned in enumerate(plan.cells):
        cell = planned.cell
        told: dict[str, Any] = {"status": "done"}
        if number == 3:
            told = {"status": "failed", "reason": "out of [memory]"}
        told |= {"run": cell.run, "run_of": cell.run_of, "output_token_per_s": 100.0 + number}
        store(tmp_path / "s", cell.cell_id, *cell.overrides, **told)
    rows = {row["cell_id"]: row for row in read_cells(plan.study_dir).to_pylist()}
    said = io.StringIO()
    print_summary(plan, rows, Console(file=said, width=250))
    ended = [line.split() for line in said.getvalue().splitlines() if line][:-1]
    shown = [line.split() for line in show(tmp_path / "s", capsys).splitlines() if line]
    kept = [line for line in shown if line[0] != "runs"]  # the ids of the rows' other runs
    assert [line[1:] for line in shown if line[0] == "runs"] == [
        [f"{first.cell.cell_id}:", "also", second.cell.cell_id]
        for first, second in zip(plan.cells[::2], plan.cells[1::2], strict=True)
    ]
    ids = {"cell", *(planned.cell.run_of for planned in plan.cells)}
    assert shown[2][0] == plan.cells[0].cell.cell_id
    assert [line[1:] if line[0] in ids else line for line in kept] == ended
    assert any("[memory]" in line for line in ended)


def test_forgetting_one_run_names_the_others_of_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_number, cell_id in enumerate(("a1", "b2", "c3"), 1):
        store(tmp_path / "s", cell_id, run=run_number, run_of="a1")
    store(tmp_path / "s", "d4", run=1, run_of="d4")
    assert "others stay in the study: a1, c3" in show(tmp_path / "s", capsys, "forget=b2")
    assert "others" not in show(tmp_path / "s", capsys, "forget=d4")


def test_a_number_that_is_none_is_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "s", "a1")
    for name, value in (("output_token_per_s", float("nan")), ("ttft_s_p50", float("inf"))):
        rewrite(tmp_path / "s" / "cells" / "a1.parquet", holding(name, value))
    for form in ("table", "markdown", "csv"):
        words = re.split(r"[\s,|/]+", show(tmp_path / "s", capsys, f"format={form}").lower())
        assert not {"nan", "inf"} & set(words)


def test_a_study_that_is_not_named_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "study= is missing" in refused(capsys, "format=csv")


def test_simulated_cells_have_a_table_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path / "s", "a", engine="simulated", simulated=True)
    store(tmp_path / "s", "b")
    out = show(tmp_path / "s", capsys)
    real, simulated = out.split("SIMULATED, no measurement")
    assert "\nb " in real
    assert "\na " in simulated


def test_csv_has_every_column_of_every_cell_unrounded(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(study, "dd44", ttft_s_p50=1 / 3, reason='a "reason",\nin lines', status="failed")
    rows = {row["cell_id"]: row for row in csv.DictReader(io.StringIO(show(study, capsys, "format=csv")))}
    stored = {row["cell_id"]: row for row in read_cells(study).to_pylist()}
    assert rows.keys() == stored.keys()
    assert set(rows["aa11"]) == set(stored["aa11"])
    assert float(rows["dd44"]["ttft_s_p50"]) == 1 / 3
    assert rows["dd44"]["reason"] == 'a "reason",\nin lines'
    assert rows["aa11"]["overrides"] == '["opt=[fp8,kv-fp8]", "max_tokens=128"]'
    assert rows["aa11"]["accuracy"] == ""
    assert rows["aa11"]["stored_at"] == stored["aa11"]["stored_at"].isoformat()
    (one,) = csv.DictReader(io.StringIO(show(study, capsys, "format=csv", "cell=cc")))
    assert one["cell_id"] == "cc33"


def test_markdown_and_latex_escape_what_is_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "s_1", "a", "engine.args.x=a|b_{c}%", truncated_rate=0.5)
    store(tmp_path / "s_1", "b", "engine.args.x=2")
    lines = show(tmp_path / "s_1", capsys, "format=markdown").splitlines()
    assert lines[2].startswith("| cell | engine.args.x | status | accuracy (95 %) |")
    assert lines[3].startswith("| :--- | :--- | :--- | ---: |")
    assert [line.split(" | ")[1] for line in lines[4:]] == ["2", "a\\|b_{c}%"]
    out = show(tmp_path / "s_1", capsys, "format=latex")
    assert "% Study 's_1'; needs \\usepackage{booktabs}" in out
    assert "\\begin{tabular}{lllrrrrrrr}" in out
    assert "a & a|b\\_\\{c\\}\\% & done &  & 50 \\% & 200.0 ms & " in out
    assert out.count("&") == 9 * 3


def test_one_cell_is_shown_whole_with_its_other_attempts(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(study, "cc33", status="failed", reason="it\x1b[31m broke")
    out = show(study, capsys, "cell=cc")
    shown = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith("kept"))
    assert (shown["cell_id"], shown["max_tokens"], shown["status"]) == ("cc33", "1024", "done")
    assert shown["overrides"] == "opt=none, max_tokens=1024"
    assert "accuracy" not in shown
    (kept,) = [line for line in out.splitlines() if line.startswith("kept attempt ")]
    assert "failed, 2 requests: it\N{REPLACEMENT CHARACTER}[31m broke" in kept


def test_wrong_answers_are_shown_with_their_questions(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = show(study, capsys, "wrong=2")
    assert out.count(" item q2, repeat 0, cut off\n--- question\nWhat is 2 + 2?") == 2
    assert "What is 1 + 1?" not in out
    assert "--- answer\nIt is 22" in out
    assert "--- expected\n4\n--- read from it\n22" in out
    assert "\x1b" not in out
    assert out.endswith("3 of 6 graded answers are wrong\n")
    assert show(study, capsys, "wrong=9", "cell=ab").endswith("\n1 of 2 graded answers are wrong\n")


def test_wrong_answers_of_an_older_version_say_that_they_have_no_question(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(study / "requests" / "ab22.parquet", lambda table: table.drop_columns(["question"]), "1")
    assert "--- question\nnot stored" in show(study, capsys, "wrong=1", "cell=ab22")


def test_a_forgotten_cell_is_out_of_the_study_and_kept(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_requests(study, ["aa11"]).to_pylist()
    out = show(study, capsys, "forget=aa")
    (kept,) = read_attempts(study, "aa11")
    assert str(study / "attempts" / "aa11" / kept.attempt_id) in out
    assert (kept.status, kept.requests) == ("done", 2)
    assert [path.name for path in sorted((study / "attempts" / "aa11" / kept.attempt_id).iterdir())] == [
        *("cells.parquet", "requests.parquet", "telemetry.parquet")
    ]
    assert read_cells(study)["cell_id"].to_pylist() == ["ab22", "cc33"]
    assert not list(study.glob("*/aa11.parquet"))
    assert "aa11" not in show(study, capsys)
    store(study, "aa11", "max_tokens=128", output_token_per_s=7.0)
    assert "7.00" in show(study, capsys)
    assert read_requests(study, ["aa11"], kept.attempt_id).to_pylist() == before
    assert not (study / "claims").exists()


def test_a_cell_that_is_being_measured_is_not_forgotten(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Claims(study, "sweep") as claims:
        assert claims.take("aa11")
        said = refused(capsys, f"results_dir={study.parent}", "study=s", "forget=aa11")
        assert "another command has the cell now" in said
        assert claims.ours("aa11")
    assert "aa11" in read_cells(study)["cell_id"].to_pylist()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], ["study= is missing", "there are s"]),
        (["study=t"], ["study=t: no cell of such a study is stored", "there are s"]),
        (["study=s", "color=red"], ["color=red", "results_dir, study, format, cell, wrong, forget"]),
        (["study=s", "wrong"], ["wrong: must be KEY=VALUE"]),
        (["study=s", "study=s"], ["study=s: is there twice"]),
        (["study=s", "cell="], ["cell=: has no value"]),
        (["study=s", "format=xml"], ["format=xml: must be one of table, markdown, latex, csv"]),
        (["study=s", "wrong=0"], ["wrong=0: must be a whole number from 1 up"]),
        (["study=s", "wrong=1.5"], ["wrong=1.5"]),
        (["study=s", "wrong=1", "format=csv"], ["format=csv: not with wrong=1"]),
        (["study=s", "cell=x"], ["cell=x: is no cell of the study; it has aa11, ab22, cc33"]),
        (["study=s", "cell=a"], ["cell=a: is the beginning of 2 cells' ids; it has aa11, ab22"]),
        (["study=s", "forget=a"], ["forget=a: is the beginning of 2 cells' ids"]),
        (["study=s", "forget=aa11", "cell=aa11"], ["forget=aa11: goes with results_dir and study alone"]),
    ],
    ids=lambda value: " ".join(value) or "none",
)
def test_what_there_is_not_is_said_in_one_line(
    study: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: list[str]
) -> None:
    line = refused(capsys, f"results_dir={study.parent}", *arguments)
    for part in says:
        assert part in line


def test_a_study_of_a_newer_version_is_refused_by_its_file(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(study / "cells" / "ab22.parquet", lambda table: table, "99")
    said = refused(capsys, f"results_dir={study.parent}", "study=s")
    assert f"{study / 'cells' / 'ab22.parquet'}: schema_version=99" in said
