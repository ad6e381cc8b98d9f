"""The whole way, from Parquet to the page: one file that needs nothing, and the files beside it."""

from __future__ import annotations

import csv
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from subprocess import run

import pytest

from orchestrator.report.__main__ import main
from orchestrator.report.options import Options, parse
from orchestrator.report.page import sweeps
from orchestrator.report.read import read_runs
from tests.report.studies import Planted, runs_of, store
from tests.store.test_versions import holding, rewrite

BASE = Planted(runs=3)
STUDY = (
    BASE,
    BASE.but(opt=("fp8",), tpot_s=0.015),
    BASE.but(opt=("awq",), runs=1, changes=(("status", "invalid"), ("reason", "<b>broken</b> & bad"))),
    BASE.but(max_tokens=1024),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a study with a gain, an invalid cell and a second budget."""
    folder = tmp_path_factory.mktemp("report")
    store(folder / "results", STUDY)
    results = f"results_dir={folder / 'results'}"
    assert main([results, "study=planted", "accuracy.margin=0.5", f"out={folder / 'out'}"]) == 0
    return folder / "out"


class Page(HTMLParser):
    """What a page refers to, its headings' levels, its ids, and whether its tables have headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.unscoped = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        self.links += [value for name in ("href", "src", "xlink:href") if (value := known.get(name))]
        self.ids += [value for name, value in attrs if name == "id" and value]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.unscoped += tag == "th" and "scope" not in known


def test_the_page_asks_nothing_of_the_network_and_runs_nothing(report: Path) -> None:
    text = (report / "index.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert not re.findall(r"url\((?!#)|@import", text)
    for link in page.links:
        assert link.startswith(("#", "files/", "data:,")), link
    assert all((report / link).is_file() for link in page.links if link.startswith("files/"))


def test_the_page_is_built_for_those_who_cannot_see_it(report: Path) -> None:
    page = Page((report / "index.html").read_text())
    assert len(page.ids) == len(set(page.ids))
    assert page.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert page.unscoped == 0
    assert {"#" + one for one in page.ids} >= {one for one in page.links if one.startswith("#")}


def test_it_begins_with_the_answer(report: Path) -> None:
    text = (report / "index.html").read_text()
    assert text.index("The answer") < text.index("Optimizations against the baseline")
    assert "Take vllm · fp8: 3" in text  # a third more, with an interval
    assert "more tokens/s than vllm · no optimization" in text


def test_an_invalid_cell_is_named_escaped_and_nowhere_drawn(report: Path) -> None:
    text = (report / "index.html").read_text()
    assert "&lt;b&gt;broken&lt;/b&gt; &amp; bad" in text
    assert "<b>broken" not in text
    for name in ("throughput", "latency", "pareto", "table-measured"):
        assert "awq" not in (report / "files" / f"{name}.csv").read_text()


def test_under_every_view_stands_what_to_do_and_the_page_is_light(report: Path) -> None:
    text = (report / "index.html").read_text()
    for name in ("pareto", "completion", "kv", "running", "budget"):
        section = text.split(f'<section id="figure-{name}">')[1].split("</section>")[0]
        assert "<strong>What to do:</strong>" in section
        assert "font-family=" not in section
        assert section.count("<path") > 0
    assert "What to do:" in text.split('<section id="asu">')[1].split("</section>")[0]
    assert len(text) < 500_000


def test_every_view_is_in_the_documentation(report: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    drawn = {path.stem for path in (report / "files").glob("*.svg")} - {"throughput", "latency"}
    assert len(drawn) > 4
    for name in drawn | {"difficulty", "domains", "by-size", "in-flight", "arrivals-rate", "frontier-cost"}:
        assert f"`{name}`" in text


def test_every_figure_has_its_picture_its_print_and_its_numbers(report: Path) -> None:
    names = {path.stem for path in (report / "files").glob("*.svg")}
    assert names >= {
        "throughput",
        "latency",
        "pareto",
        "completion",
        "kv",
        "running",
        "budget",
        "differences",
    }
    for name in names:
        assert (report / "files" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        with (report / "files" / f"{name}.csv").open() as file:
            assert list(csv.DictReader(file))


def test_every_table_is_there_for_papers_and_programs(report: Path) -> None:
    for path in (report / "files").glob("table-*.tex"):
        text = path.read_text()
        assert text.startswith("\\begin{table}")
        body = text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
        columns = {len(re.findall(r"(?<!\\)&", one)) for one in body}
        assert len(columns) == 1
        assert not re.search(r"(?<!\\)[%#_]", "".join(body))
    with (report / "files" / "table-optimizations.csv").open() as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
    assert float(rows["throughput"]["difference"]) == pytest.approx(1 / 3, abs=0.05)
    assert rows["throughput"]["verdict"] == "different"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study=nothing"], "study=nothing: no cell of such a study"),
        ([], "study= is missing"),
        (["study=planted", "model=gpt"], "model=gpt: no cell has it; there are r1-7b"),
        (["study=planted", "colour=red"], "colour=red: no such key"),
        (["study=planted", "baseline=fp8"], "baseline=fp8: must be KEY=VALUE"),
        (["study=planted", "baseline=opt=gptq"], "baseline=opt=gptq: no cell that counts has it"),
        (["study=planted", "slo.ttft_s=fast"], "slo.ttft_s=fast: must be a number"),
        (["study=planted", "accuracy.margin=2"], "accuracy.margin=2: must be a number above 0 and at most 1"),
        (["study=planted", "out=FILE"], "is a file; name a folder"),
        (["planted"], "planted: must be key=value"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    given = [one.replace("FILE", str(tmp_path / "file")) for one in arguments]
    out = [] if any(one.startswith("out=") for one in given) else [f"out={tmp_path / 'out'}"]
    assert main([f"results_dir={report.parent / 'results'}", *given, *out]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_a_sweep_does_not_wait_for_what_only_a_report_needs() -> None:
    heavy = "{'polars', 'altair', 'duckdb', 'vl_convert', 'jinja2'}"
    code = f"import sys, orchestrator.sweep, orchestrator.store; sys.exit(len({heavy} & set(sys.modules)))"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_says_how_to_repeat_it_and_that_secrets_are_left_out() -> None:
    config = {"runs": 3, "tracker": {"name": "wandb", "project": "p", "entity": None}}
    overrides = ["model=r1-7b", "+engine.env.HF_TOKEN=***", "+engine.env.NCCL_DEBUG=INFO"]
    changes = (("overrides", overrides), ("provenance", {"config": config}))
    commands, secrets = sweeps(
        runs_of([BASE.but(changes=changes)]), Options(results_dir=Path("/data/my results"))
    )
    assert commands == [
        "python -m orchestrator.sweep study_name=planted 'results_dir=/data/my results' tracker=wandb "
        "tracker.project=p model=r1-7b +engine.env.NCCL_DEBUG=INFO runs=3"
    ]
    assert secrets == ["engine.env.HF_TOKEN"]


@pytest.mark.parametrize("out", ["", "planted", "planted/cells", "planted/cells/x", "planted/other", "link"])
def test_a_report_is_not_put_among_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    store(tmp_path, [BASE])
    (tmp_path / "link").symlink_to(tmp_path / "planted")
    before = sorted(tmp_path.rglob("*"))
    assert main([f"results_dir={tmp_path}", "study=planted", f"out={tmp_path / out}"]) == 2
    assert f"out={tmp_path / out}" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_studys_own_report_is_where_a_sweep_writes_it(tmp_path: Path) -> None:
    store(tmp_path, [BASE])
    for out in (tmp_path / "planted" / "report", tmp_path / "elsewhere"):
        assert parse([f"results_dir={tmp_path}", "study=planted", f"out={out}"]).out == out


def test_a_stored_number_that_is_none_is_absent(tmp_path: Path) -> None:
    store(tmp_path, [BASE, BASE.but(opt=("fp8",))])
    for path in (tmp_path / "planted" / "cells").glob("*fp8*.parquet"):
        rewrite(path, holding("output_token_per_s", float("nan")))
        rewrite(path, holding("ttft_s_p50", float("inf")))
    options = Options(results_dir=tmp_path, studies=("planted",))
    rows = [run.row for run in read_runs(options)]
    assert {row["output_token_per_s"] for row in rows if row["opt"] == ["fp8"]} == {None}
    assert {row["ttft_s_p50"] for row in rows if row["opt"] == ["fp8"]} == {None}
    assert all(row["output_token_per_s"] for row in rows if row["opt"] == ["none"])
